//! `GET /health`: which node this is. (It always answers; whether it can work is what `/readyz` tells.)

use axum::Json;
use axum::extract::State;
use skyclaw_proto::response::Health;

use crate::app::Shared;

pub(crate) async fn handle(State(app): State<Shared>) -> Json<Health> {
    Json(Health { ok: true, node_id: app.node.node_id().clone() })
}
