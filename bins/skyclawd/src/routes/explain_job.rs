//! `GET /v1/jobs/:id/explain`: why a job is not running.

use axum::Json;
use axum::extract::State;
use skyclaw_core::Refusal;
use skyclaw_proto::{Explanation, JobId};

use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::Id;

pub(crate) async fn handle(
    State(app): State<Shared>,
    Id(id): Id<JobId>,
) -> Result<Json<Explanation>, ApiError> {
    Ok(Json(app.node.explain(&id).await?.ok_or(Refusal::UnknownJob(id))?))
}
