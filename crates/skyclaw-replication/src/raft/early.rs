//! What a leader reports before it is on its own disk, and what waits until it is.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use openraft::RaftLogReader as _;
use openraft::storage::{RaftLogStorage as _, RaftLogStorageExt as _, RaftStateMachine as _};
use openraft::testing::blank_ent;
use skyclaw_core::{Counters, State};
use skyclaw_proto::NodeId;
use skyclaw_store::Store;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::log_store::Identity;
use super::types::{Place, Vote};
use super::{LogStore, Memo, StateMachine};
use crate::log::Log;
use crate::log::sim_disk::SimDisk;
use crate::machine::{self, Machine};

const ME: u64 = 7;
const OTHER: u64 = 8;
/// Small, as a disk in memory is.
const LOG: crate::log::Options =
    crate::log::Options { segment_bytes: 1 << 20, cache_bytes: 1 << 20, max_record_bytes: 1 << 19 };

/// A node whose log lies on a disk that can be held.
struct Ground {
    runtime: Runtime,
    disk: SimDisk,
    log: LogStore,
    state_machine: StateMachine,
    machine: Machine,
    _dir: TempDir,
}

fn ground(vote: Vote) -> Ground {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let (runtime, disk) = (runtime.expect("a runtime"), SimDisk::new());
    let dir = tempfile::tempdir().expect("a directory");
    let (log, state_machine, machine) = runtime.block_on(Box::pin(stores(vote, &disk, &dir)));
    Ground { runtime, disk, log, state_machine, machine, _dir: dir }
}

async fn stores(vote: Vote, disk: &SimDisk, dir: &TempDir) -> (LogStore, StateMachine, Machine) {
    let tracker = TaskTracker::new();
    let path = dir.path().join("state.db");
    let store =
        Store::open(&path, skyclaw_store::Options::default(), &tracker).await.expect("a database").store;
    let state = State::load(Vec::new(), Vec::new(), Vec::new(), Counters::default());
    let options = machine::Options { state, position: None, lease: Duration::from_secs(60) };
    let (machine, applier) = Machine::start(options, store, &tracker);
    let (log, _) = Log::open_on(Arc::new(disk.clone()), LOG, None).expect("a new log");
    let memo = Memo::open(log.clone()).expect("nothing is remembered");
    let node_id = NodeId::parse("me").expect("an id");
    let me = Identity { raft_id: ME, node_id, cluster: None };
    memo.set_identity(me).await.expect("remembered");
    let mut log = LogStore::new(log, memo, watch::channel(None).1);
    log.save_vote(&vote).await.expect("saved");
    let copies = dir.path().join("copies");
    let state_machine = StateMachine::new(machine.clone(), applier, Place::default(), log.synced(), copies);
    (log, state_machine, machine)
}

fn is_pending(runtime: &Runtime, future: Pin<&mut impl Future>) -> bool {
    let _runtime = runtime.enter();
    future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[test]
fn a_leaders_entry_is_passed_on_before_it_is_on_its_disk_and_applied_only_after() {
    let Ground { runtime, disk, mut log, mut state_machine, machine, _dir } =
        ground(Vote::new_committed(3, ME));
    let held = disk.hold_syncs();
    let entry = blank_ent(3, ME, 0);
    runtime.block_on(log.blocking_append([entry.clone(), blank_ent(3, ME, 1)])).expect("reported");
    assert_eq!(runtime.block_on(log.try_get_log_entries(0..2)).expect("read").len(), 2, "it can be sent");
    let mut applied = Box::pin(state_machine.apply([entry, blank_ent(3, ME, 1)]));
    assert!(is_pending(&runtime, applied.as_mut()));
    // The machine would have applied it long before it has answered so often.
    for _ in 0..100 {
        runtime.block_on(machine.look(|_| ())).expect("it runs");
    }
    assert_eq!(machine.applied(), 0, "nothing is applied that this node could lose");
    drop(held);
    runtime.block_on(applied).expect("applied");
    assert_eq!(machine.applied(), 1);
}

#[test]
fn what_another_made_is_reported_when_it_is_on_disk() {
    for vote in
        [Vote::new_committed(3, OTHER), Vote::new_committed(4, ME), Vote::new(3, OTHER), Vote::new(4, ME)]
    {
        let Ground { runtime, disk, mut log, .. } = ground(vote);
        let held = disk.hold_syncs();
        let mut appended = Box::pin(log.blocking_append([blank_ent(3, OTHER, 0)]));
        assert!(is_pending(&runtime, appended.as_mut()), "{vote}");
        drop(held);
        runtime.block_on(appended).expect("reported");
    }
}

/// openraft goes on leading when it finds that it led.
#[test]
fn a_restarted_leader_does_not_find_itself_elected_and_others_are_found_as_they_were() {
    let read = |vote| {
        let Ground { runtime, mut log, .. } = ground(vote);
        runtime.block_on(log.read_vote()).expect("read")
    };
    assert_eq!(read(Vote::new_committed(3, ME)), Some(Vote::new(3, ME)));
    for vote in [Vote::new(3, ME), Vote::new(3, OTHER), Vote::new_committed(3, OTHER)] {
        assert_eq!(read(vote), Some(vote));
    }
}

#[test]
fn a_leader_whose_disk_fails_applies_nothing_and_takes_no_more_entries() {
    let Ground { runtime, disk, mut log, mut state_machine, machine, _dir } =
        ground(Vote::new_committed(3, ME));
    let held = disk.hold_syncs();
    runtime.block_on(log.blocking_append([blank_ent(3, ME, 0)])).expect("reported");
    disk.set_fuse(Some(0));
    drop(held);
    let applied = runtime.block_on(state_machine.apply([blank_ent(3, ME, 0)]));
    assert!(applied.is_err(), "{applied:?}");
    assert!(runtime.block_on(log.blocking_append([blank_ent(3, ME, 1)])).is_err());
    assert_eq!(machine.applied(), 0);
}
