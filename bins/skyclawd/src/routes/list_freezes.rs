//! `GET /v1/freezes`: what is frozen, oldest first; with `all=true` also the newest of what was.

use axum::Json;
use axum::extract::State;
use skyclaw_proto::response::FreezesBody;

use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::Query;

pub(crate) async fn handle(State(app): State<Shared>, query: Query) -> Result<Json<FreezesBody>, ApiError> {
    let all = query.read("all", "must be true or false")?.unwrap_or(false);
    let freezes = app.node.freezes().await?;
    let shown = freezes.iter().filter(|freeze| all || freeze.is_in_force());
    Ok(Json(FreezesBody { freezes: shown.map(|freeze| (&**freeze).into()).collect() }))
}
