//! How a run is told to stop, and why.

use tokio::sync::watch;

/// Why a run was stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The client called it off.
    Cancelled,
    /// The host has a reason of its own.
    Because(String),
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cancelled => f.write_str("cancelled"),
            Self::Because(reason) => write!(f, "stopped: {reason}"),
        }
    }
}

/// Stops a run. Dropping it does not.
#[derive(Debug, Clone)]
pub struct Stopper(watch::Sender<Option<Stop>>);

/// What a run listens to.
#[derive(Debug, Clone)]
pub struct StopSignal(watch::Receiver<Option<Stop>>);

/// A stopper and the signal it sets off.
#[must_use]
pub fn stop_channel() -> (Stopper, StopSignal) {
    let (send, receive) = watch::channel(None);
    (Stopper(send), StopSignal(receive))
}

impl Stopper {
    /// Stops the run; the first reason counts.
    pub fn stop(&self, why: Stop) {
        self.0.send_if_modified(|reason| {
            let first = reason.is_none();
            if first {
                *reason = Some(why);
            }
            first
        });
    }
}

impl StopSignal {
    /// Waits for the stop. Never ends when nobody is left to give it. Cancel-safe.
    pub(crate) async fn stopped(&mut self) -> Stop {
        if let Ok(reason) = self.0.wait_for(Option::is_some).await
            && let Some(stop) = reason.clone()
        {
            return stop;
        }
        std::future::pending().await
    }
}
