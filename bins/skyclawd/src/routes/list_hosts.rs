//! `GET /v1/hosts`: all hosts, by id.

use axum::extract::State;
use axum::response::Response;
use skyclaw_proto::response::HostsBody;

use super::reply;
use crate::app::Shared;
use crate::error::ApiError;

pub(crate) async fn handle(State(app): State<Shared>) -> Result<Response, ApiError> {
    let hosts = app.node.hosts().await?;
    reply::large(|| Ok(HostsBody { hosts }))
}
