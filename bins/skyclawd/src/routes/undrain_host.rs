//! `POST /v1/hosts/:id/undrain`: a drained host takes work again.

use axum::extract::State;
use serde::Deserialize;
use skyclaw_core::Operation;
use skyclaw_proto::response::HostBody;
use skyclaw_proto::{HostId, route};

use super::reply::{self, At};
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Body, CORE, ClientKey, Deed, Id};

/// There is nothing to say.
#[derive(Debug, Deserialize)]
pub(crate) struct UndrainBody {}

pub(crate) async fn handle(
    State(app): State<Shared>,
    Id(id): Id<HostId>,
    key: ClientKey,
    deed: Deed,
    body: Body<UndrainBody>,
) -> Result<At<HostBody>, ApiError> {
    let key = key.bind(&app, CORE, route::undrain(&id), &body)?;
    let written = app.node.write_by(deed.by(), key, Operation::UndrainHost { id }).await?;
    reply::host(&written)
}
