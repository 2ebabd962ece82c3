//! `POST /v1/freezes/:id/thaw`: a freeze ends. Thawing twice is the same as once.

use axum::extract::State;
use skyclaw_core::Operation;
use skyclaw_proto::request::ThawBody;
use skyclaw_proto::response::FreezeBody;
use skyclaw_proto::{FreezeId, route};

use super::reply::{self, At};
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Body, CORE, ClientKey, Deed, Id};

pub(crate) async fn handle(
    State(app): State<Shared>,
    Id(id): Id<FreezeId>,
    key: ClientKey,
    deed: Deed,
    body: Body<ThawBody>,
) -> Result<At<FreezeBody>, ApiError> {
    let key = key.bind(&app, CORE, route::thaw(&id), &body)?;
    let (actor, by) = deed.named(body.take().check()?);
    let written = app.node.write_by(actor, key, Operation::Thaw { id, by }).await?;
    reply::freeze(&written)
}
