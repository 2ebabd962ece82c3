//! `GET /readyz`: whether writes are taken, and if not, why. A load balancer passes over who is not
//! ready.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use skyclaw_proto::ErrorCode;

use crate::app::Shared;
use crate::error::ApiError;

pub(crate) async fn handle(State(app): State<Shared>) -> Result<Json<Value>, ApiError> {
    if app.soft.is_cancelled() {
        return Err(ApiError::unavailable(ErrorCode::ShuttingDown, "the coordinator is going down"));
    }
    let health = app.node.health();
    if health.ready {
        return Ok(Json(json!({ "ok": true })));
    }
    let reason = health.reason.unwrap_or_else(|| "it does not say why".to_owned());
    Err(ApiError::unavailable(ErrorCode::NotReady, format!("not ready: {reason}")))
}

#[cfg(test)]
mod tests {
    use crate::kit::Kit;
    use serde_json::json;

    #[tokio::test]
    async fn who_is_ending_is_live_and_not_ready() {
        let kit = Kit::start().await;
        assert_eq!(kit.get("/readyz", &[]).await.json, json!({"ok": true}));
        kit.app.soft.cancel();
        let answer = kit.get("/readyz", &[]).await;
        assert_eq!((answer.status, &answer.json["code"]), (503, &json!("shutting_down")));
        assert_eq!(kit.get("/livez", &[]).await.status, 200);
        kit.end().await;
    }
}
