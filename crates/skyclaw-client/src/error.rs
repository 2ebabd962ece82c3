//! Why a call did not give what was asked for.

use std::fmt;
use std::time::Duration;

use skyclaw_proto::{ErrorBody, ErrorCode};

/// Why a call failed. No text of it holds the token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A coordinator refused the request, and would refuse it again.
    #[error("{}{}", body.error, refusal_hint(*status))]
    Refused {
        /// The HTTP status, 4xx (or 5xx where it is the final answer of all).
        status: u16,
        /// What it said.
        body: ErrorBody,
        /// The id the request has in the coordinator's log.
        request_id: String,
    },
    /// No coordinator did it in time.
    #[error("{request} was not answered by any coordinator within {waited:?}{}{}", Tried(failures), unknown_hint(key.as_deref()))]
    Unavailable {
        /// Method and path.
        request: String,
        /// How long it was tried.
        waited: Duration,
        /// What became of the last try at each coordinator.
        failures: Vec<Failure>,
        /// Set when the request may have been carried out all the same: the idempotency key with which
        /// it can be repeated.
        key: Option<String>,
        /// The id the request has in the coordinators' logs.
        request_id: String,
    },
    /// A change that must not be done twice was sent and got no good answer.
    #[error(
        "{request} at {url}: {reason}; it may have been carried out all the same: look before you repeat it"
    )]
    Unsure {
        /// Method and path.
        request: String,
        /// Base URL of who was asked.
        url: String,
        /// What went wrong.
        reason: Box<Reason>,
        /// The id the request has in the coordinator's log.
        request_id: String,
    },
    /// An answer that is not in the contract.
    #[error("{url} answered {request} with something that is no answer of a coordinator: {fault}")]
    InvalidAnswer {
        /// Base URL of who answered.
        url: String,
        /// Method and path.
        request: String,
        /// What is wrong with it.
        fault: String,
    },
    /// The answer could not be written where it should go, or broke off on the way.
    #[error("the answer of {url} could not be copied")]
    Copy {
        /// Base URL of who answered.
        url: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No coordinator is configured.
    #[error("no coordinator is configured")]
    NoCoordinator,
    /// A coordinator's URL is none.
    #[error(
        "a coordinator URL is not valid: it must be like http://127.0.0.1:8787, without user, query or fragment"
    )]
    InvalidUrl,
    /// The token has characters that no header can hold.
    #[error("the token must be visible ASCII on one line")]
    InvalidToken,
    /// The idempotency key has characters that no header can hold.
    #[error("the idempotency key must be visible ASCII on one line")]
    InvalidKey,
    /// A request body could not be written as JSON.
    #[error("the request cannot be written as JSON")]
    Encode(#[source] serde_json::Error),
    /// TLS is not to be had on this machine.
    #[error("cannot set up TLS: are the CA certificates of this machine installed?")]
    Tls {
        /// Why.
        #[source]
        source: reqwest::Error,
    },
}

impl Error {
    /// The HTTP status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The machine word of a refusal, when the coordinator sent one.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { body, .. } => body.code,
            _ => None,
        }
    }

    /// Whether what was asked for does not exist.
    ///
    /// Told by the sentence too, for a reference coordinator answers such a request with 500.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        let Self::Refused { status, body, .. } = self else { return false };
        *status == 404 || (*status == 500 && body.code.is_none() && body.error.starts_with("unknown "))
    }
}

/// What became of one coordinator's last try.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The base URL.
    pub url: String,
    /// What went wrong.
    pub reason: Reason,
}

/// Why one try was no success.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// No connection came about, so nothing was sent.
    Unreachable {
        /// Why, from the inside out.
        cause: String,
    },
    /// The connection broke after something had been sent.
    Broken {
        /// Why, from the inside out.
        cause: String,
    },
    /// There was no answer in time.
    TimedOut,
    /// It answered that it cannot at the moment.
    Busy {
        /// The HTTP status.
        status: u16,
        /// What it said.
        body: ErrorBody,
    },
}

impl Reason {
    /// Whether the request may have been carried out although there was no good answer.
    pub(crate) fn leaves_open(&self) -> bool {
        match self {
            Self::Unreachable { .. } => false,
            Self::Broken { .. } | Self::TimedOut => true,
            Self::Busy { status, body } => match body.code {
                Some(ErrorCode::OutcomeUnknown | ErrorCode::Unknown) => true,
                Some(_) => false,
                // A reference coordinator sends no word; these it sends when nothing is left behind.
                None => *status != 429 && !body.error.starts_with("insufficient peers"),
            },
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { cause } => write!(f, "{cause} (is skyclawd running there?)"),
            Self::Broken { cause } => write!(f, "the connection broke: {cause}"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Busy { status, body } => write!(f, "{} ({status})", body.error),
        }
    }
}

/// `: URL: reason; URL: reason`.
struct Tried<'a>(&'a [Failure]);

impl fmt::Display for Tried<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Failure { url, reason }) in self.0.iter().enumerate() {
            write!(f, "{} {url}: {reason}", if i == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

fn refusal_hint(status: u16) -> &'static str {
    match status {
        401 => ": the coordinator wants another token (SKYCLAW_TOKEN or SKYCLAW_TOKEN_FILE)",
        _ => "",
    }
}

fn unknown_hint(key: Option<&str>) -> String {
    key.map(|key| {
        format!("; it may have been carried out all the same: to be sure, repeat it with the idempotency key {key}")
    })
    .unwrap_or_default()
}
