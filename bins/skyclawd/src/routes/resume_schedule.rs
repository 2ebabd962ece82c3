//! `POST /v1/schedules/:id/resume`: a paused schedule goes on with the next of its times. Those that passed
//! meanwhile are not made up for; resuming twice is the same as once.

use axum::extract::State;
use skyclaw_proto::request::ActOnScheduleBody;
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
    body: Body<ActOnScheduleBody>,
) -> Result<At<ScheduleBody>, ApiError> {
    let key = key.bind(&app, CORE, route::resume_schedule(&id), &body)?;
    let (actor, by) = deed.named(body.take().check()?);
    let written = app.node.resume_schedule(actor, key, id, by).await?;
    schedules::changed(&written)
}
