//! `DELETE /v1/schedules/:id`: a schedule is no more. The jobs it submitted go on.

use axum::extract::State;
use serde::Deserialize;
use skyclaw_core::Operation;
use skyclaw_proto::response::ScheduleBody;
use skyclaw_proto::{ScheduleId, route};

use super::reply::At;
use super::schedules;
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Body, CORE, ClientKey, Deed, Id};

/// Nothing is read of a body.
#[derive(Debug, Deserialize)]
pub(crate) struct Nothing {}

pub(crate) async fn handle(
    State(app): State<Shared>,
    Id(id): Id<ScheduleId>,
    key: ClientKey,
    deed: Deed,
    body: Body<Nothing>,
) -> Result<At<ScheduleBody>, ApiError> {
    // Not the path of another route, so a key is of no use for both.
    let key = key.bind(&app, CORE, route::schedule(&id), &body)?;
    let operation = Operation::DeleteSchedule { schedule: id };
    let written = app.node.write_by(deed.by(), key, operation).await?;
    schedules::changed(&written)
}
