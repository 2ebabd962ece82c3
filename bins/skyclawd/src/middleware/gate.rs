//! The way into the core routes. One layer, as each costs every request an allocation or two.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri};
use axum::middleware::Next;
use axum::response::Response;

use super::{auth, index};
use crate::app::{App, Shared};
use crate::error::ApiError;

/// For routes that answer as soon as they can: no more at once than may be.
pub(crate) async fn working(
    State(app): State<Shared>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let reflects = enter(&app, request.headers(), request.uri()).await?;
    let _permit = app.admission.admit()?;
    Ok(leave(next.run(request).await, reflects))
}

/// For routes that hold their permits themselves.
pub(crate) async fn parking(
    State(app): State<Shared>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let reflects = enter(&app, request.headers(), request.uri()).await?;
    Ok(leave(next.run(request).await, reflects))
}

/// Lets a request in, and says which index its answer reflects at least.
async fn enter(app: &App, headers: &HeaderMap, uri: &Uri) -> Result<u64, ApiError> {
    // Strangers learn nothing and hold nothing.
    auth::check(app, headers)?;
    // Waits for what the client has seen elsewhere, or for all there is.
    index::wait(app, headers, uri).await
}

fn leave(mut response: Response, reflects: u64) -> Response {
    index::raise(response.headers_mut(), reflects);
    response
}
