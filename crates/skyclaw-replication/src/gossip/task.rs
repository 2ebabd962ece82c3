//! The task that owns chitchat: puts in what is announced, takes out who is seen, and starts it again
//! should it fail.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chitchat::{
    Chitchat, ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, NodeState, spawn_chitchat,
};
use skyclaw_proto::NodeId;
use skyclaw_proto::limits::MAX_PEERS;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{MissedTickBehavior, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::socket::{Opener, Sealed};
use super::{Announcement, Seen};

/// The name chitchat knows all of us by. Which cluster a node belongs to is part of what it announces.
pub(super) const EVERYONE: &str = "skyclaw";
/// The key of the announcement, in one piece so that no part of it is ever of another time.
const ANNOUNCEMENT: &str = "announcement";
/// The key that a node sets when it leaves.
const LEFT: &str = "left";
/// Longest that a node waits until others know that it leaves.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);
/// How many times its usual interval a node is silent before it counts as dead.
const DEAD_AFTER: f64 = 8.0;
/// Pauses longer than so many intervals say nothing about the usual one.
const LONGEST_INTERVALS: u32 = 10;
/// How many intervals a dead node stays listed.
const FORGET_AFTER_INTERVALS: u32 = 40;
/// Of how many intervals the usual one is the mean.
const SAMPLES: usize = 100;

pub(super) struct Task {
    pub(super) advertise: SocketAddr,
    pub(super) interval: Duration,
    pub(super) generation: u64,
    pub(super) announcement: watch::Receiver<Announcement>,
    pub(super) found: mpsc::Receiver<SocketAddr>,
    pub(super) seen: watch::Sender<Vec<Seen>>,
    pub(super) wire: Arc<Sealed>,
    pub(super) stop: CancellationToken,
}

/// Why chitchat no longer runs.
enum Ended {
    Stopped,
    Failed(String),
}

impl Task {
    /// Gossips until it is stopped, or nobody has the handle any more.
    pub(super) async fn run(mut self) {
        loop {
            match self.run_once().await {
                Ended::Stopped => return,
                Ended::Failed(error) => {
                    self.wire.count_failure();
                    tracing::error!(error, "gossip failed and begins anew");
                }
            }
            // What others hold of the failed run counts as that of an earlier start.
            self.generation += 1;
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(self.interval) => {}
            }
        }
    }

    async fn run_once(&mut self) -> Ended {
        let announcement = self.announcement.borrow_and_update().to_text();
        let first = vec![(ANNOUNCEMENT.to_owned(), announcement)];
        let handle = match spawn_chitchat(self.config(), first, &Opener(Arc::clone(&self.wire))).await {
            Ok(handle) => handle,
            Err(error) => return Ended::Failed(format!("{error:#}")),
        };
        let ended = self.tend(&handle).await;
        // Its own failure, if that is what ended it, was told already.
        let _ = handle.shutdown().await;
        ended
    }

    fn config(&self) -> ChitchatConfig {
        let name = self.announcement.borrow().node_id.as_str().to_owned();
        ChitchatConfig {
            chitchat_id: ChitchatId::new(name, self.generation, self.advertise),
            cluster_id: EVERYONE.to_owned(),
            gossip_interval: self.interval,
            listen_addr: self.advertise,
            seed_nodes: Vec::new(),
            failure_detector_config: FailureDetectorConfig {
                phi_threshold: DEAD_AFTER,
                sampling_window_size: SAMPLES,
                max_interval: self.interval * LONGEST_INTERVALS,
                initial_interval: self.interval,
                dead_node_grace_period: self.interval * FORGET_AFTER_INTERVALS,
            },
            // No key is ever deleted.
            marked_for_deletion_grace_period: self.interval * FORGET_AFTER_INTERVALS,
            catchup_callback: None,
            extra_liveness_predicate: None,
        }
    }

    async fn tend(&mut self, handle: &ChitchatHandle) -> Ended {
        let told = Arc::new(Notify::new());
        let (mut lives, end) = (self.listen(handle, &told).await, handle.termination_watcher());
        tokio::pin!(end);
        // Who has been dead for long enough goes without a sign.
        let mut tick = tokio::time::interval(self.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // All of these can be dropped while they wait without losing anything.
            tokio::select! {
                () = self.stop.cancelled() => return self.leave(handle).await,
                end = &mut end => {
                    return Ended::Failed(end.map_or_else(|error| format!("{error:#}"), |()| "it ended".into()));
                }
                changed = self.announcement.changed() => match changed {
                    Ok(()) => self.tell(handle).await,
                    Err(_) => return self.leave(handle).await,
                },
                Some(seed) = self.found.recv() => {
                    // Only fails when chitchat has ended, which is seen above.
                    let _ = handle.gossip(seed);
                }
                () = told.notified() => {}
                Ok(()) = lives.changed() => {}
                _ = tick.tick() => {}
            }
            self.look(handle).await;
        }
    }

    /// Has `told` notified when a node tells something new; what is returned changes when a node comes
    /// to life or dies.
    async fn listen(
        &self,
        handle: &ChitchatHandle,
        told: &Arc<Notify>,
    ) -> watch::Receiver<BTreeMap<ChitchatId, NodeState>> {
        handle
            .with_chitchat(|chitchat| {
                let told = Arc::clone(told);
                chitchat.subscribe_event("", move |_| told.notify_one()).forever();
                chitchat.live_nodes_watcher()
            })
            .await
    }

    async fn tell(&mut self, handle: &ChitchatHandle) {
        let announcement = self.announcement.borrow_and_update().to_text();
        handle.with_chitchat(|chitchat| chitchat.self_node_state().set(ANNOUNCEMENT, &announcement)).await;
    }

    async fn look(&self, handle: &ChitchatHandle) {
        let me = self.announcement.borrow().clone();
        let seen = handle.with_chitchat(|chitchat| others(chitchat, &me)).await;
        self.seen.send_if_modified(|now| {
            let is_new = *now != seen;
            *now = seen;
            is_new
        });
    }

    /// Says that this node leaves, and waits until as many were told as are alive.
    async fn leave(&self, handle: &ChitchatHandle) -> Ended {
        let mut updates = self.wire.updates();
        let before = *updates.borrow_and_update();
        let peers = handle
            .with_chitchat(|chitchat| {
                chitchat.self_node_state().set(LEFT, "");
                let me = chitchat.self_chitchat_id();
                let others = chitchat.live_nodes().filter(|id| *id != me);
                others.map(|id| id.gossip_advertise_addr).collect::<HashSet<_>>()
            })
            .await;
        for peer in &peers {
            let _ = handle.gossip(*peer);
        }
        let enough = before + peers.len() as u64;
        // Who has not heard of it in time finds out by our silence.
        let _ = timeout(LEAVE_WITHIN, updates.wait_for(|updates| *updates >= enough)).await;
        Ended::Stopped
    }
}

/// The other nodes that are not of another cluster. Of several starts of one node, one that lives counts,
/// and of those the latest.
fn others(chitchat: &Chitchat, me: &Announcement) -> Vec<Seen> {
    let lives: HashSet<&ChitchatId> = chitchat.live_nodes().collect();
    let mut nodes: BTreeMap<NodeId, ((bool, u64), Seen)> = BTreeMap::new();
    for (id, state) in chitchat.node_states() {
        let Some(announcement) = state.get(ANNOUNCEMENT).and_then(Announcement::from_text) else { continue };
        if announcement.node_id == me.node_id || me.is_foreign(announcement.cluster) {
            continue;
        }
        let alive = lives.contains(id) && !state.contains_key(LEFT);
        let rank = (alive, id.generation_id);
        if nodes.get(&announcement.node_id).is_none_or(|(other, _)| *other < rank) {
            nodes.insert(announcement.node_id.clone(), (rank, Seen { announcement, alive }));
        }
    }
    nodes.into_values().take(MAX_PEERS).map(|(_, seen)| seen).collect()
}
