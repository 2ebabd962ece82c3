//! How bytes get from one coordinator to another.

mod plain;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;

use self::plain::{NoAnswer, Plain};

/// Where sealed requests are posted, below a coordinator's base URL.
pub const PEER_PATH: &str = "/v1/peer";

/// Why bytes did not come back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The other side was not reached: it has done nothing.
    #[error("{0} cannot be reached")]
    Unreachable(String),
    /// The request may have arrived, the answer did not.
    #[error("{0} did not answer")]
    Lost(String),
    /// The other side does not take what we sealed: it has another token.
    #[error("{0} does not accept this node's token")]
    Unauthorized(String),
}

/// The answer of the other side, some time.
pub type Answered<'a> = Pin<Box<dyn Future<Output = Result<Bytes, WireError>> + Send + 'a>>;

/// A way to other coordinators.
pub trait Wire: fmt::Debug + Send + Sync + 'static {
    /// Posts bytes to the coordinator at a base URL and waits for its answer.
    fn post(&self, url: &str, body: Bytes, timeout: Duration) -> Answered<'_>;
}

/// HTTP/2, connections kept open and shared: without TLS to `http` URLs, with it to `https` ones.
#[derive(Debug, Clone)]
pub struct HttpWire {
    plain: Arc<Plain>,
    /// Made when it is first needed: it takes the certificates that the machine trusts, which fails where there are
    /// none.
    tls: Arc<OnceLock<Result<reqwest::Client, String>>>,
}

/// How long a connection may take to come about. Short: who cannot be reached is tried again soon.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1000);
/// Longest answer that is read; snapshots travel in smaller pieces.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

impl HttpWire {
    /// A way with no connections yet, to these coordinators and others.
    ///
    /// # Errors
    /// For an `https` URL, when the HTTP client cannot be set up, as where this machine has no certificates that it trusts.
    pub fn new<'a>(urls: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let wire = Self { plain: Arc::default(), tls: Arc::default() };
        if let Some(url) = urls.into_iter().find(|url| is_https(url)) {
            wire.tls().map_err(|why| format!("{url} cannot be reached: {why}"))?;
        }
        Ok(wire)
    }

    fn tls(&self) -> Result<&reqwest::Client, String> {
        let made = self.tls.get_or_init(|| {
            // An error says that there is one.
            let _ = rustls::crypto::ring::default_provider().install_default();
            builder().build().map_err(|error| {
                let why = format!(
                    "TLS cannot be set up, perhaps as this machine has no CA certificates (on Debian they are in the \
                     package ca-certificates): {}",
                    causes(&error)
                );
                tracing::error!("{why}");
                why
            })
        });
        made.as_ref().map_err(Clone::clone)
    }

    async fn post_secured(
        &self,
        url: &str,
        body: Bytes,
        timeout: Duration,
    ) -> Result<(http::StatusCode, Bytes), NoAnswer> {
        let client = self.tls().map_err(|_| NoAnswer::Unreachable)?;
        let request = client.post(format!("{url}{PEER_PATH}")).timeout(timeout).body(body).send();
        let mut response = request.await.map_err(|error| match error.is_connect() || error.is_builder() {
            true => NoAnswer::Unreachable,
            false => NoAnswer::Lost,
        })?;
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|_| NoAnswer::Lost)? {
            if answer.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(NoAnswer::Lost);
            }
            answer.extend_from_slice(&chunk);
        }
        Ok((response.status(), answer.into()))
    }
}

fn is_https(url: &str) -> bool {
    url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"))
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .http2_prior_knowledge()
        .http2_initial_stream_window_size(4 * 1024 * 1024)
        .http2_initial_connection_window_size(16 * 1024 * 1024)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .http2_keep_alive_timeout(Duration::from_secs(2))
        .http2_keep_alive_while_idle(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .no_proxy()
}

/// What an error says, and what it comes from: the client's own words are no more than that it could not be built.
fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

impl Wire for HttpWire {
    fn post(&self, url: &str, body: Bytes, timeout: Duration) -> Answered<'_> {
        let url = url.to_owned();
        Box::pin(async move {
            let answer = match is_https(&url) {
                true => self.post_secured(&url, body, timeout).await,
                false => self.plain.post(&url, body, timeout).await,
            };
            match answer.map(|(status, answer)| (status.as_u16(), answer)) {
                Ok((200, answer)) => Ok(answer),
                Ok((401, _)) => Err(WireError::Unauthorized(url)),
                // Turned away at the door: overloaded or going down.
                Ok((404 | 503, _)) | Err(NoAnswer::Unreachable) => Err(WireError::Unreachable(url)),
                Ok(_) | Err(NoAnswer::Lost) => Err(WireError::Lost(url)),
            }
        })
    }
}
