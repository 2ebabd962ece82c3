//! What is measured of a node.
//!
//! Counters and histograms are plain values that those who know of an event hold and change; what can be
//! looked up (terms, lags, sizes) is looked up when somebody asks. There is no global registry: whoever
//! runs a node registers its metrics where he wants them ([`Node::register_metrics`]).

mod collect;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::ServerState;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use skyclaw_core::{Pruned, State, WhyPruned};
use skyclaw_proto::{JobStatus, Timestamp};
use skyclaw_store::EndedCount;
use tokio_util::sync::CancellationToken;

use self::collect::Collected;
use crate::machine::ScheduleCounts;
use crate::node::Node;
use crate::raft::{Raft, RaftId};

/// What those who do the work count and measure. Clones are the same meters.
#[derive(Debug, Clone)]
pub(crate) struct Meters {
    pub(crate) batch_commands: Histogram,
    pub(crate) batch_bytes: Histogram,
    pub(crate) propose_seconds: Histogram,
    pub(crate) apply_seconds: Histogram,
    pub(crate) jobs: JobCounts,
    pub(crate) schedules: ScheduleCounts,
    pub(crate) commit_seconds: Histogram,
    pub(crate) pending_bytes: Gauge,
    pub(crate) snapshots_built: Counter,
    pub(crate) snapshots_installed: Counter,
    pub(crate) snapshots_sent: Counter,
    pub(crate) snapshots_unsent: Counter,
    pub(crate) elections_started: Counter,
    pub(crate) elections_won: Counter,
    pub(crate) leader_changes: Counter,
    retention: RetentionMeters,
}

/// What is measured of jobs that have ended, and are forgotten.
#[derive(Debug, Clone)]
struct RetentionMeters {
    pruned: Family<PrunedLabels, Counter>,
    finished: Gauge,
    oldest: Gauge<f64, AtomicU64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PrunedLabels {
    reason: &'static str,
}

impl RetentionMeters {
    fn new() -> Self {
        let pruned = Family::<PrunedLabels, Counter>::default();
        // Told from the start, so that the first one can be seen to happen.
        for why in WhyPruned::ALL {
            drop(pruned.get_or_create(&PrunedLabels { reason: why.as_str() }));
        }
        Self { pruned, finished: Gauge::default(), oldest: Gauge::default() }
    }

    fn register(&self, registry: &mut Registry) {
        let jobs = registry.sub_registry_with_prefix("jobs");
        jobs.register("pruned", "Jobs that had ended and were forgotten, by why", self.pruned.clone());
        jobs.register(
            "finished",
            "Jobs that have ended and are kept, as they were counted in the last minute or so",
            self.finished.clone(),
        );
        jobs.register_with_unit(
            "finished_oldest_timestamp",
            "When the first of those ended that ask for no time of their own; 0 when there are none",
            Unit::Seconds,
            self.oldest.clone(),
        );
    }
}

/// How many jobs are in each status, as of the last entry applied here. Clones are the same counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobCounts(Arc<[AtomicU64; JobStatus::ALL.len()]>);

impl JobCounts {
    /// Takes over what a state counts.
    pub(crate) fn take(&self, state: &State) {
        for (count, status) in self.0.iter().zip(JobStatus::ALL) {
            count.store(state.jobs_in(*status), Ordering::Relaxed);
        }
    }

    /// The counts of those that have not ended.
    fn open(&self) -> impl Iterator<Item = (JobStatus, u64)> {
        let counts = JobStatus::ALL.iter().zip(self.0.iter());
        counts
            .filter(|(status, _)| !status.is_finished())
            .map(|(s, count)| (*s, count.load(Ordering::Relaxed)))
    }
}

/// From 50 µs to 13 s.
pub(crate) fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_05, 2.0, 19))
}

impl Meters {
    pub(crate) fn new() -> Self {
        Self {
            batch_commands: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            batch_bytes: Histogram::new(exponential_buckets(256.0, 4.0, 7)),
            propose_seconds: seconds(),
            apply_seconds: seconds(),
            jobs: JobCounts::default(),
            schedules: ScheduleCounts::default(),
            commit_seconds: seconds(),
            pending_bytes: Gauge::default(),
            snapshots_built: Counter::default(),
            snapshots_installed: Counter::default(),
            snapshots_sent: Counter::default(),
            snapshots_unsent: Counter::default(),
            elections_started: Counter::default(),
            elections_won: Counter::default(),
            leader_changes: Counter::default(),
            retention: RetentionMeters::new(),
        }
    }

    /// Jobs were forgotten.
    pub(crate) fn pruned(&self, pruned: &Pruned) {
        let labels = PrunedLabels { reason: pruned.why.as_str() };
        self.retention.pruned.get_or_create(&labels).inc_by(pruned.jobs.len() as u64);
    }

    /// Jobs that have ended were counted.
    pub(crate) fn retained(&self, count: &EndedCount) {
        let all = count.usual.saturating_add(count.own);
        self.retention.finished.set(i64::try_from(all).unwrap_or(i64::MAX));
        let oldest = count.oldest.map_or(0, Timestamp::as_millis);
        #[expect(clippy::cast_precision_loss, reason = "a time in seconds, as Prometheus has it")]
        self.retention.oldest.set(oldest as f64 / 1000.0);
    }

    fn register(&self, registry: &mut Registry) {
        self.retention.register(registry);
        let raft = registry.sub_registry_with_prefix("raft");
        raft.register(
            "batch_commands",
            "Commands in each entry this node proposed",
            self.batch_commands.clone(),
        );
        raft.register_with_unit(
            "batch",
            "About how large each entry is that this node proposed",
            Unit::Bytes,
            self.batch_bytes.clone(),
        );
        raft.register_with_unit(
            "propose",
            "How long an entry took from being proposed here to being committed and applied",
            Unit::Seconds,
            self.propose_seconds.clone(),
        );
        raft.register_with_unit(
            "apply",
            "How long applying entries in memory took, several entries at a time",
            Unit::Seconds,
            self.apply_seconds.clone(),
        );
        raft.register("snapshots_built", "Places the log was compacted to", self.snapshots_built.clone());
        raft.register(
            "snapshots_installed",
            "Snapshots of other coordinators that replaced the state of this one",
            self.snapshots_installed.clone(),
        );
        raft.register("snapshots_sent", "Snapshots sent to other coordinators", self.snapshots_sent.clone());
        raft.register(
            "snapshots_unsent",
            "Tries to send a snapshot that failed",
            self.snapshots_unsent.clone(),
        );
        raft.register(
            "elections_started",
            "Elections in which this node stood",
            self.elections_started.clone(),
        );
        raft.register("elections_won", "Elections this node won", self.elections_won.clone());
        raft.register(
            "leader_changes",
            "How often this node has seen another leader than before",
            self.leader_changes.clone(),
        );
        let store = registry.sub_registry_with_prefix("store");
        store.register_with_unit(
            "commit",
            "How long writing a batch of changes to the database took",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        store.register_with_unit(
            "pending",
            "About how much is applied and not yet in the database; the log holds it",
            Unit::Bytes,
            self.pending_bytes.clone(),
        );
    }

    /// Counts elections and leaders until the node stops.
    pub(crate) async fn follow(self, raft: Raft, stop: CancellationToken) {
        let mut metrics = raft.server_metrics();
        let mut seen = Seen::default();
        loop {
            let (state, vote, leader) = {
                let now = metrics.borrow_and_update();
                (now.state, now.vote, now.current_leader)
            };
            seen.take(&self, state, vote.leader_id().term, leader);
            tokio::select! {
                () = stop.cancelled() => return,
                changed = metrics.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// What was counted already. States between two looks may be missed, but not that an election was won.
#[derive(Debug, Default)]
struct Seen {
    stood_in: u64,
    won_in: u64,
    leader: Option<RaftId>,
}

impl Seen {
    fn take(&mut self, meters: &Meters, state: ServerState, term: u64, leader: Option<RaftId>) {
        let (stands, leads) = (state == ServerState::Candidate, state == ServerState::Leader);
        if (stands || leads) && term > self.stood_in {
            self.stood_in = term;
            meters.elections_started.inc();
        }
        if leads && term > self.won_in {
            self.won_in = term;
            meters.elections_won.inc();
        }
        if leader.is_some() && leader != self.leader {
            self.leader = leader;
            meters.leader_changes.inc();
        }
    }
}

impl Node {
    /// Adds the metrics of this node to a registry. Their names are in `docs/metrics.md`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.0.meters.register(registry);
        registry.sub_registry_with_prefix("log").register_with_unit(
            "fsync",
            "How long making the log durable took",
            Unit::Seconds,
            self.0.log.fsync_seconds().clone(),
        );
        registry.register_collector(Box::new(Collected(Arc::downgrade(&self.0))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_election_counts_once_and_one_that_was_won_also_as_begun() {
        let (meters, mut seen) = (Meters::new(), Seen::default());
        let counts = |meters: &Meters| {
            (meters.elections_started.get(), meters.elections_won.get(), meters.leader_changes.get())
        };
        seen.take(&meters, ServerState::Candidate, 1, None);
        seen.take(&meters, ServerState::Candidate, 1, None);
        assert_eq!(counts(&meters), (1, 0, 0));
        seen.take(&meters, ServerState::Leader, 2, Some(7));
        seen.take(&meters, ServerState::Leader, 2, Some(7));
        assert_eq!(counts(&meters), (2, 1, 1), "the candidacy of term 2 was not seen");
        seen.take(&meters, ServerState::Follower, 3, None);
        seen.take(&meters, ServerState::Follower, 3, Some(7));
        assert_eq!(counts(&meters), (2, 1, 1), "the same leader again is no change");
        seen.take(&meters, ServerState::Follower, 4, Some(8));
        assert_eq!(counts(&meters), (2, 1, 2));
    }
}
