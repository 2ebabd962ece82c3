//! `GET /v1/jobs/:id/events`: what happened to a job, oldest first.

use axum::Json;
use axum::extract::State;
use skyclaw_core::Refusal;
use skyclaw_proto::JobId;
use skyclaw_proto::response::EventsBody;

use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::Id;

pub(crate) async fn handle(
    State(app): State<Shared>,
    Id(id): Id<JobId>,
) -> Result<Json<EventsBody>, ApiError> {
    let job = app.node.job(&id).await?.ok_or(Refusal::UnknownJob(id))?;
    Ok(Json(EventsBody { events: job.story().map(|event| (&event).into()).collect() }))
}
