//! `POST /v1/hosts/:id/drain`: a host takes no more work. Its services are told to stop, its jobs once the
//! deadline has passed, if there is one.

use axum::extract::State;
use skyclaw_core::Operation;
use skyclaw_proto::request::DrainHostBody;
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
    body: Body<DrainHostBody>,
) -> Result<At<HostBody>, ApiError> {
    let key = key.bind(&app, CORE, route::drain(&id), &body)?;
    let drain = body.take().check()?;
    let (actor, by) = deed.named(drain.by);
    let operation = Operation::DrainHost { id, deadline_ms: drain.deadline_ms, reason: drain.reason, by };
    let written = app.node.write_by(actor, key, operation).await?;
    reply::host(&written)
}
