//! The way into the core routes. One layer, as each costs every request an allocation or two.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::Route;
use tower::{Layer, Service};

use super::{auth, index};
use crate::app::{App, Shared};
use crate::error::ApiError;

/// Puts [`Gate`] before a route.
#[derive(Clone)]
pub(crate) struct GateLayer {
    app: Shared,
    admits: bool,
}

impl GateLayer {
    /// For routes that answer as soon as they can: no more at once than may be.
    pub(crate) fn working(app: &Shared) -> Self {
        Self { app: Shared::clone(app), admits: true }
    }

    /// For routes that hold their permits themselves.
    pub(crate) fn parking(app: &Shared) -> Self {
        Self { app: Shared::clone(app), admits: false }
    }
}

impl Layer<Route> for GateLayer {
    type Service = Gate;

    fn layer(&self, route: Route) -> Gate {
        Gate { app: Shared::clone(&self.app), admits: self.admits, route }
    }
}

/// A route that not everybody may enter.
#[derive(Clone)]
pub(crate) struct Gate {
    app: Shared,
    admits: bool,
    route: Route,
}

impl Service<Request> for Gate {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    /// Routes are always ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Self { app, admits, mut route } = self.clone();
        Box::pin(async move {
            let reflects = match enter(&app, request.headers(), request.uri()).await {
                Ok(reflects) => reflects,
                Err(error) => return Ok(error.into_response()),
            };
            let _permit = match admits.then(|| app.admission.admit()).transpose() {
                Ok(permit) => permit,
                Err(error) => return Ok(error.into_response()),
            };
            let mut response = route.call(request).await?;
            index::raise(response.headers_mut(), reflects);
            Ok(response)
        })
    }
}

/// Lets a request in, and says which index its answer reflects at least.
async fn enter(app: &App, headers: &HeaderMap, uri: &Uri) -> Result<u64, ApiError> {
    // Strangers learn nothing and hold nothing.
    auth::check(app, headers)?;
    // Waits for what the client has seen elsewhere, or for all there is.
    index::wait(app, headers, uri).await
}
