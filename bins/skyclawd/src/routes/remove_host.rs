//! `POST /v1/hosts/:id/remove`: a host that is down or drained is forgotten; any, by force. The answer is the
//! host as it was. One that still runs registers anew.

use axum::extract::State;
use skyclaw_core::Operation;
use skyclaw_proto::request::RemoveHostBody;
use skyclaw_proto::response::HostBody;
use skyclaw_proto::{HostId, route};

use super::reply::{self, At};
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Body, CORE, ClientKey, Deed, Id};

pub(crate) async fn handle(
    State(app): State<Shared>,
    Id(id): Id<HostId>,
    key: ClientKey,
    deed: Deed,
    body: Body<RemoveHostBody>,
) -> Result<At<HostBody>, ApiError> {
    let key = key.bind(&app, CORE, route::remove_host(&id), &body)?;
    let force = body.value.force.unwrap_or(false);
    let written = app.node.write_by(deed.by(), key, Operation::RemoveHost { id, force }).await?;
    reply::host(&written)
}
