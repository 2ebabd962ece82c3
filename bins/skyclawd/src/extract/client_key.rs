//! The idempotency key a client sends with a request.

use axum::extract::FromRequestParts;
use axum::http::HeaderName;
use axum::http::request::Parts;
use skyclaw_core::IdempotencyKey;
use skyclaw_proto::Invalid;
use skyclaw_proto::limits::MAX_IDEMPOTENCY_KEY_LEN;
use skyclaw_proto::route::IDEMPOTENCY_HEADER;

use super::Body;
use crate::app::{App, Shared};
use crate::error::ApiError;

const IDEMPOTENCY: HeaderName = HeaderName::from_static(IDEMPOTENCY_HEADER);

/// Whose keys those on core routes are.
pub(crate) const CORE: &str = "core";

/// A client's key, if it sent one that is not blank.
#[derive(Debug)]
pub(crate) struct ClientKey(Option<String>);

impl ClientKey {
    /// What the state machine remembers the answer under. `route` is the path with its ids.
    ///
    /// # Errors
    /// 400 when the body cannot be compared.
    pub(crate) fn bind<T, const LIMIT: usize>(
        self,
        app: &App,
        caller: &str,
        route: impl Into<String>,
        body: &Body<T, LIMIT>,
    ) -> Result<Option<IdempotencyKey>, ApiError> {
        let Some(key) = self.0 else { return Ok(None) };
        Ok(Some(IdempotencyKey {
            caller: caller.to_owned(),
            route: route.into(),
            key,
            fingerprint: body.fingerprint()?,
            expires_at: (app.clock)().plus(app.idempotency_ttl),
        }))
    }
}

impl FromRequestParts<Shared> for ClientKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        let mut all = parts.headers.get_all(IDEMPOTENCY).iter();
        let Some(raw) = all.next() else { return Ok(Self(None)) };
        let read = if all.next().is_some() {
            // Whichever was taken, a client that means the other would do its work twice.
            Err("must be given once".to_owned())
        } else {
            read(raw.as_bytes())
        };
        read.map(Self).map_err(|fault| Invalid::new(IDEMPOTENCY_HEADER, fault).into())
    }
}

fn read(raw: &[u8]) -> Result<Option<String>, String> {
    let raw = raw.trim_ascii();
    if raw.len() > MAX_IDEMPOTENCY_KEY_LEN {
        return Err(format!("must be at most {MAX_IDEMPOTENCY_KEY_LEN} bytes long"));
    }
    if !raw.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err("must be of printable ASCII characters".to_owned());
    }
    Ok(Some(String::from_utf8_lossy(raw).into_owned()).filter(|key| !key.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_trimmed_and_a_blank_one_is_none() {
        assert_eq!(read(b"  a key "), Ok(Some("a key".to_owned())));
        assert_eq!(read(b"   "), Ok(None));
        assert!(read(&[b'k'; MAX_IDEMPOTENCY_KEY_LEN]).is_ok_and(|key| key.is_some()));
    }

    #[test]
    fn a_key_that_is_too_long_or_not_plain_text_is_refused() {
        assert!(read(&[b'k'; MAX_IDEMPOTENCY_KEY_LEN + 1]).is_err());
        assert!(read("schlüssel".as_bytes()).is_err());
        assert!(read(b"a\tb").is_err());
    }
}
