//! `POST /v1/hosts/:id/services/claim`: a host takes a replica of a service.

use axum::extract::State;
use skyclaw_proto::request::ClaimServiceBody;
use skyclaw_proto::response::ClaimedService;
use skyclaw_proto::{HostId, route};

use super::reply::{self, At};
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Body, CORE, ClientKey, Id};

pub(crate) async fn handle(
    State(app): State<Shared>,
    Id(id): Id<HostId>,
    key: ClientKey,
    body: Body<ClaimServiceBody>,
) -> Result<At<ClaimedService>, ApiError> {
    let key = key.bind(&app, CORE, route::claim_service(&id), &body)?;
    let written = app.node.claim_service(&id, body.value.running, key).await?;
    reply::claimed_service(&written)
}
