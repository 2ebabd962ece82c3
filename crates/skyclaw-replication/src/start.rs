//! Starting a node: open what is on disk, check that it belongs together, begin to lead.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use openraft::{Config, SnapshotPolicy};
use skyclaw_core::State;
use skyclaw_proto::NodeId;
use skyclaw_store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cluster::{Autopilot, Elections, Forming, LeaderSigns, NoRoom, Standing, elections, is_sole};
use crate::due::Due;
use crate::error::{StartError, damaged};
use crate::forward::Forwarder;
use crate::keeper::Keeper;
use crate::log::{Log, OpenError, Recovered};
use crate::machine::{self, Machine};
use crate::node::{Inner, Node};
use crate::options::{Options, Stamper};
use crate::peer::Peers;
use crate::proposer::Proposer;
use crate::raft::{Identity, Incoming, LogStore, Memo, Network, Place, Raft, StateMachine};
use crate::read_index::ReadIndex;
use crate::retention::Pruner;
use crate::scheduler::Scheduler;
use crate::target::Target;
use crate::trail::Follower;

/// Databases up to this size are read as a whole before the start.
const VERIFY_BYTES: u64 = 32 * 1024 * 1024;
/// How long a node that is alone may take to lead. Replaying a long log is part of it.
const LEAD_WITHIN: Duration = Duration::from_secs(120);

impl Node {
    /// Opens what is on disk and starts to lead. What runs then runs on `tracker`.
    ///
    /// # Errors
    /// When files are damaged, in use, out of reach, or do not belong together. They are left as they
    /// are.
    pub async fn start(options: Options, tracker: &TaskTracker) -> Result<Self, StartError> {
        let dir = options.log_dir();
        let open = move |must_reach| Log::open(&dir, crate::log::Options::default(), must_reach);
        Self::start_on(options, open, tracker).await
    }

    /// The same with a log that lies elsewhere, opened with the index that it must reach.
    pub(crate) async fn start_on(
        options: Options,
        open_log: impl FnOnce(Option<u64>) -> Result<(Log, Recovered), OpenError>,
        tracker: &TaskTracker,
    ) -> Result<Self, StartError> {
        let store = skyclaw_store::Options { events: options.events, ..Default::default() };
        let opened = Store::open(&options.db_path, store, tracker).await?;
        // First, as opening the log writes to it.
        let verify = verify(&options, &opened.store).await?;
        let place = Place::of(opened.position.as_ref())
            .map_err(|error| mismatch(&options, format!("the database names no place in a log: {error}")))?;
        let must_reach = opened.position.as_ref().map(|position| position.index);
        let (log, recovered) = open_log(must_reach)?;
        if opened.position.is_none() && recovered.purged.is_some() {
            let detail = "the log has forgotten its beginning, and the database is empty".to_owned();
            return Err(mismatch(&options, detail));
        }
        // Copies that were under way when the last process ended.
        let _ = std::fs::remove_dir_all(options.copies_dir());
        let memo = Memo::open(log.clone()).map_err(|detail| raft_error(&options, detail))?;
        let identity = identify(&options, &memo).await;
        let identity = identity.map_err(|error| raft_error(&options, error.to_string()))?;
        tracing::info!(node = %identity.node_id, applied = must_reach, log = recovered.last, "opened");

        let state = State::load(opened.hosts, opened.active_jobs, opened.services, opened.counters)
            .with_restores(opened.restores, opened.staging)
            .with_freezes(opened.freezes)
            .with_schedules(opened.schedules);
        let start = machine::Options { state, position: opened.position, lease: options.lease };
        let (machine, applier) = Machine::start(start, opened.store, tracker);
        // What was found may be in the memory of the system only, and what the log purges must be on disk.
        if let Err(error) = machine.checkpoint().await {
            tracing::warn!(%error, "the database cannot be made durable at the moment");
        }
        let log_store = LogStore::new(log.clone(), memo.clone(), machine.watch_checkpointed());
        let (appended, synced) = (log_store.appended_bytes(), log_store.synced());
        let state_machine =
            StateMachine::new(machine.clone(), applier, place, synced.clone(), options.copies_dir());
        let (cluster, _) = watch::channel(identity.cluster);
        let boot = (options.new_uuid)().as_u64_pair().1;
        let wire = Arc::clone(&options.wire);
        let peers = Arc::new(Peers::new(&options.token, wire, identity.raft_id, boot, cluster.subscribe()));
        let config = Arc::new(config().map_err(|detail| raft_error(&options, detail))?);
        let network = Network { peers: Arc::clone(&peers), synced, tracker: tracker.clone() };
        let raft = Raft::new(identity.raft_id, config, network, log_store, state_machine).await;
        let raft = raft.map_err(|error| raft_error(&options, error.to_string()))?;
        // Before it has begun, its metrics say that there are no members.
        let begun = raft.with_raft_state(|_| ()).await;
        begun.map_err(|error| raft_error(&options, error.to_string()))?;

        let needed = options.min_replications.max(1) - 1;
        let target = Arc::new(Target { needed, heard_of: AtomicU32::new(0), peers: Arc::clone(&peers) });
        let stamper = Stamper { node: identity.node_id.clone(), clock: options.clock };
        let proposer =
            Proposer::start(raft.clone(), log.clone(), machine.clone(), Arc::clone(&target), tracker);
        let (leading_tx, leading) = watch::channel(false);
        let stop = CancellationToken::new();
        let keeper = Keeper {
            raft: raft.clone(),
            machine: machine.clone(),
            proposer: proposer.clone(),
            stamper: stamper.clone(),
            appended,
            lease: options.lease,
            stop: stop.clone(),
            waits: AtomicBool::new(false),
            leading: leading_tx,
        };
        tracker.spawn(keeper.run());
        let due = Due {
            proposer: proposer.clone(),
            stamper: stamper.clone(),
            next: machine.watch_due(),
            leading: leading.clone(),
            stop: stop.clone(),
        };
        tracker.spawn(due.run());
        let scheduler = Scheduler {
            machine: machine.clone(),
            proposer: proposer.clone(),
            stamper: stamper.clone(),
            new_uuid: options.new_uuid,
            leading: leading.clone(),
            stop: stop.clone(),
        };
        tracker.spawn(scheduler.run());
        let pruner = Pruner {
            machine: machine.clone(),
            proposer: proposer.clone(),
            stamper: stamper.clone(),
            keep: options.jobs,
            leading: leading.clone(),
            stop: stop.clone(),
        };
        tracker.spawn(pruner.run());
        let (forwarder, forwarded) = Forwarder::new();
        let (known, _) = watch::channel(BTreeSet::new());
        let (found, autopilot) = watch::channel(None);
        let standing = match identity.cluster {
            Some(_) => Standing::Member,
            None => Standing::Forming { waiting_for: "it has only just begun to look for others".to_owned() },
        };
        let inner = Arc::new(Inner {
            standing: watch::channel(standing).0,
            signs: LeaderSigns::default(),
            stands: Arc::new(AtomicBool::new(true)),
            autopilot,
            meters: machine.meters().clone(),
            db_path: options.db_path.clone(),
            copies: options.copies_dir(),
            read_index: ReadIndex::start(raft.clone(), tracker),
            raft,
            log,
            machine,
            proposer,
            stamper,
            lease: options.lease,
            target,
            forwarder,
            peers,
            memo,
            identity,
            cluster,
            url: options.url.clone(),
            incoming: Incoming::new(options.copies_dir()),
            known,
            gossip: OnceLock::new(),
            leading,
            stop: stop.clone(),
            follow: Follower::new(),
            verify,
        });
        tracker.spawn(crate::forward::serve(Arc::downgrade(&inner), forwarded, tracker.clone()));
        let autopilot = Autopilot { max_voters: options.max_voters.max(1), found, stop: stop.clone() };
        tracker.spawn(autopilot.run(Arc::downgrade(&inner)));
        tracker.spawn(NoRoom { stop: stop.clone() }.run(Arc::downgrade(&inner)));
        let elections = Elections {
            id: inner.identity.raft_id,
            raft: inner.raft.clone(),
            stands: Arc::clone(&inner.stands),
            new_uuid: options.new_uuid,
            stop: stop.clone(),
        };
        tracker.spawn(elections.run());
        tracker.spawn(inner.meters.clone().follow(inner.raft.clone(), stop));
        let node = Self(inner);
        for url in &options.peer_urls {
            node.learn(url);
        }
        if let Some(discovery) = options.discovery {
            node.gossip(discovery, &options.token, boot, tracker).await;
        }
        node.begin(&options, tracker).await.map_err(|detail| raft_error(&options, detail))?;
        Ok(node)
    }

    /// Begins to form or join a cluster. A node without peers waits until it leads: it needs nobody.
    async fn begin(&self, options: &Options, tracker: &TaskTracker) -> Result<(), String> {
        let forming = Forming {
            known: self.0.known.subscribe(),
            configured: options.peer_urls.clone(),
            expect: options.bootstrap_expect.max(1),
            new_uuid: options.new_uuid,
        };
        let (inner, stop) = (Arc::downgrade(&self.0), self.0.stop.clone());
        if !forming.configured.is_empty() {
            // Whoever could lead alone must not, until it knows that it is among its own.
            if self.0.cluster.borrow().is_some() && is_sole(&self.0) {
                self.0.stand(&Standing::Unsure);
                // What its log holds is committed, as nobody else votes, and can be read whoever the others are.
                self.lead_alone().await?;
            }
            tracker.spawn(async move {
                let Some(node) = inner.upgrade() else { return };
                let belongs = tokio::select! {
                    () = stop.cancelled() => return,
                    belongs = forming.belong(&node) => belongs,
                };
                drop(node);
                match belongs {
                    Ok(()) => forming.watch(inner, stop).await,
                    Err(error) => tracing::error!(%error, "the node could not form or join a cluster"),
                }
            });
            return Ok(());
        }
        forming.belong(&self.0).await?;
        tracker.spawn(forming.watch(inner, stop));
        if self.members().len() > 1 {
            return Ok(());
        }
        self.lead_alone().await
    }

    /// Has the only voter elected, and waits until it leads: there is nobody to wait for.
    async fn lead_alone(&self) -> Result<(), String> {
        let raft = &self.0.raft;
        raft.trigger().elect().await.map_err(|error| error.to_string())?;
        let mut leading = self.0.leading.clone();
        let led = async {
            leading.wait_for(|leading| *leading).await.map_err(|e| e.to_string())?;
            raft.ensure_linearizable().await.map(drop).map_err(|e| e.to_string())
        };
        let within = tokio::time::timeout(LEAD_WITHIN, led).await;
        within.unwrap_or_else(|_| Err(format!("it did not lead within {} s", LEAD_WITHIN.as_secs())))
    }
}

/// Reads the whole database, every record of it, before it is used; a large one is handed back, to be read
/// while it is.
async fn verify(options: &Options, store: &Store) -> Result<Option<(PathBuf, Store)>, StartError> {
    let path = &options.db_path;
    if std::fs::metadata(path).is_ok_and(|file| file.len() > VERIFY_BYTES) {
        return Ok(Some((path.clone(), store.clone())));
    }
    store.verify().await.map_err(|error| damaged(path, &error))?;
    Ok(None)
}

/// Who this node is: as it was at its first start, but with the name it is given now.
async fn identify(options: &Options, memo: &Memo) -> std::io::Result<Identity> {
    let known = memo.identity().await;
    let make_name = || NodeId::from_uuid((options.new_uuid)());
    let mut identity = known.clone().unwrap_or_else(|| Identity {
        raft_id: (options.new_uuid)().as_u64_pair().1,
        node_id: options.node_id.clone().unwrap_or_else(make_name),
        cluster: None,
    });
    if let Some(name) = &options.node_id {
        identity.node_id = name.clone();
    }
    if known.as_ref() != Some(&identity) {
        memo.set_identity(identity.clone()).await?;
    }
    Ok(identity)
}

fn config() -> Result<Config, String> {
    Config {
        cluster_name: "skyclaw".to_owned(),
        // Also how long a follower may take to answer, the sync of its disk included. Sent every one and a half.
        heartbeat_interval: 200,
        // `Elections` says when, openraft only how long it waits for votes and honours a leader.
        enable_elect: false,
        election_timeout_min: millis(elections::VOTES_WITHIN),
        election_timeout_max: millis(elections::LEASE),
        // The keeper asks for snapshots, by the bytes the log has gathered.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 16,
        ..Config::default()
    }
    .validate()
    .map_err(|error| error.to_string())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn mismatch(options: &Options, detail: String) -> StartError {
    StartError::Mismatch { db: options.db_path.clone(), log: options.log_dir(), detail }
}

fn raft_error(options: &Options, detail: String) -> StartError {
    StartError::Raft { log: options.log_dir(), detail }
}
