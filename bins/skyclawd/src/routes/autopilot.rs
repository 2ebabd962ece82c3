//! `GET /v1/cluster/autopilot`: how the members do, as the leader sees them.

use axum::Json;
use axum::extract::State;
use skyclaw_proto::response::Autopilot;

use crate::app::Shared;
use crate::error::ApiError;

pub(crate) async fn handle(State(app): State<Shared>) -> Result<Json<Autopilot>, ApiError> {
    let found = app.unless_ending(app.node.autopilot()).await;
    let ending = || Err(skyclaw_replication::WriteError::ShuttingDown);
    Ok(Json(found.unwrap_or_else(ending)?))
}
