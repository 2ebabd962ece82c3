//! Who calls a public route: the rule of the key that came with the request.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use skyclaw_proto::ErrorCode;

use crate::app::Shared;
use crate::error::ApiError;
use crate::middleware::index;
use crate::public_keys::PublicKey;

/// The rule of a key that is known. The first thing a public route takes out of a request.
#[derive(Debug)]
pub(crate) struct PublicCaller(pub(crate) Arc<PublicKey>);

/// Why nobody may call.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// There are no keys.
    #[error("public api is disabled")]
    Disabled,
    /// No key came, or one that is not known.
    #[error("invalid api key")]
    InvalidKey,
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let sentence = error.to_string();
        match error {
            Error::Disabled => Self::unavailable(ErrorCode::PublicApiDisabled, sentence),
            Error::InvalidKey => Self::new(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, sentence),
        }
    }
}

impl FromRequestParts<Shared> for PublicCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, ApiError> {
        if app.public_keys.is_empty() {
            return Err(Error::Disabled.into());
        }
        let known = presented(&parts.headers).and_then(|key| app.public_keys.find(key));
        let key = Arc::clone(known.ok_or(Error::InvalidKey)?);
        // As for the core routes, but only once it is known that this is no stranger.
        index::reached(app, &parts.headers).await?;
        Ok(Self(key))
    }
}

/// The key of `authorization: Bearer KEY`, or else of `x-api-key`.
fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked("bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
    });
    bearer.or_else(|| headers.get("x-api-key").map(|value| value.as_bytes().trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_either_header() {
        let with = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(name.parse().expect("a name"), value.parse().expect("a value"))])
        };
        assert_eq!(presented(&with("authorization", "Bearer abc")), Some(&b"abc"[..]));
        assert_eq!(presented(&with("authorization", "bearer  abc ")), Some(&b"abc"[..]));
        assert_eq!(presented(&with("x-api-key", " abc")), Some(&b"abc"[..]));
        for none in ["abc", "Basic abc", "Bearer", ""] {
            assert_eq!(presented(&with("authorization", none)), None, "{none}");
        }
    }
}
