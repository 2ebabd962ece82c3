//! Whom to speak to, and how long.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use skyclaw_proto::limits::MAX_SNAPSHOT_BYTES;

use crate::error::Error;
use crate::{Client, Shared};

/// How a [`Client`] behaves. Start from [`Config::new`] and change what is to be otherwise.
#[derive(Debug, Clone)]
pub struct Config {
    /// Base URLs of the coordinators, asked in this order until one has answered.
    pub coordinators: Vec<String>,
    /// The shared token.
    pub token: Option<SecretString>,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long one coordinator may take to answer, besides what a long poll waits on purpose.
    pub attempt_timeout: Duration,
    /// How long one call may take in all, retries included, besides what a long poll waits on purpose.
    pub deadline: Duration,
    /// The largest answer that is read, in bytes. [`Client::state`] has no such bound.
    pub max_answer_bytes: usize,
    /// How many requests one call may make, to whichever coordinators; as many as fit into the deadline when
    /// `None`. Who measures wants to see each of them.
    pub max_tries: Option<u32>,
    /// What the caller calls itself; coordinators tell it with what was done, as its own word.
    pub actor: Option<String>,
    /// Gives the `traceparent` of whatever the caller does at the moment, if that is traced.
    pub traceparent: Option<fn() -> Option<String>>,
}

impl Config {
    /// The usual times and bounds: 2 s to connect, 10 s for an answer, 30 s in all, 64 MiB.
    #[must_use]
    pub fn new<I>(coordinators: I, token: Option<SecretString>) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        Self {
            coordinators: coordinators.into_iter().map(Into::into).collect(),
            token,
            connect_timeout: Duration::from_secs(2),
            attempt_timeout: Duration::from_secs(10),
            deadline: Duration::from_secs(30),
            max_answer_bytes: MAX_SNAPSHOT_BYTES,
            max_tries: None,
            actor: None,
            traceparent: None,
        }
    }
}

/// The base URL of a coordinator, without a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Coordinator(pub(crate) String);

impl Coordinator {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        // Not shown: what follows a scheme may be a user and a password.
        let invalid = || Error::InvalidUrl;
        let url = reqwest::Url::parse(text.trim()).map_err(|_| invalid())?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !plain {
            return Err(invalid());
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }

    /// Whether the token may go to the leader that this coordinator names: never out of TLS.
    pub(crate) fn may_name(&self, leader: &Self) -> bool {
        leader.is_https() || !self.is_https()
    }

    fn is_https(&self) -> bool {
        self.0.starts_with("https:")
    }
}

impl Client {
    /// A client of the cluster these coordinators form. Connects on the first call only.
    ///
    /// # Errors
    /// When there is no coordinator, a URL is not one, the token cannot be a header, or the TLS roots
    /// of this machine cannot be loaded though a URL is https.
    pub fn new(config: Config) -> Result<Self, Error> {
        crate::install_crypto();
        let mut coordinators = Vec::new();
        for text in config.coordinators.iter().filter(|text| !text.trim().is_empty()) {
            let coordinator = Coordinator::parse(text)?;
            if !coordinators.contains(&coordinator) {
                coordinators.push(coordinator);
            }
        }
        if coordinators.is_empty() {
            return Err(Error::NoCoordinator);
        }
        let token = config.token.as_ref().map(header).transpose()?;
        // A name that cannot be a header is not said, rather than that nothing can be done under it.
        let actor = config.actor.as_deref().and_then(|name| http::HeaderValue::from_str(name).ok());
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("skyclaw/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(config.connect_timeout)
            .tcp_nodelay(true)
            // Coordinators are reached directly, and a redirect would carry the token elsewhere.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        if !coordinators.iter().any(Coordinator::is_https) {
            // Loading the roots of the machine takes time, and fails where there are none.
            http = http.tls_certs_only([]);
        }
        let http = http.build().map_err(|source| Error::Tls { source: source.without_url() })?;
        let shared = Shared { http, coordinators, token, actor, config, good: 0.into(), written: 0.into() };
        Ok(Self { shared: shared.into() })
    }

    /// The base URLs of the coordinators, the one that answered last first.
    #[must_use]
    pub fn coordinators(&self) -> Vec<&str> {
        self.order().map(|index| self.shared.coordinators[index].0.as_str()).collect()
    }

    /// The indexes of the coordinators in the order they are to be asked.
    pub(crate) fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let count = self.shared.coordinators.len();
        let good = self.shared.good.load(std::sync::atomic::Ordering::Relaxed);
        (good..count).chain(0..good)
    }
}

fn header(token: &SecretString) -> Result<http::HeaderValue, Error> {
    let mut value =
        http::HeaderValue::from_str(token.expose_secret().trim()).map_err(|_| Error::InvalidToken)?;
    value.set_sensitive(true);
    Ok(value)
}
