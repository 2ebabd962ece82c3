//! `POST /v1/jobs/:id/cancel`: a job is called off. A queued one ends at once; the host of a running one
//! is told to stop it.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use skyclaw_core::Operation;
use skyclaw_proto::{JobId, route};

use super::reply;
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Body, CORE, ClientKey, Deed, Id};

/// There is nothing to say.
#[derive(Debug, Deserialize)]
pub(crate) struct CancelBody {}

pub(crate) async fn handle(
    State(app): State<Shared>,
    Id(id): Id<JobId>,
    key: ClientKey,
    deed: Deed,
    body: Body<CancelBody>,
) -> Result<Response, ApiError> {
    let key = key.bind(&app, CORE, route::cancel(&id), &body)?;
    let written = app.node.write_by(deed.by(), key, Operation::Cancel { id }).await?;
    reply::job(&written)
}
