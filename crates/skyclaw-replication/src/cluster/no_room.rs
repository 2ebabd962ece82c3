//! A leader whose disk is full, or refuses to be written to, makes way for another.
//!
//! Followers need a quorum only, and go on without one that cannot write. A leader that cannot write
//! takes nothing in, and nobody else may: so it hands the leadership over. That it does not lead again
//! at once needs no rule: what the others have written meanwhile it lacks.

use std::sync::Weak;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::leader::{Leader, leader};
use crate::node::{Inner, Node};

/// How often the room is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Less than the largest write needs, with what the log keeps for itself.
const LITTLE_BYTES: u64 = 4 * 1024 * 1024;
/// How long it must have lasted: under load there may be little for a moment, until more is prepared.
const LACKING_FOR: Duration = Duration::from_secs(1);
/// How long it waits before it tries once more, at the most. All may be full, or nobody else there.
const TRY_AGAIN_WITHIN: Duration = Duration::from_secs(30);

/// Looks after the room while this node leads.
#[derive(Debug)]
pub(crate) struct NoRoom {
    pub(crate) stop: CancellationToken,
}

impl NoRoom {
    pub(crate) async fn run(self, node: Weak<Inner>) {
        let mut lacking_since = None;
        let mut patience = LACKING_FOR;
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = look.tick() => {}
            }
            let Some(node) = node.upgrade().map(Node) else { return };
            let room_bytes = node.0.log.room();
            let trouble = node.0.machine.trouble();
            if room_bytes >= LITTLE_BYTES && trouble.is_none() {
                (lacking_since, patience) = (None, LACKING_FOR);
                continue;
            }
            if leader(&node.0.raft) != Leader::Me {
                lacking_since = None;
                continue;
            }
            let since = *lacking_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= patience {
                tracing::warn!(
                    room_bytes,
                    trouble,
                    "this coordinator cannot write to its disk, so another is to lead: free some space"
                );
                node.hand_over(None).await;
                lacking_since = None;
                patience = (patience * 2).min(TRY_AGAIN_WITHIN);
            }
        }
    }
}
