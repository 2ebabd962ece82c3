//! `GET /v1/services`: all services, oldest first.

use axum::Json;
use axum::extract::State;
use skyclaw_proto::record;
use skyclaw_proto::response::ServicesBody;

use crate::app::Shared;
use crate::error::ApiError;

pub(crate) async fn handle(State(app): State<Shared>) -> Result<Json<ServicesBody>, ApiError> {
    let services = app.node.services().await?;
    Ok(Json(ServicesBody { services: services.iter().map(|s| record::Service::from(&**s)).collect() }))
}
