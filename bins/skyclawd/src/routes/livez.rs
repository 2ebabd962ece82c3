//! `GET /livez`: the process answers. A supervisor restarts it when it does not.

use axum::Json;
use serde_json::{Value, json};

pub(crate) async fn handle() -> Json<Value> {
    Json(json!({ "ok": true }))
}
