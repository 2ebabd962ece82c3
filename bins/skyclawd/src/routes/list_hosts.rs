//! `GET /v1/hosts`: all hosts, by id.

use axum::Json;
use axum::extract::State;
use skyclaw_proto::response::HostsBody;

use crate::app::Shared;
use crate::error::ApiError;

pub(crate) async fn handle(State(app): State<Shared>) -> Result<Json<HostsBody>, ApiError> {
    Ok(Json(HostsBody { hosts: app.node.hosts().await? }))
}
