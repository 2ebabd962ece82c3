//! What every request goes through, whatever it asks for. One layer for all of it, and one that knows what it
//! is put around: each layer that could be put around anything costs every request several allocations.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::response::Response;
use axum::routing::Route;
use tower::{Layer, Service};
use tracing::Instrument as _;

use super::{index, panics, trace, unread};
use crate::app::Shared;

/// Puts [`Around`] around a route.
#[derive(Clone)]
pub(crate) struct AroundLayer(pub(crate) Shared);

impl Layer<Route> for AroundLayer {
    type Service = Around;

    fn layer(&self, route: Route) -> Around {
        Around { app: Shared::clone(&self.0), route }
    }
}

/// A route, and what every request goes through before and after it.
#[derive(Clone)]
pub(crate) struct Around {
    app: Shared,
    route: Route,
}

impl Service<Request> for Around {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    /// Routes are always ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let app = Shared::clone(&self.app);
        // Names the request, on every log line and on the answer; counts and times it.
        let traced = trace::begin(&app, &request);
        // Tells the applied index, on every answer: what was applied before the request was looked at, or what
        // the answer says of itself. Never what was applied meanwhile, which the answer need not reflect.
        let before = app.node.applied();
        // Tells a client whose body nobody read that its connection ends.
        let (request, body) = unread::watch(request);
        // Nothing of the route runs before its future is polled: a panic ends nothing but its request.
        let answer = panics::caught(self.route.call(request));
        let span = traced.span().clone();
        Box::pin(async move {
            let mut response = answer.instrument(span).await?;
            index::raise(response.headers_mut(), before);
            body.tell(response.headers_mut());
            traced.end(&app, &mut response);
            Ok(response)
        })
    }
}
