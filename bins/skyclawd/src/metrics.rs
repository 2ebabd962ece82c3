//! What is measured of the HTTP face, and the registry that everything measured is in.
//!
//! Labels have few values whatever clients send: routes are those of the router, methods those that routes
//! have, statuses those of the errors.

mod requests;
mod sheds;

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use skyclaw_proto::ErrorCode;
use skyclaw_proto::record::Job;
use skyclaw_replication::Node;

use self::requests::Requests;
pub(crate) use self::requests::{InFlight, RouteMeter};
pub(crate) use self::sheds::Counted;
pub use self::sheds::{Shed, Sheds};
use crate::log_meters::LogMeters;

/// The route of what no route answers.
pub(crate) const NO_ROUTE: &str = "none";

/// Why a request was answered with 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Why(ErrorCode);

impl EncodeLabelValue for Why {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        match serde_json::to_value(self.0) {
            Ok(serde_json::Value::String(word)) => word.as_str().encode(encoder),
            _ => "unknown".encode(encoder),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhyLabels {
    code: Why,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunLabels {
    success: &'static str,
}

/// How jobs do that come by this coordinator.
#[derive(Debug, Clone)]
struct Jobs {
    wait: Histogram,
    run: Family<RunLabels, Histogram>,
}

impl Jobs {
    /// From 1 ms to a day and a half.
    fn seconds() -> Histogram {
        Histogram::new(exponential_buckets(0.001, 3.0, 17))
    }

    fn register(registry: &mut Registry) -> Self {
        let this = Self { wait: Self::seconds(), run: Family::new_with_constructor(Self::seconds) };
        for success in ["true", "false"] {
            drop(this.run.get_or_create(&RunLabels { success }));
        }
        let registry = registry.sub_registry_with_prefix("job");
        registry.register_with_unit(
            "wait",
            "How long jobs waited that were claimed here for the first time",
            Unit::Seconds,
            this.wait.clone(),
        );
        registry.register_with_unit(
            "run",
            "How long runs took whose end was reported here, by whether they succeeded",
            Unit::Seconds,
            this.run.clone(),
        );
        this
    }
}

/// Everything that is measured.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Requests,
    logs: LogMeters,
    unavailable: Family<WhyLabels, Counter>,
    jobs: Jobs,
}

impl Metrics {
    /// The metrics of a node and of the HTTP face before it.
    #[must_use]
    pub fn new(node: &Node, sheds: &Sheds) -> Self {
        let mut registry = Registry::with_prefix("skyclaw");
        let http = registry.sub_registry_with_prefix("http");
        let requests = Requests::register(http);
        sheds.register(http);
        let unavailable = Family::<WhyLabels, Counter>::default();
        for code in [ErrorCode::Overloaded, ErrorCode::NoLeader, ErrorCode::OutcomeUnknown] {
            drop(unavailable.get_or_create(&WhyLabels { code: Why(code) }));
        }
        http.register(
            "unavailable",
            "Requests answered with 503, by the word of the answer",
            unavailable.clone(),
        );
        let jobs = Jobs::register(&mut registry);
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of the program", version);
        node.register_metrics(&mut registry);
        let logs = LogMeters::default();
        logs.register(&mut registry);
        Self { registry, requests, unavailable, jobs, logs }
    }

    /// What is measured of the output that passes through.
    pub(crate) fn logs(&self) -> &LogMeters {
        &self.logs
    }

    /// A request arrived. It is answered when what is returned is finished.
    pub(crate) fn begin(&self) -> InFlight<'_> {
        self.requests.begin()
    }

    /// A request was answered with 503.
    pub(crate) fn unavailable(&self, code: ErrorCode) {
        self.unavailable.get_or_create(&WhyLabels { code: Why(code) }).inc();
    }

    /// A job was given to a host. That it waited is known of its first claim alone.
    pub(crate) fn claimed(&self, job: &Job) {
        if job.attempts == 1 {
            self.jobs.wait.observe(job.updated_at.since(job.created_at).as_secs_f64());
        }
    }

    /// A host has reported the end of a run.
    pub(crate) fn ran(&self, took: Duration, success: bool) {
        let success = if success { "true" } else { "false" };
        self.jobs.run.get_or_create(&RunLabels { success }).observe(took.as_secs_f64());
    }

    /// What is measured of one route.
    pub(crate) fn route(&self, route: &'static str) -> RouteMeter {
        self.requests.route(route)
    }

    /// All of it in the text format of OpenMetrics.
    ///
    /// # Errors
    /// Never, as writing to a text does not fail.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(32 * 1024);
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::admission::Admission;
    use crate::kit::Kit;

    /// Families in the text that is served.
    fn families(text: &str) -> BTreeSet<String> {
        text.lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .filter_map(|rest| Some(rest.split_once(' ')?.0.to_owned()))
            .collect()
    }

    #[tokio::test]
    async fn the_documentation_names_exactly_what_is_served() {
        let kit = Kit::start().await;
        kit.get("/health", &[]).await;
        let served = families(&kit.app.metrics.render().expect("text"));
        let text = include_str!("../../../docs/metrics.md");
        let row = |line: &str| Some(line.strip_prefix("| `skyclaw_")?.split_once('`')?.0.to_owned());
        let documented: BTreeSet<String> =
            text.lines().filter_map(row).map(|name| format!("skyclaw_{name}")).collect();
        assert_eq!(served, documented, "left: served, right: in docs/metrics.md");
        kit.end().await;
    }

    /// The names under which Prometheus stores what is served.
    fn stored(text: &str) -> BTreeSet<String> {
        let of = |line: &str| {
            let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
            let endings: &[&str] = match kind {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                "info" => &["_info"],
                _ => &[""],
            };
            Some(endings.iter().map(|ending| format!("{name}{ending}")).collect::<Vec<_>>())
        };
        text.lines().filter_map(of).flatten().collect()
    }

    /// All that is called `expr` in a dashboard.
    fn queries(of: &serde_json::Value, found: &mut Vec<String>) {
        match of {
            serde_json::Value::Object(fields) => fields.iter().for_each(|(name, value)| match value {
                serde_json::Value::String(query) if name == "expr" => found.push(query.clone()),
                value => queries(value, found),
            }),
            serde_json::Value::Array(all) => all.iter().for_each(|value| queries(value, found)),
            _ => {}
        }
    }

    #[tokio::test]
    async fn the_dashboard_asks_for_nothing_that_is_not_served() {
        let kit = Kit::start().await;
        kit.get("/health", &[]).await;
        let served = stored(&kit.app.metrics.render().expect("text"));
        let dashboard = include_str!("../../../deploy/grafana/skyclaw.json");
        let dashboard = serde_json::from_str(dashboard).expect("the dashboard is JSON");
        let mut asked = Vec::new();
        queries(&dashboard, &mut asked);
        assert!(asked.len() > 10, "{asked:?}");
        for query in asked {
            let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let names: Vec<_> = words.filter(|word| word.starts_with("skyclaw_")).collect();
            assert!(!names.is_empty(), "{query} asks for nothing of ours");
            for name in names {
                assert!(served.contains(name), "{name} of {query} is not among {served:?}");
            }
        }
        kit.end().await;
    }

    #[tokio::test]
    async fn every_metric_says_what_it_is() {
        let kit = Kit::start().await;
        let text = kit.app.metrics.render().expect("text");
        for family in families(&text) {
            assert!(text.contains(&format!("# HELP {family} ")), "{family}");
        }
        assert!(text.ends_with("# EOF\n"));
        kit.end().await;
    }

    #[tokio::test]
    async fn requests_are_counted_by_the_route_and_not_by_what_clients_make_up() {
        let kit = Kit::start().await;
        for id in ["a", "b", "c"] {
            kit.get(&format!("/v1/hosts/{id}"), &[]).await;
            kit.call("BREW", &format!("/tea/{id}"), &[], "").await;
        }
        let text = kit.app.metrics.render().expect("text");
        let line = |wanted: &str| text.lines().any(|line| line == wanted);
        let hosts = "skyclaw_http_requests_total{route=\"/v1/hosts/{id}\",method=\"GET\",status=\"404\"} 3";
        let none = "skyclaw_http_requests_total{route=\"none\",method=\"other\",status=\"404\"} 3";
        assert!(line(hosts) && line(none), "{text}");
        assert!(line("skyclaw_http_requests_in_flight 0"), "{text}");
        kit.end().await;
    }

    #[tokio::test]
    async fn a_job_is_told_of_from_its_enqueue_to_its_end() {
        let kit = Kit::start().await;
        let has = |wanted: &str| {
            let text = kit.app.metrics.render().expect("text");
            assert!(text.lines().any(|line| line == wanted), "{wanted} is not in {text}");
        };
        kit.post("/v1/hosts/register", &json!({"hostId": "h", "name": "h"})).await;
        let job = json!({"payload": {"kind": "shell", "command": "true"}});
        kit.post("/v1/jobs", &job).await;
        kit.post("/v1/jobs", &job).await;
        has("skyclaw_jobs{status=\"queued\"} 2");
        let claimed = kit.post("/v1/hosts/h/claim", &json!({})).await;
        has("skyclaw_jobs{status=\"queued\"} 1");
        has("skyclaw_jobs{status=\"leased\"} 1");
        has("skyclaw_job_wait_seconds_count 1");
        let id = claimed.json["job"]["id"].as_str().expect("an id");
        let end = json!({"hostId": "h", "success": false, "durationMs": 2500, "exitCode": 1,
                         "stdout": "", "stderr": ""});
        kit.post(&format!("/v1/jobs/{id}/complete"), &end).await;
        has("skyclaw_jobs{status=\"leased\"} 0");
        has("skyclaw_job_run_seconds_sum{success=\"false\"} 2.5");
        kit.end().await;
    }

    #[tokio::test]
    async fn the_times_of_schedules_are_counted_by_what_became_of_them() {
        let kit = Kit::start().await;
        let counts = || {
            let text = kit.app.metrics.render().expect("text");
            let count = |outcome: &str| {
                let begins = format!("skyclaw_schedule_times_total{{outcome=\"{outcome}\"}} ");
                text.lines().find_map(|line| line.strip_prefix(&begins)?.parse::<u64>().ok()).expect(outcome)
            };
            [count("submitted"), count("skipped"), count("missed")]
        };
        assert_eq!(counts(), [0, 0, 0]);
        let job = json!({"payload": {"kind": "shell", "command": "true"}});
        let schedule = json!({"name": "s", "cron": "0 0 1 1 *", "overlap": "queue", "job": job});
        assert_eq!(kit.post("/v1/schedules", &schedule).await.status, 200);
        for _ in 0..2 {
            assert_eq!(kit.post("/v1/schedules/s/trigger", &json!({})).await.status, 200);
        }
        // The second one waits, and is passed by when the schedule is paused.
        assert_eq!(kit.post("/v1/schedules/s/pause", &json!({})).await.status, 200);
        assert_eq!(counts(), [1, 1, 0]);
        kit.end().await;
    }

    #[tokio::test]
    async fn who_waits_is_counted_as_long_as_it_does() {
        let sheds = Sheds::default();
        let kit = Kit::with(|app| {
            app.metrics = Metrics::new(&app.node, &sheds);
            app.admission = Admission::counting(10, 10, sheds.clone());
        })
        .await;
        kit.post("/v1/hosts/register", &json!({"hostId": "h", "name": "h"})).await;
        let waiting = json!({"waitMs": 30_000});
        let mut claim = std::pin::pin!(kit.post("/v1/hosts/h/claim", &waiting));
        // Answers in its turn, after the claim was taken in.
        let meanwhile = async {
            kit.get("/v1/hosts?consistent=true", &[]).await;
            sheds.parked.get()
        };
        let parked = tokio::select! {
            biased;
            early = &mut claim => panic!("it did not wait: {early:?}"),
            parked = meanwhile => parked,
        };
        assert_eq!(parked, 1);
        kit.app.soft.cancel();
        claim.await;
        assert_eq!(sheds.parked.get(), 0);
        kit.end().await;
    }

    #[tokio::test]
    async fn what_is_turned_away_is_counted_by_the_bound_it_met() {
        let sheds = Sheds::default();
        let kit = Kit::with(|app| {
            app.metrics = Metrics::new(&app.node, &sheds);
            app.admission = Admission::counting(0, 0, sheds.clone());
        })
        .await;
        assert_eq!(kit.get("/v1/hosts", &[]).await.status, 503);
        let text = kit.app.metrics.render().expect("text");
        assert!(text.contains("skyclaw_http_sheds_total{bound=\"work\"} 1"), "{text}");
        assert!(text.contains("skyclaw_http_sheds_total{bound=\"parked\"} 0"), "{text}");
        assert!(text.contains("skyclaw_http_unavailable_total{code=\"overloaded\"} 1"), "{text}");
        kit.end().await;
    }
}
