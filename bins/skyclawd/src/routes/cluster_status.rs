//! `GET /v1/cluster`: the cluster and its members as this coordinator sees them.

use axum::Json;
use axum::extract::State;
use skyclaw_proto::response::Cluster;

use crate::app::Shared;

pub(crate) async fn handle(State(app): State<Shared>) -> Json<Cluster> {
    Json(app.node.cluster())
}
