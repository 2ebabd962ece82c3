//! `GET /v1/services`: all services, oldest first.

use axum::extract::State;
use axum::response::Response;
use skyclaw_proto::record;
use skyclaw_proto::response::ServicesBody;

use super::reply;
use crate::app::Shared;
use crate::error::ApiError;

pub(crate) async fn handle(State(app): State<Shared>) -> Result<Response, ApiError> {
    let services = app.node.services().await?;
    reply::large(|| {
        Ok(ServicesBody { services: services.iter().map(|s| record::Service::from(&**s)).collect() })
    })
}
