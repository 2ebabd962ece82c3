//! `GET /v1/restores`: what the cluster went back to.

use axum::Json;
use axum::extract::State;
use skyclaw_proto::response::RestoresBody;

use crate::app::Shared;
use crate::error::ApiError;

pub(crate) async fn handle(State(app): State<Shared>) -> Result<Json<RestoresBody>, ApiError> {
    let restores = app.node.restores().await?;
    Ok(Json(RestoresBody { restores: restores.iter().map(|restore| (&**restore).into()).collect() }))
}
