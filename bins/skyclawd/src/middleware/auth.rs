//! The shared token of the core routes, checked before anything else of the request is looked at.

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use skyclaw_proto::ErrorCode;
use skyclaw_proto::route::TOKEN_HEADER;

use crate::app::App;
use crate::error::ApiError;
use crate::token::Token;

const TOKEN: HeaderName = HeaderName::from_static(TOKEN_HEADER);

/// Checks that a request carries the token, where there is one.
///
/// # Errors
/// 401 when the token is missing or wrong.
pub(crate) fn check(app: &App, headers: &HeaderMap) -> Result<(), ApiError> {
    if app.token.as_ref().is_some_and(|token| !presents(headers, token)) {
        return Err(unauthorized());
    }
    Ok(())
}

/// The same for `/metrics`: a scraper can send the token as a bearer token as well.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_scrape(app: &App, headers: &HeaderMap) -> Result<(), ApiError> {
    if app.token.as_ref().is_some_and(|token| !presents(headers, token) && !bears(headers, token)) {
        return Err(unauthorized());
    }
    Ok(())
}

fn unauthorized() -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, "unauthorized")
}

fn bears(headers: &HeaderMap, token: &Token) -> bool {
    let given = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    given.is_some_and(|given| token.is(given))
}

fn presents(headers: &HeaderMap, token: &Token) -> bool {
    headers.get(TOKEN).is_some_and(|given| token.is(given.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_opens() {
        let token = Token::new(b"token");
        let with = |value: &'static str| {
            HeaderMap::from_iter([(TOKEN_HEADER.parse().expect("a name"), value.parse().expect("a value"))])
        };
        assert!(presents(&with("token"), &token));
        for wrong in ["", "toke", "tokenn", "Token"] {
            assert!(!presents(&with(wrong), &token), "{wrong}");
        }
        assert!(!presents(&HeaderMap::new(), &token));
    }
}
