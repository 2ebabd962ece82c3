//! `POST /v1/services`: a service is deployed, or deployed anew under the same id.

use axum::extract::State;
use skyclaw_core::Operation;
use skyclaw_proto::request::DeployServiceBody;
use skyclaw_proto::response::ServiceBody;
use skyclaw_proto::{ServiceId, route};

use super::reply::{self, At};
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Body, CORE, ClientKey, Deed};

pub(crate) async fn handle(
    State(app): State<Shared>,
    key: ClientKey,
    deed: Deed,
    body: Body<DeployServiceBody>,
) -> Result<At<ServiceBody>, ApiError> {
    let key = key.bind(&app, CORE, route::SERVICES, &body)?;
    let service = body.take().check()?;
    let id = service.service_id.clone().unwrap_or_else(|| ServiceId::from_uuid((app.new_uuid)()));
    let operation = Operation::DeployService { id, service: Box::new(service) };
    let written = app.node.write_by(deed.by(), key, operation).await?;
    reply::service(&written)
}
