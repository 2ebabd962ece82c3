//! `POST /v1/freezes`: nothing that it covers is claimed any more, and what of it runs is stopped. Freezing
//! again what is frozen is the same freeze.

use axum::extract::State;
use skyclaw_core::Operation;
use skyclaw_proto::request::FreezeBody;
use skyclaw_proto::{FreezeId, response, route};

use super::reply::{self, At};
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Body, CORE, ClientKey, Deed};

pub(crate) async fn handle(
    State(app): State<Shared>,
    key: ClientKey,
    deed: Deed,
    body: Body<FreezeBody>,
) -> Result<At<response::FreezeBody>, ApiError> {
    let key = key.bind(&app, CORE, route::FREEZES, &body)?;
    let freeze = body.take().check()?;
    let (actor, by) = deed.named(freeze.by);
    let operation = Operation::Freeze {
        id: FreezeId::from_uuid((app.new_uuid)()),
        scope: freeze.scope,
        reason: freeze.reason,
        by,
    };
    let written = app.node.write_by(actor, key, operation).await?;
    reply::freeze(&written)
}
