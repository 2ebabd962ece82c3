//! What every request goes through, whatever it asks for.

use axum::body::{Bytes, HttpBody};
use axum::http::Request;
use axum::response::{IntoResponse as _, Response};
use tracing::Instrument as _;

use super::entry::Entry;
use super::{cors, index, panics, trace, unread};
use crate::app::Shared;
use crate::table::{Endpoint, Table};

/// Answers a request.
pub(crate) async fn answer<B>(
    app: &Shared,
    names: &trace::Names,
    table: &Table,
    request: Request<B>,
) -> Response
where
    B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin + 'static,
{
    // Tells a client whose body nobody read that its connection ends.
    let (mut request, body) = unread::watch(request);
    let endpoint = table.find(&mut request);
    // Names the request, on every log line and on the answer; counts and times it.
    let mut traced = trace::begin(app, names, endpoint, &mut request);
    // Tells the applied index, on every answer: what was applied before the request was looked at, or what
    // the answer says of itself. Never what was applied meanwhile, which the answer need not reflect.
    let before = app.node.applied();
    // A panic ends nothing but its request.
    let entered = panics::caught(enter(app, endpoint, request)).instrument(traced.span().clone());
    let (mut response, reflects) = match traced.trail() {
        None => entered.await,
        // On the heap, as hardly any request has use for the room it takes.
        Some(trail) => Box::pin(trail.follow(entered)).await,
    };
    let headers = response.headers_mut();
    index::raise(headers, reflects.map_or(before, |reflects| reflects.max(before)));
    body.tell(headers);
    traced.end(&mut response);
    response
}

/// Has the route answer if the request may enter. Says which index the answer reflects at least.
async fn enter(
    app: &Shared,
    endpoint: &Endpoint,
    request: axum::extract::Request,
) -> (Response, Option<u64>) {
    let entered = endpoint.entry.enter(app, request.headers(), request.uri()).await;
    let (mut response, reflects) = match entered {
        Ok(entered) => (endpoint.answer(app, request).await, entered.reflects),
        Err(error) => (error.into_response(), None),
    };
    if endpoint.entry == Entry::Public {
        // Pages may read errors too.
        cors::open(app, response.headers_mut());
    }
    (response, reflects)
}
