//! The parameters behind a path. Those nobody reads are ignored, like unknown fields of a body.

use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use skyclaw_proto::{Invalid, limits};

use crate::app::Shared;
use crate::error::ApiError;

/// All parameters in their order.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        Self(url::form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The values of a parameter that may be repeated; blank ones are passed over.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let values = self.0.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.trim());
        values.filter(|value| !value.is_empty())
    }

    /// The value of a parameter that may be given once.
    pub(crate) fn one<'a>(&'a self, name: &'a str) -> Result<Option<&'a str>, Invalid> {
        let mut all = self.all(name);
        match (all.next(), all.next()) {
            (_, Some(_)) => Err(Invalid::new(name, "may be given once")),
            (value, None) => Ok(value),
        }
    }

    /// The value of a parameter, read; `fault` says what it must be.
    pub(crate) fn read<T: FromStr>(&self, name: &str, fault: &str) -> Result<Option<T>, Invalid> {
        let value = self.one(name)?;
        value.map(|text| text.parse().map_err(|_| Invalid::new(name, fault))).transpose()
    }

    /// `waitMs`: how long the answer may wait, in milliseconds; 0 when absent.
    pub(crate) fn wait_ms(&self) -> Result<u64, Invalid> {
        let fault = format!("must be a whole number from 0 to {}", limits::MAX_WAIT_MS);
        match self.read("waitMs", &fault)?.unwrap_or(0) {
            ms if ms > limits::MAX_WAIT_MS => Err(Invalid::new("waitMs", fault)),
            ms => Ok(ms),
        }
    }
}

impl FromRequestParts<Shared> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, ApiError> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_decoded_trimmed_and_given_once() {
        let query = Query::parse("a=x%20y+z%20&b=&c=1&c=2&%zz=1");
        assert_eq!(query.one("a"), Ok(Some("x y z")));
        assert_eq!(query.one("b"), Ok(None));
        assert_eq!(query.one("c").map_err(|e| e.to_string()), Err("c may be given once".into()));
        assert_eq!(query.all("c").collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn a_wait_is_bounded() {
        assert_eq!(Query::default().wait_ms(), Ok(0));
        assert_eq!(Query::parse("waitMs=30000").wait_ms(), Ok(30_000));
        for bad in ["waitMs=30001", "waitMs=-1", "waitMs=x", "waitMs=1.5"] {
            assert!(Query::parse(bad).wait_ms().is_err(), "{bad}");
        }
    }
}
