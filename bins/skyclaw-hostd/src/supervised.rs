//! What the service manager is told of the daemon.
//!
//! It is told that all is well by the daemon's main loop, which claims, and only when the keeper of leases has answered:
//! where either of them hangs, the manager hears nothing and starts the daemon anew. What runs goes on meanwhile.

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use skyclaw_config::Supervisor;
use tokio_util::task::TaskTracker;

use crate::claims::Workshop;

/// How the daemon does, in a line for people.
#[derive(Debug)]
pub(crate) enum Stand {
    /// It has not been heard by a coordinator yet.
    Unheard { taken_over: usize },
    /// It works.
    Works { running: usize, heard: bool, frozen: bool },
}

impl fmt::Display for Stand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unheard { taken_over } => {
                write!(f, "waits for a coordinator to register with; {taken_over} running")
            }
            Self::Works { running, heard, frozen } => {
                let does = if *frozen { "is frozen by its operator" } else { "takes work" };
                let cut = if *heard { "" } else { "; no coordinator answers" };
                write!(f, "{does}; {running} running{cut}")
            }
        }
    }
}

/// Tells the manager for ever. To be polled by the main loop.
pub(crate) async fn attend(supervisor: &Supervisor, workshop: &Workshop, runs: &TaskTracker) -> Infallible {
    let heard = AtomicBool::new(true);
    let answers = || async {
        let answer = workshop.keeper.answers().await;
        heard.store(answer.unwrap_or(false), Ordering::Relaxed);
        answer.is_some()
    };
    let stand = || {
        let frozen = workshop.switch.is_frozen();
        Stand::Works { running: runs.len(), heard: heard.load(Ordering::Relaxed), frozen }.to_string()
    };
    supervisor.attend(answers, stand).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_an_operator_would_ask() {
        let line = |heard, frozen| Stand::Works { running: 2, heard, frozen }.to_string();
        assert_eq!(line(true, false), "takes work; 2 running");
        assert_eq!(line(false, true), "is frozen by its operator; 2 running; no coordinator answers");
        let waits = Stand::Unheard { taken_over: 1 }.to_string();
        assert_eq!(waits, "waits for a coordinator to register with; 1 running");
    }
}
