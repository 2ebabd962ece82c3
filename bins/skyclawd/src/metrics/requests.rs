//! What is measured of each request.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Requests {
    answered: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabels, Histogram>,
    in_flight: Gauge,
}

impl Requests {
    pub(super) fn register(http: &mut Registry) -> Self {
        let this = Self {
            answered: Family::default(),
            // From 100 µs to 26 s; what waits for a job takes longer.
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_1, 2.0, 19))),
            in_flight: Gauge::default(),
        };
        http.register("requests", "Requests answered, by route, method and status", this.answered.clone());
        http.register_with_unit(
            "request_duration",
            "How long requests took, by route; what waits for something to happen counts",
            Unit::Seconds,
            this.seconds.clone(),
        );
        http.register("requests_in_flight", "Requests that are not answered yet", this.in_flight.clone());
        this
    }

    /// One arrived. It is answered when what is returned is finished.
    pub(super) fn begin(&self) -> InFlight<'_> {
        self.in_flight.inc();
        InFlight(&self.in_flight)
    }

    /// What is measured of one route.
    pub(super) fn route(&self, route: &'static str) -> RouteMeter {
        RouteMeter {
            route,
            answered: self.answered.clone(),
            durations: self.seconds.clone(),
            usual: OnceLock::new(),
            seconds: OnceLock::new(),
        }
    }
}

/// A request that is not answered yet, or whose client has gone.
#[derive(Debug)]
pub(crate) struct InFlight<'a>(&'a Gauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What is measured of one route. The metrics it mostly moves are looked up once.
#[derive(Debug)]
pub(crate) struct RouteMeter {
    route: &'static str,
    answered: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram>,
    /// The first method and status, and the counter of those.
    usual: OnceLock<(&'static str, u16, Counter)>,
    seconds: OnceLock<Histogram>,
}

impl RouteMeter {
    /// A request was answered.
    pub(crate) fn answered(&self, method: &http::Method, status: u16, took: Duration) {
        let (route, method) = (self.route, known(method));
        let counter = || self.answered.get_or_create(&RequestLabels { route, method, status }).clone();
        let (usual_method, usual_status, usual) = self.usual.get_or_init(|| (method, status, counter()));
        if (*usual_method, *usual_status) == (method, status) {
            usual.inc();
        } else {
            counter().inc();
        }
        let seconds =
            self.seconds.get_or_init(|| self.durations.get_or_create(&RouteLabels { route }).clone());
        seconds.observe(took.as_secs_f64());
    }
}

/// The method, if any route has it: clients can make up others.
fn known(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
