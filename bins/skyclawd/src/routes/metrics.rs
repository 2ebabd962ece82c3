//! `GET /metrics`: what is measured, for Prometheus. Not turned away when much is going on: that is when
//! it is wanted.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use crate::app::Shared;
use crate::error::ApiError;

/// What Prometheus asks for.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(crate) async fn handle(State(app): State<Shared>) -> Result<impl IntoResponse, ApiError> {
    let text = app.metrics.render().map_err(|_| ApiError::internal())?;
    Ok(([(CONTENT_TYPE, OPEN_METRICS)], text))
}

#[cfg(test)]
mod tests {
    use crate::kit::Kit;
    use crate::token::Token;
    use skyclaw_proto::route::TOKEN_HEADER;

    #[tokio::test]
    async fn who_shows_the_token_in_either_header_is_told_and_nobody_else() {
        let kit = Kit::with(|app| app.token = Some(Token::new(b"t"))).await;
        let status = async |headers: &[(&str, &str)]| kit.get("/metrics", headers).await.status;
        assert_eq!(status(&[]).await, 401);
        assert_eq!(status(&[(TOKEN_HEADER, "x")]).await, 401);
        assert_eq!(status(&[("authorization", "Bearer x")]).await, 401);
        assert_eq!(status(&[("authorization", "Basic t")]).await, 401);
        assert_eq!(status(&[(TOKEN_HEADER, "t")]).await, 200);
        assert_eq!(status(&[("authorization", "Bearer t")]).await, 200);
        assert_eq!(
            kit.get("/v1/hosts", &[("authorization", "Bearer t")]).await.status,
            401,
            "the others as ever"
        );
        kit.end().await;
    }
}
