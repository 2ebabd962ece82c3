//! The leader's clock: queued jobs that are due are seen to in time.
//!
//! ```text
//!  Machine ── when the next job is due ──► Due ── sleeps until then ──► a command that time has passed
//!     ▲                                                                            │
//!     └──────────────────────────────── applied ◄──────────────────────────────────┘
//! ```
//!
//! What is due is part of the replicated state, so a new leader goes on where the old one ended. However many
//! jobs wait, only the time of the first is known here: waiting costs nothing.

use std::time::Duration;

use skyclaw_core::Operation;
use skyclaw_proto::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::options::Stamper;
use crate::proposer::Proposer;

/// Most jobs one command speaks of.
const JOBS_AT_ONCE: u32 = 1000;
/// Longest it sleeps: a clock that was set is noticed after that.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long it waits before a command is proposed again that did not get through.
const TRY_AGAIN: Duration = Duration::from_millis(200);

pub(crate) struct Due {
    pub(crate) proposer: Proposer,
    pub(crate) stamper: Stamper,
    /// When the next job is due.
    pub(crate) next: watch::Receiver<Option<Timestamp>>,
    /// Whether this node leads.
    pub(crate) leading: watch::Receiver<bool>,
    pub(crate) stop: CancellationToken,
}

impl Due {
    pub(crate) async fn run(mut self) {
        let mut waits = false;
        loop {
            let is_leading = *self.leading.borrow_and_update();
            let next = self.next.borrow_and_update().filter(|_| is_leading);
            let now = self.stamper.now();
            if next.is_some_and(|next| next <= now) {
                let failed = self.pass_time(&mut waits).await;
                if !failed {
                    continue;
                }
            }
            let sleep = next.map(|next| match next.since(now) {
                Duration::ZERO => TRY_AGAIN,
                left => left.min(LOOK_AGAIN),
            });
            // Every branch is cancel-safe: each waits for a change or a time.
            tokio::select! {
                () = self.stop.cancelled() => return,
                Ok(()) = self.leading.changed() => {}
                Ok(()) = self.next.changed() => {}
                () = sleep_for(sleep) => {}
            }
        }
    }

    /// True when it did not get through.
    async fn pass_time(&self, waits: &mut bool) -> bool {
        let command = self.stamper.stamp(None, Operation::PassTime { most: JOBS_AT_ONCE });
        let proposed = self.proposer.propose(command).await;
        let waited = std::mem::replace(waits, proposed.is_err());
        if let Err(error) = &proposed
            && !waited
        {
            tracing::warn!(%error, "jobs whose time has come have to wait");
        }
        proposed.is_err()
    }
}

async fn sleep_for(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
