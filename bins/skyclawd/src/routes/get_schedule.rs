//! `GET /v1/schedules/:id`: one schedule, by its id or name.

use axum::Json;
use axum::extract::State;
use skyclaw_proto::ScheduleId;
use skyclaw_proto::response::ScheduleBody;

use super::schedules;
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::Id;

pub(crate) async fn handle(
    State(app): State<Shared>,
    Id(id): Id<ScheduleId>,
) -> Result<Json<ScheduleBody>, ApiError> {
    let schedule = app.node.schedule(&id).await?;
    let schedule = schedule.ok_or_else(|| ApiError::not_found("schedule not found"))?;
    Ok(Json(ScheduleBody { schedule: schedules::record(&schedule)? }))
}
