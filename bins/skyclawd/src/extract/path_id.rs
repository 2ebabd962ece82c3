//! The id in a path.

use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use skyclaw_proto::{Invalid, InvalidId};

use crate::app::Shared;
use crate::error::ApiError;
use crate::table::Params;

/// The one id in the path of a route.
#[derive(Debug)]
pub(crate) struct Id<T>(pub(crate) T);

impl<T: FromStr<Err = InvalidId>> FromRequestParts<Shared> for Id<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        // There is none where what is percent-encoded is no UTF-8; no id is like that.
        let params = parts.extensions.get::<Params>();
        let raw = params.and_then(|params| params.0.first()?.as_deref()).unwrap_or_default();
        T::from_str(raw).map(Self).map_err(|fault| Invalid::new("id", fault.to_string()).into())
    }
}
