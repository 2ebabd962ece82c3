//! A node of the simulated cluster: on a runtime of its own, a log on a simulated disk, and a database of which
//! copies are kept, so that it can be put back to what it was.
//!
//! A node that is killed loses its runtime at once, with everything that ran on it, and its disk is taken away
//! from whatever thread still has it. Its database is opened again as the system kept it. When the power goes,
//! the log loses what was not synced, and the database goes back to one of the copies: any that was made at
//! or after its last checkpoint, which is all that a checkpoint promises.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use skyclaw_proto::{NodeId, Timestamp};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::net::Net;
use crate::log::Log;
use crate::log::sim_disk::{End, SimDisk};
use crate::{JobRetention, Node, Options, StartError};

/// Small, as a disk in memory is; and large enough for an entry and the reserve of the proposer.
const LOG: crate::log::Options =
    crate::log::Options { segment_bytes: 2 << 20, cache_bytes: 1 << 20, max_record_bytes: 1 << 20 };
/// Copies of a database that are kept.
const COPIES: usize = 4;

/// What all nodes have in common.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) net: Arc<Net>,
    pub(super) urls: Vec<String>,
    pub(super) lease: Duration,
    pub(super) min_replications: u32,
    pub(super) keep: JobRetention,
}

/// A copy of a database.
struct Copy {
    index: u64,
    path: PathBuf,
}

/// A node that runs or lies dead.
pub(super) struct Member {
    pub(super) url: String,
    common: Common,
    dir: TempDir,
    /// Counts the databases: each has a directory of its own, as SQLite may not be done with the last.
    database: usize,
    copies: Vec<Copy>,
    copied: usize,
    /// The database is known to have been durable up to here.
    durable: u64,
    /// How often it was killed or lost power.
    pub(super) crashes: usize,
    pub(super) disk: SimDisk,
    running: Option<Runtime>,
}

/// How much faster the wall clock goes: what it decides comes soon, and what it must not decide comes too soon to be overlooked.
pub(super) const CLOCK_SPEED: u32 = 10;

/// The wall clock of all nodes and clients.
pub(super) fn clock() -> Timestamp {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    Timestamp::from_millis(1_767_225_600_000).plus(BEGAN.elapsed() * CLOCK_SPEED)
}

impl Member {
    pub(super) fn new(common: &Common, url: &str) -> Self {
        Self {
            url: url.to_owned(),
            common: common.clone(),
            dir: tempfile::tempdir().expect("a directory"),
            database: 0,
            copies: Vec::new(),
            copied: 0,
            durable: 0,
            crashes: 0,
            disk: SimDisk::new(),
            running: None,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn node(&self) -> Option<Node> {
        self.common.net.node(&self.url).map(|(node, _)| node)
    }

    fn db_path(&self) -> PathBuf {
        self.dir.path().join(self.database.to_string()).join("coordinator.db")
    }

    fn options(&self) -> Options {
        let name = self.url.trim_start_matches("http://");
        Options {
            node_id: Some(NodeId::parse(&format!("node-{name}")).expect("an id")),
            db_path: self.db_path(),
            lease: self.common.lease,
            token: "simulated".to_owned(),
            url: Some(self.url.clone()),
            peer_urls: self.common.urls.iter().filter(|url| **url != self.url).cloned().collect(),
            bootstrap_expect: self.common.urls.len(),
            max_voters: 5,
            discovery: None,
            wire: self.common.net.port(&self.url),
            events: skyclaw_store::Retention::default(),
            jobs: self.common.keep,
            min_replications: self.common.min_replications,
            clock,
            new_uuid: Uuid::now_v7,
        }
    }

    /// Starts the node. What it finds must be in order, whatever was lost.
    pub(super) async fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(self.url.trim_start_matches("http://"))
            .enable_all()
            .build()
            .expect("a runtime");
        let node = loop {
            let (options, disk) = (self.options(), Arc::new(self.disk.clone()));
            std::fs::create_dir_all(self.db_path().parent().expect("it has one")).expect("a directory");
            let handle = runtime.handle().clone();
            // The compiler cannot see that this future may be sent to another thread.
            let started = tokio::task::spawn_blocking(move || {
                let open = move |must_reach| Log::open_on(disk, LOG, must_reach);
                handle.block_on(Node::start_on(options, open, &TaskTracker::new()))
            });
            match started.await.expect("starting does not panic") {
                Ok(node) => break node,
                // The thread that closes the database of the process that was killed is not done yet.
                Err(StartError::Store(error)) if error.to_string().contains("in use") => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => panic!("{} cannot start: {error}", self.url),
            }
        };
        self.common.net.plug_in(&self.url, node, runtime.handle().clone());
        self.running = Some(runtime);
    }

    /// Ends the node without warning.
    pub(super) async fn crash(&mut self, end: End, rng: &mut StdRng) {
        let (Some(runtime), Some(node)) = (self.running.take(), self.node()) else { return };
        self.crashes += 1;
        self.common.net.unplug(&self.url);
        self.disk = self.disk.taken_by(end, rng);
        // What becomes durable from here on can have had no consequence: the log is gone already.
        let durable = node.0.machine.checkpointed().map_or(0, |position| position.index);
        self.durable = self.durable.max(durable);
        drop(node);
        // Dropping a runtime waits for what blocks, which is not allowed here.
        let ended = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(10)));
        ended.await.expect("the runtime ends");
        if let End::Power = end {
            self.lose_database(rng);
        }
    }

    /// Puts the database back to one that power loss may leave.
    fn lose_database(&mut self, rng: &mut StdRng) {
        self.copies.retain(|copy| copy.index >= self.durable);
        // All that was written may have reached the disk as well.
        if rng.random_bool(0.2) {
            return;
        }
        let copy = match self.copies.len() {
            0 if self.durable > 0 => return,
            0 => None,
            all => self.copies.get(rng.random_range(0..all)),
        };
        self.database += 1;
        let path = self.db_path();
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
        if let Some(copy) = copy {
            std::fs::copy(&copy.path, &path).expect("copied");
            let index = copy.index;
            // Those that are newer were never on this disk.
            self.copies.retain(|copy| copy.index <= index);
        }
    }

    /// Keeps a copy of the database as it is now.
    pub(super) async fn copy_database(&mut self) {
        let Some((node, runtime)) = self.common.net.node(&self.url) else { return };
        self.copied += 1;
        let path = self.dir.path().join(format!("copy-{}.db", self.copied));
        let to = path.clone();
        let copied = runtime.spawn(async move { node.0.machine.store().copy_to(&to).await });
        let Ok(Ok(copied)) = copied.await else { return };
        if let Some(position) = copied.position {
            self.copies.push(Copy { index: position.index, path });
        }
        if self.copies.len() > COPIES {
            let old = self.copies.remove(0);
            std::fs::remove_file(old.path).expect("it was there");
        }
    }

    /// Has the node compact its log.
    pub(super) async fn compact(&self) {
        let Some((node, runtime)) = self.common.net.node(&self.url) else { return };
        let _ = runtime.spawn(async move { node.0.raft.trigger().snapshot().await }).await;
    }

    /// Ends the node as it should end.
    pub(super) async fn stop(&mut self) {
        let (Some(runtime), Some(node)) = (self.running.take(), self.node()) else { return };
        let _ = runtime.spawn(async move { node.shutdown().await }).await;
        self.common.net.unplug(&self.url);
        runtime.shutdown_background();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Elsewhere than here a runtime waits for what blocks, which is not allowed where this is dropped.
        if let Some(runtime) = self.running.take() {
            runtime.shutdown_background();
        }
    }
}
