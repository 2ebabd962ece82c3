//! How a run is told to stop, and why; and until when it may go on.

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::BootTime;

/// Why a run was stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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

/// What a run was told last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) stop: Option<Stop>,
    pub(crate) deadline: Option<BootTime>,
}

/// Stops a run, or lets it go on. Dropping it does neither.
#[derive(Debug, Clone)]
pub struct Stopper(watch::Sender<Told>);

/// What a run listens to.
#[derive(Debug, Clone)]
pub struct StopSignal(watch::Receiver<Told>);

/// A stopper and the signal it sets off.
#[must_use]
pub fn stop_channel() -> (Stopper, StopSignal) {
    let (send, receive) = watch::channel(Told::default());
    (Stopper(send), StopSignal(receive))
}

impl Stopper {
    /// Stops the run; the first reason counts.
    pub fn stop(&self, why: Stop) {
        self.0.send_if_modified(|told| {
            let first = told.stop.is_none();
            if first {
                told.stop = Some(why);
            }
            first
        });
    }

    /// Lets a run that has a deadline go on until then; the latest counts.
    pub fn extend(&self, deadline: BootTime) {
        self.0.send_if_modified(|told| {
            let later = told.deadline.is_none_or(|before| before < deadline);
            if later {
                told.deadline = Some(deadline);
            }
            later
        });
    }
}

impl StopSignal {
    /// What was told since it was asked last. Waits for ever when nobody is left to tell anything.
    /// Cancel-safe.
    pub(crate) async fn told(&mut self) -> Told {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.0.borrow_and_update().clone()
    }

    /// Until when the run may go on, as it was told last.
    #[must_use]
    pub fn deadline(&self) -> Option<BootTime> {
        self.0.borrow().deadline
    }

    /// Has what was told before be told again.
    pub(crate) fn rewind(&mut self) {
        self.0.mark_changed();
    }
}
