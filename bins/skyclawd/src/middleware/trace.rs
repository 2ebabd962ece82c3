//! A name for each request: taken from the client or made, put on every log line and on the answer. And
//! how often each route is asked, and how long its answers take.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method};
use axum::response::Response;
use skyclaw_config::otlp;
use skyclaw_proto::limits::MAX_ID_LEN;
use skyclaw_proto::route::{REQUEST_ID_HEADER, TRACE_PARENT_HEADER, TRACE_STATE_HEADER};
use skyclaw_replication::Trail;
use tracing::Span;
use uuid::Uuid;

use super::auth;
use crate::app::App;
use crate::error::Unavailable;
use crate::extract::is_stated;
use crate::metrics::{InFlight, Metrics, RouteMeter};
use crate::table::Endpoint;

const REQUEST_ID: HeaderName = HeaderName::from_static(REQUEST_ID_HEADER);

/// The names that are made: the first is an id like any other, and each one after it counts on. An id of its own
/// for each request would be a lock that all of them share, and random bits.
#[derive(Debug)]
pub(crate) struct Names {
    first: u128,
    made: AtomicU64,
}

impl Names {
    pub(crate) fn new(first: Uuid) -> Self {
        Self { first: first.as_u128(), made: AtomicU64::new(0) }
    }

    fn next(&self) -> HeaderValue {
        let made = self.made.fetch_add(1, Ordering::Relaxed);
        let (name, mut text) = (Uuid::from_u128(self.first.wrapping_add(made.into())), Uuid::encode_buffer());
        HeaderValue::from_str(name.hyphenated().encode_lower(&mut text))
            .unwrap_or_else(|_| HeaderValue::from_static("-"))
    }
}

/// A request that is not answered yet.
pub(crate) struct Traced<'a> {
    id: HeaderValue,
    span: Span,
    trail: Option<Trail>,
    meter: &'a RouteMeter,
    metrics: &'a Metrics,
    method: Method,
    in_flight: InFlight<'a>,
    began: Instant,
}

/// Names a request that came to a route.
pub(crate) fn begin<'a>(
    app: &'a App,
    names: &Names,
    endpoint: &'a Endpoint,
    request: &mut Request,
) -> Traced<'a> {
    let given = request.headers().get(REQUEST_ID).filter(|id| is_sane(id.as_bytes()));
    let is_named = given.is_some();
    let id = given.cloned().unwrap_or_else(|| names.next());
    let span = tracing::info_span!(
        "request",
        id = id.to_str().unwrap_or_default(),
        method = %request.method(),
        path = request.uri().path(),
    );
    let is_deed = endpoint.is_told && request.method() != Method::GET;
    let trail = trail(app, is_deed, request, &id, &span);
    if !is_named && (is_deed || is_stated(request.headers())) {
        // The route tells of it by this name.
        request.headers_mut().insert(REQUEST_ID, id.clone());
    }
    Traced {
        id,
        span,
        trail,
        meter: &endpoint.meter,
        metrics: &app.metrics,
        method: request.method().clone(),
        in_flight: app.metrics.begin(),
        began: Instant::now(),
    }
}

/// What of the request goes along to the leader: where somebody looks at requests that closely, and of what is done
/// by hand. Nothing of the rest is looked at.
fn trail(app: &App, is_deed: bool, request: &Request, id: &HeaderValue, span: &Span) -> Option<Trail> {
    let is_looked_at = app.node.follows_traces() || tracing::enabled!(tracing::Level::DEBUG);
    if !is_looked_at && !is_deed {
        return None;
    }
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    // Strangers do not say what is to be traced.
    let told = || Some((text(TRACE_PARENT_HEADER)?, text(TRACE_STATE_HEADER)));
    let told = told().filter(|_| auth::check(app, request.headers()).is_ok());
    if let Some((parent, state)) = told {
        otlp::follow(span, parent, state);
    }
    // Where nothing is exported, what the client says is passed on as it is.
    let as_told = || told.map(|(parent, state)| (parent.to_owned(), state.map(str::to_owned)));
    Some(Trail::new(id.to_str().ok()?, otlp::place(span).or_else(as_told)))
}

impl Traced<'_> {
    /// What the request's log lines are in.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// What goes along to the leader, if something does.
    pub(crate) fn trail(&mut self) -> Option<Trail> {
        self.trail.take()
    }

    /// Counts the request as answered, and puts its name on the answer.
    pub(crate) fn end(self, response: &mut Response) {
        let (status, took) = (response.status().as_u16(), self.began.elapsed());
        drop(self.in_flight);
        self.meter.answered(&self.method, status, took);
        if let Some(Unavailable(code)) = response.extensions().get() {
            self.metrics.unavailable(*code);
        }
        self.span.in_scope(|| tracing::debug!(status, took_us = took.as_micros(), "answered"));
        response.headers_mut().insert(REQUEST_ID, self.id);
    }
}

/// What cannot break a log line and is not too long to be on each.
pub(crate) fn is_sane(id: &[u8]) -> bool {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
    !id.is_empty() && id.len() <= MAX_ID_LEN && id.iter().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::Kit;

    #[tokio::test]
    async fn every_answer_carries_the_name_the_client_gave_or_one_that_was_made() {
        let kit = Kit::start().await;
        for path in ["/health", "/v1/hosts", "/nowhere"] {
            let named = kit.get(path, &[(REQUEST_ID_HEADER, "abc-1")]).await;
            assert_eq!(named.header(REQUEST_ID_HEADER), Some("abc-1"), "{path}");
            let made = kit.get(path, &[(REQUEST_ID_HEADER, "not sane")]).await;
            assert!(made.header(REQUEST_ID_HEADER).is_some_and(|id| id.len() == 36), "{path}");
        }
        kit.end().await;
    }

    #[test]
    fn names_that_are_made_are_all_different_and_sort_in_their_order() {
        // The last digits are all but used up.
        let names = Names::new(Uuid::from_u128(0x0190_C3F0_0000_7000_8000_0000_FFFF_FFF0));
        let made: Vec<HeaderValue> = (0..100).map(|_| names.next()).collect();
        assert!(made.is_sorted_by(|a, b| a.as_bytes() < b.as_bytes()), "{made:?}");
        assert_eq!(made[0], "0190c3f0-0000-7000-8000-0000fffffff0");
    }

    #[test]
    fn a_name_that_could_break_a_log_line_is_not_taken() {
        assert!(is_sane(b"0191-ab:c.d_e"));
        for bad in ["", "a b", "a\u{1b}[2J", "a\"b", "{}", &"x".repeat(MAX_ID_LEN + 1)] {
            assert!(!is_sane(bad.as_bytes()), "{bad:?}");
        }
    }
}
