//! The cluster this host works for: being known to it, and telling it things until it has heard them.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use skyclaw_client::{Client, Error};
use skyclaw_proto::HostId;
use skyclaw_proto::request::RegisterHostBody;
use tokio::sync::watch;

/// Pauses between tries: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// A handle on the cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Coordinator {
    pub(crate) client: Client,
    pub(crate) host: HostId,
    card: Arc<watch::Sender<RegisterHostBody>>,
}

/// What became of something that was to be said.
#[derive(Debug)]
pub(crate) enum Said<T> {
    /// It was heard.
    Heard(T),
    /// It was refused, and will always be.
    Refused(Error),
    /// It was given up before anybody had heard it.
    GivenUp,
}

impl Coordinator {
    /// The cluster behind `client`, and how this host introduces itself to it.
    pub(crate) fn new(client: Client, host: HostId, mut card: RegisterHostBody) -> Self {
        card.host_id = Some(host.to_string());
        Self { client, host, card: Arc::new(watch::Sender::new(card)) }
    }

    /// Changes how this host introduces itself, the next time it does.
    pub(crate) fn reword(&self, change: impl FnOnce(&mut RegisterHostBody)) {
        self.card.send_modify(change);
    }

    /// Makes the host known, however long it takes. Cancel-safe.
    pub(crate) async fn register(&self) {
        let mut log = ChangeLog::new("registration");
        for pause in pauses() {
            let card = self.card.borrow().clone();
            match self.client.register_host(&card, None).await {
                Ok(host) => {
                    log.went_well();
                    tracing::info!(host = %host.id, name = host.name, "registered");
                    return;
                }
                Err(error) => log.failed(&error),
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Says something until it is heard or refused. Should the cluster not know this host (any more),
    /// it is registered again.
    pub(crate) async fn insist<T, F>(
        &self,
        what: &'static str,
        give_up: impl Future<Output = ()>,
        say: impl Fn() -> F,
    ) -> Said<T>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let until_heard = async {
            let mut log = ChangeLog::new(what);
            let mut pauses = pauses();
            loop {
                match say().await {
                    Ok(answer) => {
                        log.went_well();
                        return Said::Heard(answer);
                    }
                    Err(error) if is_unknown_host(&error) => self.register().await,
                    Err(error) if is_final(&error) => return Said::Refused(error),
                    Err(error) => log.failed(&error),
                }
                tokio::time::sleep(pauses.next().unwrap_or(PAUSES.1)).await;
            }
        };
        tokio::select! {
            said = until_heard => said,
            () = give_up => Said::GivenUp,
        }
    }
}

/// Growing pauses without an end.
fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(PAUSES.0)
        .with_max_delay(PAUSES.1)
        .with_jitter()
        .without_max_times()
        .build()
}

/// Whether the cluster does not know this host.
pub(crate) fn is_unknown_host(error: &Error) -> bool {
    matches!(error, Error::Refused { body, .. } if error.is_not_found() && body.error.starts_with("unknown host"))
}

/// Whether saying it again would change nothing.
fn is_final(error: &Error) -> bool {
    match error {
        // 401: the operator may still set the token right. 413 is the caller's to deal with.
        Error::Refused { status: 401 | 408 | 429, .. }
        | Error::Unavailable { .. }
        | Error::InvalidAnswer { .. } => false,
        // A reference coordinator answers 500 to what it refuses.
        Error::Refused { status: 500.., body, .. } => {
            let refused = ["unknown ", "job ", "service "].iter().any(|word| body.error.starts_with(word));
            body.code.is_none() && refused
        }
        _ => true,
    }
}

/// Logs failures of one kind of request once per change, not once per try.
#[derive(Debug)]
pub(crate) struct ChangeLog {
    what: &'static str,
    last: Option<String>,
}

impl ChangeLog {
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, last: None }
    }

    pub(crate) fn failed(&mut self, error: &Error) {
        // The text of this one tells times, which differ every time.
        let kind = match error {
            Error::Unavailable { .. } => "unavailable".to_owned(),
            other => other.to_string(),
        };
        if self.last.as_ref() != Some(&kind) {
            tracing::warn!(what = self.what, %error, "failed; it is tried again and again");
            self.last = Some(kind);
        }
    }

    /// Whether the last try was answered.
    pub(crate) fn goes_well(&self) -> bool {
        self.last.is_none()
    }

    pub(crate) fn went_well(&mut self) {
        if self.last.take().is_some() {
            tracing::info!(what = self.what, "works again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skyclaw_proto::{ErrorBody, ErrorCode};

    fn refusal(status: u16, error: &str, code: Option<ErrorCode>) -> Error {
        let body = ErrorBody { error: error.into(), code, details: None };
        Error::Refused { status, body, request_id: String::new() }
    }

    #[test]
    fn what_is_final_and_what_is_tried_again() {
        for (status, text, code, want) in [
            (400, "success is required", Some(ErrorCode::InvalidRequest), true),
            (401, "unauthorized", None, false),
            (409, "job j is not leased", Some(ErrorCode::NotLeased), true),
            (413, "too large", None, true),
            (429, "slow down", None, false),
            (500, "job j is not leased", None, true),
            (500, "unknown job: j", None, true),
            (500, "a fault", Some(ErrorCode::Internal), false),
            (503, "insufficient peers", None, false),
        ] {
            assert_eq!(is_final(&refusal(status, text, code)), want, "{status} {text}");
        }
    }

    #[test]
    fn an_unknown_host_is_told_from_an_unknown_job() {
        assert!(is_unknown_host(&refusal(404, "unknown host: h", Some(ErrorCode::NotFound))));
        assert!(is_unknown_host(&refusal(500, "unknown host: h", None)));
        assert!(!is_unknown_host(&refusal(404, "unknown job: j", Some(ErrorCode::NotFound))));
    }
}
