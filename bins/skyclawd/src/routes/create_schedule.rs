//! `POST /v1/schedules`: jobs are submitted at certain times. No two schedules have the same name.

use axum::extract::State;
use skyclaw_proto::request::CreateScheduleBody;
use skyclaw_proto::response::ScheduleBody;
use skyclaw_proto::{ScheduleId, route};

use super::reply::At;
use super::schedules;
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Body, CORE, ClientKey, Deed};

pub(crate) async fn handle(
    State(app): State<Shared>,
    key: ClientKey,
    deed: Deed,
    body: Body<CreateScheduleBody>,
) -> Result<At<ScheduleBody>, ApiError> {
    let key = key.bind(&app, CORE, route::SCHEDULES, &body)?;
    let mut schedule = body.take().check()?;
    let (actor, by) = deed.named(schedule.by.take());
    schedule.by = by;
    let id = ScheduleId::from_uuid((app.new_uuid)());
    let written = app.node.create_schedule(actor, key, id, schedule).await?;
    schedules::changed(&written)
}
