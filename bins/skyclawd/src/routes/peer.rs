//! `POST /v1/peer`: what coordinators say to each other, sealed with the cluster's token. No token is
//! needed beside the seal, and none is sent.

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use skyclaw_proto::ErrorCode;

use crate::app::Shared;
use crate::error::ApiError;

/// Largest message: a batch of commands or entries, or a part of a snapshot, and room to spare.
const MAX_BYTES: usize = 16 * 1024 * 1024;

pub(crate) async fn handle(State(app): State<Shared>, body: Body) -> Response {
    let Ok(Ok(message)) = tokio::time::timeout(app.body_timeout, to_bytes(body, MAX_BYTES)).await else {
        return ApiError::bad_request("the message did not arrive whole").into_response();
    };
    match app.node.peer(&message).await {
        Some(answer) => (StatusCode::OK, answer).into_response(),
        None => {
            ApiError::new(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, "unauthorized").into_response()
        }
    }
}
