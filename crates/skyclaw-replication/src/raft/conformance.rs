//! openraft's own conformance suite, run against the log and the state machine.
//!
//! Our log has no gap, not even before its first entry, as it begins with the entry that founds a cluster. Some
//! checks begin at 1 or 2: [`Filled`] puts blank entries before those.
//!
//! Three checks of the suite are left out, all others are run:
//! - `transfer_snapshot` moves the data of a snapshot from one state machine to the other by assignment. Ours is a
//!   file that the sender makes while it sends; what the check is after is checked below with a file between;
//! - `get_initial_state_membership_from_log_and_sm` appends at a place that was purged before, which our log
//!   refuses; which membership counts, log or state machine, is checked by all the `get_membership` ones;
//! - `snapshot_meta` builds a snapshot of entry 0 alone. That entry founds a cluster and changes no record, and our
//!   database counts as empty until a later one is applied; what a snapshot says is checked below.

use std::fmt::Debug;
use std::ops::RangeBounds;
use std::time::Duration;

use openraft::storage::{LogFlushed, RaftLogStorage, RaftStateMachine};
use openraft::testing::{StoreBuilder, Suite, blank_ent, log_id, membership_ent};
use openraft::{LogState, OptionalSend, RaftLogReader, RaftSnapshotBuilder, Snapshot};
use skyclaw_core::{Counters, State};
use skyclaw_store::{Position, Store};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::snapshot::SnapshotData;
use super::synced::Synced;
use super::types::{Entry, LogId, Place, RaftId, StorageError, TypeConfig, Vote};
use super::{LogStore, Memo, StateMachine};
use crate::log::Log;
use crate::machine::{self, Machine};

/// The log, with blank entries where a check leaves out the first.
#[derive(Clone)]
struct Filled(LogStore);

impl RaftLogReader<TypeConfig> for Filled {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        self.0.try_get_log_entries(range).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        self.0.limited_get_log_entries(start, end).await
    }
}

impl RaftLogStorage<TypeConfig> for Filled {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        self.0.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.0.get_log_reader().await
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        self.0.save_vote(vote).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        self.0.read_vote().await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.0.save_committed(committed).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        self.0.read_committed().await
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut entries: Vec<Entry> = entries.into_iter().collect();
        let is_new = self.0.get_log_state().await?.last_log_id.is_none();
        if let Some(first) = entries.first().map(|entry| entry.log_id).filter(|_| is_new) {
            let term = first.leader_id.term;
            let missing = (0..first.index).map(|index| blank_ent(term, first.leader_id.node_id, index));
            entries.splice(0..0, missing.collect::<Vec<_>>());
        }
        self.0.append(entries, callback).await
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.0.truncate(log_id).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.0.purge(log_id).await
    }
}

/// Keeps what a pair of stores lives on.
struct Ground {
    dir: TempDir,
    store: Store,
    machine: Machine,
}

async fn ground() -> (Ground, LogStore, StateMachine) {
    let dir = tempfile::tempdir().expect("a directory");
    let tracker = TaskTracker::new();
    let path = dir.path().join("state.db");
    let store =
        Store::open(&path, skyclaw_store::Options::default(), &tracker).await.expect("a new database").store;
    let (log, _) =
        Log::open(&dir.path().join("log"), crate::log::Options::default(), None).expect("a new log");
    let memo = Memo::open(log.clone()).expect("nothing is remembered");
    let state = State::load(Vec::new(), Vec::new(), Vec::new(), Counters::default());
    let options = machine::Options { state, position: None, lease: Duration::from_secs(60) };
    let (machine, applier) = Machine::start(options, store.clone(), &tracker);
    let copies = dir.path().join("copies");
    // The suite applies what was never appended.
    let synced = Synced::before(u64::MAX);
    let state_machine = StateMachine::new(machine.clone(), applier, Place::default(), synced, copies);
    (Ground { dir, store, machine }, LogStore::new(log, memo, everything_is_durable()), state_machine)
}

/// The suite purges what no database was ever told of.
fn everything_is_durable() -> watch::Receiver<Option<Position>> {
    watch::channel(Some(Position { index: u64::MAX, bytes: Vec::new() })).1
}

struct Builder;

impl StoreBuilder<TypeConfig, Filled, StateMachine, Ground> for Builder {
    async fn build(&self) -> Result<(Ground, Filled, StateMachine), StorageError> {
        let runtime = tokio::runtime::Handle::current();
        // The compiler cannot see that this future may be sent to another thread.
        let made = tokio::task::spawn_blocking(move || runtime.block_on(ground()));
        let (ground, log, state_machine) = made.await.expect("new stores");
        Ok((ground, Filled(log), state_machine))
    }
}

type Checks = Suite<TypeConfig, Filled, StateMachine, Builder, Ground>;

/// One test for each check of the suite, on stores of its own.
macro_rules! checks {
    ($($name:ident)*) => {$(
        #[tokio::test]
        async fn $name() {
            let (_ground, log, state_machine) = Builder.build().await.expect("new stores");
            Checks::$name(log, state_machine).await.expect("the stores do not fail");
        }
    )*};
}

checks! {
    last_membership_in_log_initial
    last_membership_in_log
    last_membership_in_log_multi_step
    get_membership_initial
    get_membership_from_log_and_empty_sm
    get_membership_from_empty_log_and_sm
    get_membership_from_log_le_sm_last_applied
    get_membership_from_log_gt_sm_last_applied_1
    get_membership_from_log_gt_sm_last_applied_2
    get_initial_state_without_init
    get_initial_state_with_state
    get_initial_state_last_log_gt_sm
    get_initial_state_last_log_lt_sm
    get_initial_state_log_ids
    get_initial_state_re_apply_committed
    save_vote
    get_log_entries
    limited_get_log_entries
    try_get_log_entry
    initial_logs
    get_log_state
    get_log_id
    last_id_in_log
    last_applied_state
    purge_logs_upto_0
    purge_logs_upto_5
    purge_logs_upto_20
    delete_logs_since_11
    delete_logs_since_0
    append_to_log
    apply_single
    apply_multiple
}

fn three_entries() -> Vec<Entry> {
    let voters = std::collections::BTreeSet::from([1, 2, 3]);
    vec![blank_ent(0, 0, 0), membership_ent(1, 0, 1, vec![voters]), blank_ent(3, 0, 2)]
}

fn named(snapshot: Option<Snapshot<TypeConfig>>) -> Option<LogId> {
    snapshot.and_then(|snapshot| snapshot.meta.last_log_id)
}

#[tokio::test]
async fn a_snapshot_that_is_built_here_can_be_installed_there() {
    let (here, _, mut sender) = ground().await;
    let (there, _, mut receiver) = ground().await;
    assert!(receiver.get_current_snapshot().await.expect("read").is_none(), "nothing was applied");
    sender.apply(three_entries()).await.expect("applied");
    let built = sender.get_snapshot_builder().await.build_snapshot().await.expect("built");
    assert_eq!(built.meta.last_log_id, Some(log_id::<RaftId>(3, 0, 2)));
    assert_eq!(*built.meta.last_membership.log_id(), Some(log_id::<RaftId>(1, 0, 1)));
    let current = sender.get_current_snapshot().await.expect("read").expect("it was built");
    assert_eq!(current.meta, built.meta);

    let file = there.dir.path().join("received.db");
    here.store.copy_to(&file).await.expect("copied");
    let received = Box::new(SnapshotData::Received { file });
    receiver.install_snapshot(&built.meta, received).await.expect("installed");
    let applied = receiver.applied_state().await.expect("read");
    assert_eq!(applied, (built.meta.last_log_id, built.meta.last_membership.clone()));
    let current = receiver.get_current_snapshot().await.expect("read").expect("it was installed");
    assert_eq!(current.meta, built.meta, "an installed copy is durable");
}

#[tokio::test]
async fn the_current_snapshot_is_one_that_is_durable_not_one_that_is_only_written() {
    let (ground, _, mut state_machine) = ground().await;
    state_machine.apply(three_entries()).await.expect("applied");
    ground.machine.settle().await.expect("written");
    assert_eq!(named(state_machine.get_current_snapshot().await.expect("read")), None);

    state_machine.get_snapshot_builder().await.build_snapshot().await.expect("built");
    let durable = Some(log_id(3, 0, 2));
    assert_eq!(named(state_machine.get_current_snapshot().await.expect("read")), durable);
    state_machine.apply([blank_ent(3, 0, 3)]).await.expect("applied");
    ground.machine.settle().await.expect("written");
    assert_eq!(named(state_machine.get_current_snapshot().await.expect("read")), durable);
}

#[tokio::test]
async fn a_committed_place_is_known_again_after_a_restart_once_more_was_appended() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || Log::open(dir.path(), crate::log::Options::default(), None).expect("a log").0;
    let log = open();
    let mut store =
        LogStore::new(log.clone(), Memo::open(log.clone()).expect("a memo"), everything_is_durable());
    let flushed = |result: std::io::Result<()>| assert!(result.is_ok(), "{result:?}");
    log.append(vec![record(0)], flushed);
    store.save_committed(Some(log_id(1, 0, 0))).await.expect("noted");
    store.save_committed(None).await.expect("noted");
    assert_eq!(store.read_committed().await.expect("read"), Some(log_id(1, 0, 0)));
    store.save_committed(Some(log_id(1, 0, 7))).await.expect("noted");
    assert_eq!(store.read_committed().await.expect("read"), None, "the log does not reach so far");
    let committed = &mut super::committed::Committed::default();
    committed.note(Some(log_id(1, 0, 0)));
    committed.save(&log);
    log.append(vec![record(1)], flushed);
    log.close().expect("closed");
    let log = open();
    let mut store = LogStore::new(log.clone(), Memo::open(log).expect("a memo"), everything_is_durable());
    assert_eq!(store.read_committed().await.expect("read"), Some(log_id(1, 0, 0)));
}

#[tokio::test]
async fn nothing_is_purged_before_the_database_holds_it_durably() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, _) = Log::open(dir.path(), crate::log::Options::default(), None).expect("a log");
    let memo = Memo::open(log.clone()).expect("a memo");
    let (database, durable) = watch::channel(None);
    let mut store = LogStore::new(log.clone(), memo, durable);
    log.append((0..5).map(record).collect(), |result| assert!(result.is_ok(), "{result:?}"));
    // As after a snapshot that goes further than the log.
    store.purge(log_id(1, 0, 8)).await.expect("noted");
    assert_eq!(log.bounds(), 0..5, "the snapshot is not installed yet");
    let appended = async {
        store.truncate(log_id(1, 0, 9)).await.expect("cut");
        log.bounds()
    };
    let installed = async {
        assert_eq!(log.bounds(), 0..5, "what comes behind waits");
        database.send_replace(Some(Position { index: 8, bytes: Vec::new() }));
    };
    let (bounds, ()) = tokio::join!(appended, installed);
    assert_eq!(bounds, 9..9);
    assert_eq!(store.get_log_state().await.expect("read").last_purged_log_id, Some(log_id(1, 0, 8)));
}

fn record(index: u64) -> crate::log::Record {
    crate::log::Record { index, payload: bytes::Bytes::from_static(b"entry") }
}
