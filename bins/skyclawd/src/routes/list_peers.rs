//! `GET /v1/network/peers`: who this coordinator knows.

use axum::Json;
use axum::extract::State;
use skyclaw_proto::response::Peers;

use crate::app::{App, Shared};

pub(crate) async fn handle(State(app): State<Shared>) -> Json<Peers> {
    Json(body(&app, None))
}

/// The peers as they are told; `ok` is part of the answer to a join only.
pub(super) fn body(app: &App, ok: Option<bool>) -> Peers {
    Peers {
        ok,
        node_id: app.node.node_id().clone(),
        self_url: app.public_url.clone(),
        peers: app.node.known_urls(),
    }
}
