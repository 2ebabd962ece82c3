//! How a node stands to its cluster: whether it may serve, and if not, why.
//!
//! ```text
//!  Forming ──founds or takes on a cluster──► Member ◄──► Removed   (the leader says so)
//!                                              ▲ ▼
//!  Unsure ──its peers are its own, or silent───┘ Foreign           (its peers say so)
//! ```
//!
//! A node that is `Foreign` or `Removed` takes no work, so that nothing is acknowledged where nobody looks
//! for it, and hosts go where there is some. It keeps looking, and serves again when that is over.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::error::WriteError;
use crate::node::{Inner, Node};

/// How many entries a node may be behind the leader and still count as ready. More than what is under way
/// under load, and applied within a second.
const READY_WITHIN: u64 = 1000;
/// How long a request waits for a node that is about to find out whose it is.
const SETTLE_WITHIN: Duration = Duration::from_secs(3);

/// How a node stands to its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It belongs to no cluster yet.
    Forming {
        /// What it waits for.
        waiting_for: String,
    },
    /// It could lead all alone, and has not yet asked its configured peers whether they are its own.
    Unsure,
    /// It belongs to its cluster, as far as it knows.
    Member,
    /// Those it was told to be together with belong to another cluster.
    Foreign(Foreign),
    /// Its cluster has taken it out.
    Removed,
}

/// A configured peer that belongs to another cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub(crate) url: String,
    pub(crate) ours: Uuid,
    pub(crate) theirs: Uuid,
}

impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { url, ours, theirs } = self;
        write!(
            f,
            "this node belongs to cluster {ours}, and {url} in SKYCLAW_PEER_URLS to cluster {theirs}; \
             two clusters never merge: point SKYCLAW_PEER_URLS at this node's own cluster, or move its \
             database and log away to let it join the other"
        )
    }
}

/// What a removed node says.
pub(crate) const REMOVED: &str = "this node was removed from the cluster; ask another coordinator, and to let \
     this one join again, move its database and log away and restart it";

impl Standing {
    /// Why the node takes no work, if it does not.
    pub(crate) fn obstacle(&self) -> Option<String> {
        match self {
            Self::Member => None,
            Self::Forming { waiting_for } => {
                Some(format!("the coordinator has not formed or joined a cluster yet: {waiting_for}"))
            }
            Self::Unsure => {
                Some("the coordinator is asking its peers which cluster they belong to".to_owned())
            }
            Self::Foreign(foreign) => Some(foreign.to_string()),
            Self::Removed => Some(REMOVED.to_owned()),
        }
    }
}

/// Why a node that has applied so much is too far behind one that leads, if it is.
pub(crate) fn behind(committed: u64, applied: u64) -> Option<String> {
    let behind = committed.saturating_sub(applied);
    (behind > READY_WITHIN)
        .then(|| format!("the coordinator is {behind} entries behind the leader and catching up"))
}

/// What was heard of the leader.
#[derive(Debug, Default)]
pub(crate) struct LeaderSigns {
    committed: AtomicU64,
    heard: Mutex<Option<Instant>>,
}

impl LeaderSigns {
    /// The leader has said how far the log is committed.
    pub(crate) fn heard(&self, committed: u64) {
        self.committed.fetch_max(committed, Ordering::Relaxed);
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// How far the log is committed, as far as this node was told.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// How long ago a leader was heard of last; `None` when none ever was.
    pub(crate) fn silent_for(&self) -> Option<Duration> {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.map(|at| at.elapsed())
    }
}

impl Node {
    /// Why not even reads are answered here: the cluster has taken this node out, so what it knows only grows
    /// older.
    #[must_use]
    pub fn taken_out(&self) -> Option<&'static str> {
        (*self.0.standing.borrow() == Standing::Removed).then_some(REMOVED)
    }

    /// Resolves when the cluster has taken this node out.
    pub async fn until_taken_out(&self) {
        let mut standing = self.0.standing.subscribe();
        if standing.wait_for(|standing| *standing == Standing::Removed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Inner {
    /// Whether this node may take work from clients and hosts; waits while it is finding out.
    pub(crate) async fn serving(&self) -> Result<(), WriteError> {
        if *self.standing.borrow() == Standing::Unsure {
            let mut standing = self.standing.subscribe();
            let settled = standing.wait_for(|standing| *standing != Standing::Unsure);
            // On the heap, as hardly any request has use for the room it takes.
            let _ = Box::pin(tokio::time::timeout(SETTLE_WITHIN, settled)).await;
        }
        let standing = self.standing.borrow();
        match &*standing {
            // Who is forming finds a leader soon, or its client learns that there is none.
            Standing::Member | Standing::Forming { .. } => Ok(()),
            Standing::Unsure | Standing::Foreign(_) | Standing::Removed => {
                Err(WriteError::NotServing(standing.obstacle().unwrap_or_default()))
            }
        }
    }

    /// Takes note of how this node stands.
    pub(crate) fn stand(&self, standing: &Standing) {
        let changed = self.standing.send_if_modified(|now| {
            let changed = *now != *standing;
            now.clone_from(standing);
            changed
        });
        if !changed {
            return;
        }
        match standing {
            Standing::Foreign(foreign) => tracing::error!("{foreign}; until then it takes no writes"),
            Standing::Removed => tracing::warn!("{REMOVED}"),
            Standing::Member => tracing::debug!("a member of its cluster"),
            Standing::Forming { .. } | Standing::Unsure => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_far_behind_says_how_far_and_who_is_a_little_behind_is_ready() {
        assert_eq!(behind(READY_WITHIN, 0), None);
        assert_eq!(behind(5, 9), None, "it has heard of the commit later than of the entries");
        let why = behind(READY_WITHIN + 8, 1).expect("far behind");
        assert_eq!(why, "the coordinator is 1007 entries behind the leader and catching up");
    }

    #[test]
    fn who_takes_no_work_names_both_clusters_and_the_way_out() {
        let foreign =
            Foreign { url: "http://b:1".into(), ours: Uuid::from_u128(1), theirs: Uuid::from_u128(2) };
        let why = Standing::Foreign(foreign).obstacle().expect("a reason");
        for part in [
            &Uuid::from_u128(1).to_string(),
            &Uuid::from_u128(2).to_string(),
            "http://b:1",
            "SKYCLAW_PEER_URLS",
        ] {
            assert!(why.contains(part), "{part} is not in {why}");
        }
        assert_eq!(Standing::Member.obstacle(), None);
        let waiting = Standing::Forming { waiting_for: "waiting for 3 blank nodes".into() };
        assert!(waiting.obstacle().is_some_and(|why| why.ends_with("waiting for 3 blank nodes")));
    }

    #[test]
    fn what_was_heard_of_the_leader_never_goes_back() {
        let signs = LeaderSigns::default();
        assert_eq!((signs.committed(), signs.silent_for()), (0, None));
        signs.heard(7);
        signs.heard(5);
        assert_eq!(signs.committed(), 7);
        assert!(signs.silent_for().is_some());
    }
}
