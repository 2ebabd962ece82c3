//! When a voter stands for election.
//!
//! openraft would draw one timeout for the whole life of a process. Two voters that drew nearly the same get into
//! each other's way in every election for as long as a vote takes longer to arrive and to be synced than the two
//! differ, as on a machine that is short of processors; and each would go on as fast as before. So it is told to
//! leave that alone, and is asked here: each wait is drawn anew, and waits grow with the elections that failed.
//!
//! This is about when somebody leads. That there is one leader in a term is not decided here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::ServerState;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::raft::{Raft, RaftId};

/// A leader that is heard of so often has no rival: voters refuse their votes for as long.
pub(crate) const LEASE: Duration = Duration::from_millis(1000);
/// How long a candidate waits for votes, which voters sync first. openraft wants it shorter than the lease.
pub(crate) const VOTES_WITHIN: Duration = Duration::from_millis(999);
/// Up to so much longer is waited, so that one voter is first.
const SPREAD_MS: u64 = 300;
/// Waits for votes are doubled so often at most.
const MOST_DOUBLINGS: u32 = 4;
/// How often one that must not stand looks whether it may.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// The task that has this node elected when nobody leads.
pub(crate) struct Elections {
    pub(crate) id: RaftId,
    pub(crate) raft: Raft,
    /// Not while this node is known to be taken out of its cluster.
    pub(crate) stands: Arc<AtomicBool>,
    /// What chance is drawn from.
    pub(crate) new_uuid: fn() -> Uuid,
    pub(crate) stop: CancellationToken,
}

/// How an election looks from here.
#[derive(Debug, Clone, Copy)]
struct View {
    /// Whether this node votes and does not lead.
    is_voter: bool,
    is_alone: bool,
    is_candidate: bool,
    /// Whether there is or was a leader in this term.
    is_led: bool,
    /// When the vote was last given or confirmed by a leader's message; `None` since the start.
    since: Option<Instant>,
}

impl View {
    /// When it is time to stand, if nothing happens until then. Why so: `docs/adr/0020-when-to-stand-for-election.md`.
    fn due(&self, started: Instant, spread: Duration, failed: u32) -> Instant {
        let wait = match (self.is_alone, self.is_led, self.since) {
            (true, ..) if self.is_candidate => VOTES_WITHIN,
            (true, ..) => Duration::ZERO,
            (false, true, _) => LEASE + spread,
            // It has only just started, and nobody led before.
            (false, false, None) => spread,
            (false, false, Some(_)) => (VOTES_WITHIN + spread) * 2_u32.pow(failed.min(MOST_DOUBLINGS)),
        };
        self.since.unwrap_or(started) + wait
    }
}

impl Elections {
    /// Works until the node stops.
    pub(crate) async fn run(self) {
        let started = Instant::now();
        let (mut spread, mut failed) = (self.spread(), 0);
        loop {
            let Some(view) = self.look().await else { return };
            if !view.is_candidate {
                failed = 0;
            }
            let due = match view.is_voter && self.stands.load(Ordering::Relaxed) {
                true => view.due(started, spread, failed),
                false => Instant::now() + LOOK_EVERY,
            };
            if due > Instant::now() {
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = tokio::time::sleep_until(due) => continue,
                }
            }
            if self.raft.trigger().elect().await.is_err() {
                return;
            }
            failed += u32::from(view.is_candidate);
            spread = self.spread();
        }
    }

    fn spread(&self) -> Duration {
        Duration::from_millis((self.new_uuid)().as_u64_pair().1 % SPREAD_MS)
    }

    /// `None` when raft has ended.
    async fn look(&self) -> Option<View> {
        let id = self.id;
        let view = self.raft.with_raft_state(move |state| {
            let members = state.membership_state.effective();
            let is_voter = members.voter_ids().any(|voter| voter == id);
            View {
                is_voter: is_voter && state.server_state != ServerState::Leader,
                is_alone: is_voter && members.voter_ids().all(|voter| voter == id),
                is_candidate: state.server_state == ServerState::Candidate,
                is_led: state.vote_ref().is_committed(),
                since: state.vote_last_modified(),
            }
        });
        view.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPREAD: Duration = Duration::from_millis(100);

    fn waits(view: View, failed: u32) -> Duration {
        let started = Instant::now();
        let from = view.since.unwrap_or(started);
        view.due(started, SPREAD, failed) - from
    }

    fn follower() -> View {
        View {
            is_voter: true,
            is_alone: false,
            is_candidate: false,
            is_led: true,
            since: Some(Instant::now()),
        }
    }

    #[test]
    fn who_has_a_leader_waits_until_no_voter_can_be_bound_to_it() {
        assert_eq!(waits(follower(), 0), LEASE + SPREAD);
        // Also when it has only just started, and the leader it had may still be there.
        assert_eq!(waits(View { since: None, ..follower() }, 0), LEASE + SPREAD);
    }

    #[test]
    fn who_was_not_elected_waits_for_all_votes_and_longer_each_time() {
        let candidate = View { is_candidate: true, is_led: false, ..follower() };
        let each: Vec<_> = (0..7).map(|failed| waits(candidate, failed)).collect();
        assert!(each[0] > VOTES_WITHIN);
        assert!(each.is_sorted() && each[0] < each[1] && each[5] == each[6]);
    }

    #[test]
    fn who_needs_nobody_waits_for_nobody() {
        let alone = View { is_alone: true, ..follower() };
        assert_eq!(waits(alone, 0), Duration::ZERO);
        assert_eq!(waits(View { is_candidate: true, ..alone }, 3), VOTES_WITHIN);
    }

    #[test]
    fn a_cluster_that_starts_does_not_wait_for_a_leader_it_cannot_have() {
        assert_eq!(waits(View { is_led: false, since: None, ..follower() }, 0), SPREAD);
    }
}
