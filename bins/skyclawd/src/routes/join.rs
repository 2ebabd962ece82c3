//! `POST /v1/network/join`: a coordinator announces itself. Doing so twice is the same as once, so there
//! is no idempotency record.

use axum::Json;
use axum::extract::State;
use serde_json::json;
use skyclaw_config::HttpUrl;
use skyclaw_proto::ErrorCode;
use skyclaw_proto::limits::MAX_PEERS;
use skyclaw_proto::request::JoinBody;
use skyclaw_proto::response::Peers;

use super::list_peers;
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Body, ClientKey};

/// Why a coordinator is not remembered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// No URL, or none that a coordinator could be reached at.
    #[error("url is required")]
    NoUrl,
    /// There is no room.
    #[error("{MAX_PEERS} peers are known already")]
    Full,
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let sentence = error.to_string();
        match error {
            Error::NoUrl => Self::bad_request(sentence).with_details(json!({
                "field": "url",
                "allowed": "an http or https URL without user, query or fragment",
            })),
            Error::Full => Self::unavailable(ErrorCode::Overloaded, sentence),
        }
    }
}

pub(crate) async fn handle(
    State(app): State<Shared>,
    _key: ClientKey,
    body: Body<JoinBody>,
) -> Result<Json<Peers>, ApiError> {
    let url = url(&body.value)?;
    if !app.node.learn(&url.to_string()) {
        return Err(Error::Full.into());
    }
    Ok(Json(list_peers::body(&app, Some(true))))
}

fn url(body: &JoinBody) -> Result<HttpUrl, Error> {
    body.url.as_deref().and_then(|text| text.parse().ok()).ok_or(Error::NoUrl)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_is_blank_or_none_is_asked_for() {
        for text in ["", "  ", "not a url", "ftp://a", "http://u:p@a"] {
            assert_eq!(url(&JoinBody { url: Some(text.into()) }), Err(Error::NoUrl), "{text}");
        }
        assert_eq!(url(&JoinBody { url: None }), Err(Error::NoUrl));
        assert!(url(&JoinBody { url: Some("http://a:1/".into()) }).is_ok());
    }
}
