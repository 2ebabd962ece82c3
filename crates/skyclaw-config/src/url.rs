//! Base URLs of coordinators and services.

use std::fmt;
use std::str::FromStr;

/// An `http` or `https` URL with a host and without user, query, fragment or trailing slash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HttpUrl(String);

/// Why a text is no base URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be an http or https URL without user, query or fragment")]
pub struct InvalidUrl;

impl HttpUrl {
    /// The URL as text, without a trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HttpUrl {
    type Err = InvalidUrl;
    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let url = plain(text).filter(|url| url.query().is_none()).ok_or(InvalidUrl)?;
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }
}

/// An `http` or `https` URL with a host and without user or fragment.
pub(crate) fn plain(text: &str) -> Option<::url::Url> {
    let url: ::url::Url = text.trim().parse().ok()?;
    let is_plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none();
    is_plain.then_some(url)
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_loses_its_trailing_slash_and_only_plain_http_is_taken() {
        let shown = |text: &str| text.parse().map(|url: HttpUrl| url.to_string()).ok();
        assert_eq!(shown(" http://A.example:8787/ "), Some("http://a.example:8787".into()));
        assert_eq!(shown("https://a.example/base//"), Some("https://a.example/base".into()));
        for bad in ["", "a.example:8787", "ftp://a", "http://u:p@a", "http://a?x=1", "http://a#b", "http://"]
        {
            assert_eq!(shown(bad), None, "{bad}");
        }
    }
}
