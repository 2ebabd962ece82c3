//! Lets pages of the configured origin call the public routes. Errors are among the answers that a page
//! may read.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::app::App;

const METHODS: HeaderValue = HeaderValue::from_static("GET,POST,OPTIONS");
const HEADERS: HeaderValue =
    HeaderValue::from_static("content-type, authorization, x-api-key, x-idempotency-key");

/// Says on an answer which pages may read it.
pub(crate) fn open(app: &App, headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, app.cors_origin.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
}

/// The answer to a browser that asks first.
pub(crate) async fn preflight() -> StatusCode {
    StatusCode::NO_CONTENT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::Kit;

    #[tokio::test]
    async fn pages_may_read_every_answer_of_the_public_routes_and_none_of_the_others() {
        let kit = Kit::with(|app| app.cors_origin = HeaderValue::from_static("https://a.example")).await;
        let allowed =
            |answer: crate::kit::Answer| answer.header("access-control-allow-origin").map(str::to_owned);
        for (method, path) in
            [("POST", "/v1/public/jobs"), ("DELETE", "/v1/public/jobs"), ("OPTIONS", "/v1/public/jobs/j")]
        {
            let answer = kit.call(method, path, &[], "").await;
            assert_eq!(allowed(answer).as_deref(), Some("https://a.example"), "{method} {path}");
        }
        assert_eq!(allowed(kit.get("/v1/hosts", &[]).await), None);
        kit.end().await;
    }
}
