//! The place of a span in a trace that goes through several programs, as the W3C's Trace Context has it.

use std::collections::HashMap;

use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";

/// What other programs are told, so that what they do follows this span: the values of `traceparent` and, if there is
/// one, `tracestate`. `None` where no spans are exported.
#[must_use]
pub fn place(span: &Span) -> Option<(String, Option<String>)> {
    let mut said = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut said);
    let parent = said.remove(PARENT)?;
    Some((parent, said.remove(STATE).filter(|state| !state.is_empty())))
}

/// The `traceparent` of the span that the caller is in.
#[must_use]
pub fn here() -> Option<String> {
    place(&Span::current()).map(|(parent, _)| parent)
}

/// Has a span follow what another program has told. To be called before the span is entered; what is not as it must be
/// is passed by, as is all of it where no spans are exported.
pub fn follow(span: &Span, parent: &str, state: Option<&str>) {
    let mut said = HashMap::from([(PARENT.to_owned(), parent.to_owned())]);
    said.extend(state.map(|state| (STATE.to_owned(), state.to_owned())));
    let context = TraceContextPropagator::new().extract_with_context(&opentelemetry::Context::new(), &said);
    // An error says that nothing is exported.
    let _ = span.set_parent(context);
}
