//! `GET /openapi.json`: what this coordinator answers, for programs that write or try clients.

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use crate::openapi;

pub(crate) async fn handle() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], openapi::text())
}
