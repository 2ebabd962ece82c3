//! `GET /v1/services/:id`: one service.

use axum::Json;
use axum::extract::State;
use skyclaw_proto::response::ServiceBody;
use skyclaw_proto::{ServiceId, record};

use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::Id;

pub(crate) async fn handle(
    State(app): State<Shared>,
    Id(id): Id<ServiceId>,
) -> Result<Json<ServiceBody>, ApiError> {
    let service = app.node.service(&id).await?.ok_or_else(|| ApiError::not_found("service not found"))?;
    Ok(Json(ServiceBody { service: record::Service::from(&*service) }))
}
