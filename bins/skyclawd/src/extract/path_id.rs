//! The id in a path.

use std::str::FromStr;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use skyclaw_proto::{Invalid, InvalidId};

use crate::app::Shared;
use crate::error::ApiError;

/// The one id in the path of a route.
#[derive(Debug)]
pub(crate) struct Id<T>(pub(crate) T);

impl<T: FromStr<Err = InvalidId>> FromRequestParts<Shared> for Id<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, ApiError> {
        // It fails where what is percent-encoded is no UTF-8; no id is like that.
        let params = RawPathParams::from_request_parts(parts, app).await.ok();
        let raw = params.as_ref().and_then(|params| params.iter().next()).map_or("", |(_, raw)| raw);
        T::from_str(raw).map(Self).map_err(|fault| Invalid::new("id", fault.to_string()).into())
    }
}
