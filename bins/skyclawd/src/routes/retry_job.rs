//! `POST /v1/jobs/:id/retry`: a job that ended without success is queued again.

use axum::extract::State;
use axum::response::Response;
use skyclaw_core::Operation;
use skyclaw_proto::request::RetryJobBody;
use skyclaw_proto::{JobId, route};

use super::reply;
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Body, CORE, ClientKey, Deed, Id};

pub(crate) async fn handle(
    State(app): State<Shared>,
    Id(id): Id<JobId>,
    key: ClientKey,
    deed: Deed,
    body: Body<RetryJobBody>,
) -> Result<Response, ApiError> {
    let key = key.bind(&app, CORE, route::retry(&id), &body)?;
    let said = body.take().check()?;
    let (actor, by) = deed.named(said.by);
    let operation = Operation::RetryJob { id, reason: said.reason, by };
    let written = app.node.write_by(actor, key, operation).await?;
    reply::job(&written)
}
