//! Lets in as many requests as may be worked on at once. Not for the routes that park: those deal with
//! their permits themselves.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use crate::app::Shared;
use crate::error::ApiError;

pub(crate) async fn layer(
    State(app): State<Shared>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let _permit = app.admission.admit()?;
    Ok(next.run(request).await)
}
