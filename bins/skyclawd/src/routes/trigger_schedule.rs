//! `POST /v1/schedules/:id/trigger`: a schedule submits its job now, once, also while it is paused. With its last
//! job not ended it does what its overlap policy says; where that is to skip, the answer is 409.

use axum::extract::State;
use skyclaw_proto::request::ActOnScheduleBody;
use skyclaw_proto::response::TriggeredBody;
use skyclaw_proto::{JobId, ScheduleId, route};

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
) -> Result<At<TriggeredBody>, ApiError> {
    let key = key.bind(&app, CORE, route::trigger_schedule(&id), &body)?;
    let (actor, by) = deed.named(body.take().check()?);
    let job = JobId::from_uuid((app.new_uuid)());
    let written = app.node.trigger_schedule(actor, key, id, job, by).await?;
    schedules::triggered(&written)
}
