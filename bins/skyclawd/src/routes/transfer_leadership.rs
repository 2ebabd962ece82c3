//! `POST /v1/cluster/transfer`: hands the leadership to another voter. Only the leader can, and once it
//! has it does not lead any more, so that no idempotency record is needed.

use axum::Json;
use axum::extract::State;
use skyclaw_proto::request::TransferBody;
use skyclaw_proto::response::Cluster;

use super::remove_member::refusal;
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Body, ClientKey};

pub(crate) async fn handle(
    State(app): State<Shared>,
    _key: ClientKey,
    body: Body<TransferBody>,
) -> Result<Json<Cluster>, ApiError> {
    let to = body.value.to.as_deref().map(str::trim).filter(|name| !name.is_empty());
    app.node.transfer_leadership(to).await.map_err(|error| refusal(&app, &error))?;
    Ok(Json(app.node.cluster()))
}
