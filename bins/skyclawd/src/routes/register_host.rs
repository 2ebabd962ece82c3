//! `POST /v1/hosts/register`: a host says who it is. Registering a known id keeps its leases.

use axum::extract::State;
use skyclaw_core::Operation;
use skyclaw_proto::request::RegisterHostBody;
use skyclaw_proto::response::HostBody;
use skyclaw_proto::{HostId, route};

use super::reply::{self, At};
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Body, CORE, ClientKey};

pub(crate) async fn handle(
    State(app): State<Shared>,
    key: ClientKey,
    body: Body<RegisterHostBody>,
) -> Result<At<HostBody>, ApiError> {
    let key = key.bind(&app, CORE, route::REGISTER_HOST, &body)?;
    let host = body.take().check()?;
    let operation = Operation::RegisterHost {
        id: host.host_id.unwrap_or_else(|| HostId::from_uuid((app.new_uuid)())),
        name: host.name,
        capabilities: host.capabilities,
        max_parallel: host.max_parallel,
        enforces: host.enforces.map(Into::into),
    };
    let written = app.node.write(key, operation).await?;
    reply::host(&written)
}
