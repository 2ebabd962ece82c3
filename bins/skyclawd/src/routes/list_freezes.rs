//! `GET /v1/freezes`: what is frozen, oldest first; with `all=true` also the newest of what was.

use axum::extract::State;
use axum::response::Response;
use skyclaw_proto::response::FreezesBody;

use super::reply;
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::Query;

pub(crate) async fn handle(State(app): State<Shared>, query: Query) -> Result<Response, ApiError> {
    let all = query.read("all", "must be true or false")?.unwrap_or(false);
    let freezes = app.node.freezes().await?;
    let shown = freezes.iter().filter(|freeze| all || freeze.is_in_force());
    reply::large(|| Ok(FreezesBody { freezes: shown.map(|freeze| (&**freeze).into()).collect() }))
}
