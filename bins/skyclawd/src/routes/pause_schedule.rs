//! `POST /v1/schedules/:id/pause`: a schedule submits nothing for the time being. Pausing twice is the same as
//! once.

use axum::extract::State;
use skyclaw_core::Operation;
use skyclaw_proto::request::{PauseSchedule, PauseScheduleBody};
use skyclaw_proto::response::ScheduleBody;
use skyclaw_proto::{ScheduleId, route};

use super::reply::At;
use super::schedules;
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Body, CORE, ClientKey, Deed, Id};

pub(crate) async fn handle(
    State(app): State<Shared>,
    Id(id): Id<ScheduleId>,
    key: ClientKey,
    deed: Deed,
    body: Body<PauseScheduleBody>,
) -> Result<At<ScheduleBody>, ApiError> {
    let key = key.bind(&app, CORE, route::pause_schedule(&id), &body)?;
    let PauseSchedule { reason, by } = body.take().check()?;
    let (actor, by) = deed.named(by);
    let written =
        app.node.write_by(actor, key, Operation::PauseSchedule { schedule: id, reason, by }).await?;
    schedules::changed(&written)
}
