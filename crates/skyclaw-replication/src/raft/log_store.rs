//! The durable log as openraft wants to see it, and the little a node must remember beside it.

#![expect(clippy::result_large_err, reason = "openraft's storage error is as large as it is")]

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{ErrorSubject, ErrorVerb, LogState, OptionalSend, RaftLogReader};
use serde::{Deserialize, Serialize};
use skyclaw_proto::NodeId;
use skyclaw_store::Position;
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use super::committed::Committed;
use super::recent::Recent;
use super::synced::Synced;
use super::types::{Entry, LogId, RaftId, StorageError, TypeConfig, Vote};
use crate::log::{Cell, Log, Mark, Record};

/// Who a node is, for as long as its log lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) raft_id: RaftId,
    pub(crate) node_id: NodeId,
    /// The cluster it belongs to; `None` until it has formed or joined one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cluster: Option<Uuid>,
}

/// What is kept in the log's cell, as one value, so that a vote can never be without its voter.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Remembered {
    identity: Option<Identity>,
    vote: Option<Vote>,
}

/// What a node remembers beside its log. One owner, so that a vote and an identity that are saved at the
/// same time do not undo each other.
#[derive(Clone)]
pub(crate) struct Memo {
    log: Log,
    remembered: Arc<tokio::sync::Mutex<Remembered>>,
}

impl Memo {
    /// # Errors
    /// When what is remembered cannot be understood.
    pub(crate) fn open(log: Log) -> Result<Self, String> {
        let remembered = match log.load(Cell::Vote) {
            None => Remembered::default(),
            Some(bytes) => {
                rmp_serde::from_slice(&bytes).map_err(|error| format!("its vote is unreadable: {error}"))?
            }
        };
        Ok(Self { log, remembered: Arc::new(tokio::sync::Mutex::new(remembered)) })
    }

    /// Who this node is; `None` before its first start.
    pub(crate) async fn identity(&self) -> Option<Identity> {
        self.remembered.lock().await.identity.clone()
    }

    /// Remembers who this node is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) async fn set_identity(&self, identity: Identity) -> io::Result<()> {
        self.change(|remembered| remembered.identity = Some(identity)).await
    }

    /// Whether an entry is of the term in which this node was elected, and so of its own making.
    async fn leads_in_term_of(&self, entry: &LogId) -> bool {
        let remembered = self.remembered.lock().await;
        let (Some(vote), Some(me)) = (&remembered.vote, &remembered.identity) else { return false };
        vote.committed && vote.leader_id.node_id == me.raft_id && vote.leader_id == entry.leader_id
    }

    /// The order of the saves must be the order of the changes, so the lock is held while saving.
    async fn change(&self, change: impl FnOnce(&mut Remembered)) -> io::Result<()> {
        let mut remembered = self.remembered.lock().await;
        change(&mut remembered);
        let bytes = rmp_serde::to_vec_named(&*remembered).map_err(io::Error::other)?;
        settled(|done| self.log.save(Cell::Vote, bytes.into(), done)).await
    }
}

/// The durable log as openraft wants to see it.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: Log,
    memo: Memo,
    appended: Arc<AtomicU64>,
    committed: Committed,
    /// How far the log itself is on disk.
    synced: Synced,
    /// How far the database is durable.
    durable: watch::Receiver<Option<Position>>,
    /// What is to be purged as soon as the database holds it durably.
    purging: Option<LogId>,
    /// What was appended last; changes together with the log, for which `&mut self` of the one writer stands.
    recent: Arc<Mutex<Recent>>,
}

/// How long a snapshot may take to be installed when entries behind it wait.
const INSTALL_WITHIN: Duration = Duration::from_secs(180);
/// Most bytes read from the log at once.
const READ_BYTES: usize = 1024 * 1024;

impl LogStore {
    /// `durable` says how far the database is durable: nothing is purged beyond.
    pub(crate) fn new(log: Log, memo: Memo, durable: watch::Receiver<Option<Position>>) -> Self {
        let (appended, committed, recent) = Default::default();
        // What was found when it was opened is on disk.
        let synced = Synced::before(log.bounds().end);
        Self { log, memo, appended, committed, synced, durable, purging: None, recent }
    }

    /// How far the log is on disk.
    pub(crate) fn synced(&self) -> Synced {
        self.synced.clone()
    }

    /// How many bytes were appended since the start; grows on.
    pub(crate) fn appended_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.appended)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read_entries(&self, range: Range<u64>, limit: usize) -> Result<Vec<Entry>, StorageError> {
        if let Some(entries) = self.recent().read(&range, limit) {
            return Ok(entries);
        }
        let records =
            self.log.read(range, limit).await.map_err(|e| failed(ErrorVerb::Read, io::Error::other(e)))?;
        records.iter().map(|record| decode(&record.payload)).collect()
    }

    /// Purges what was asked for, once the database holds it durably. The log has no gaps, so nothing can be
    /// appended or cut off before.
    async fn purge_what_waits(&mut self) -> Result<(), StorageError> {
        let Some(log_id) = self.purging else { return Ok(()) };
        let durable = self.durable.wait_for(|durable| is_durable(durable.as_ref(), log_id));
        if !matches!(tokio::time::timeout(INSTALL_WITHIN, durable).await, Ok(Ok(_))) {
            let why =
                format!("the database does not hold entry {} durably, so it is not purged", log_id.index);
            return Err(failed(ErrorVerb::Delete, io::Error::other(why)));
        }
        self.recent().purge(log_id.index);
        let mark = Mark { index: log_id.index, bytes: encode(&log_id)? };
        let purged = settled(|done| self.log.purge_to(mark, done)).await;
        purged.map_err(|source| failed(ErrorVerb::Delete, source))?;
        self.synced.reach(log_id.index);
        self.purging = None;
        Ok(())
    }

    /// The id of an entry that is there.
    async fn log_id(&self, index: u64) -> Result<Option<LogId>, StorageError> {
        let entries = self.read_entries(index..index + 1, READ_BYTES).await?;
        Ok(entries.first().map(|entry| entry.log_id))
    }
}

fn is_durable(durable: Option<&Position>, log_id: LogId) -> bool {
    durable.is_some_and(|position| position.index >= log_id.index)
}

fn failed(verb: ErrorVerb, source: io::Error) -> StorageError {
    StorageError::from_io_error(ErrorSubject::Logs, verb, source)
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, StorageError> {
    rmp_serde::from_slice(bytes).map_err(|error| failed(ErrorVerb::Read, io::Error::other(error)))
}

fn encode<T: Serialize>(value: &T) -> Result<Bytes, StorageError> {
    let bytes = rmp_serde::to_vec_named(value).map_err(|e| failed(ErrorVerb::Write, io::Error::other(e)))?;
    Ok(bytes.into())
}

/// Waits for the log to report what was asked of it.
async fn settled(ask: impl FnOnce(Box<dyn FnOnce(io::Result<()>) + Send>)) -> io::Result<()> {
    let (done, report) = oneshot::channel();
    ask(Box::new(move |result| {
        let _ = done.send(result);
    }));
    report.await.unwrap_or_else(|_| Err(io::Error::other("the log has ended")))
}

fn half_open(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last + 1,
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end.max(start)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let bounds = self.log.bounds();
        let Range { start, end } = half_open(&range);
        let (mut next, end) = (start.max(bounds.start), end.min(bounds.end));
        let mut entries = Vec::new();
        while next < end {
            let part = self.read_entries(next..end, READ_BYTES).await?;
            let Some(last) = part.last() else { break };
            next = last.log_id.index + 1;
            entries.extend(part);
        }
        Ok(entries)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        self.read_entries(start..end, READ_BYTES).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let last_purged_log_id = self.log.purged().map(|mark| decode(&mark.bytes)).transpose()?;
        let bounds = self.log.bounds();
        let last_log_id = if bounds.is_empty() { None } else { self.log_id(bounds.end - 1).await? };
        Ok(LogState { last_purged_log_id, last_log_id: last_log_id.or(last_purged_log_id) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let saved = self.memo.change(|remembered| remembered.vote = Some(*vote)).await;
        saved.map_err(|source| StorageError::from_io_error(ErrorSubject::Vote, ErrorVerb::Write, source))
    }

    /// openraft would go on leading in its old term after a restart. Entries of that term may be with others that
    /// are not here any more, and others must not be written in their place: it has to be elected anew, in a new term.
    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let remembered = self.memo.remembered.lock().await;
        let mut vote = remembered.vote;
        if let Some(vote) = &mut vote
            && remembered.identity.as_ref().is_some_and(|me| me.raft_id == vote.leader_id.node_id)
        {
            vote.committed = false;
        }
        Ok(vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.committed.note(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.committed.known(&self.log))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.purge_what_waits().await?;
        let mut records = Vec::new();
        let (mut bytes, mut last) = (0, None);
        for entry in entries {
            let payload = encode(&entry)?;
            bytes += Log::cost(payload.len());
            let index = entry.log_id.index;
            last = Some(entry.log_id);
            self.recent().push(entry, payload.len());
            records.push(Record { index, payload });
        }
        self.appended.fetch_add(bytes, Ordering::Relaxed);
        self.committed.save(&self.log);
        let Some(last) = last else {
            callback.log_io_completed(Ok(()));
            return Ok(());
        };
        let synced = self.synced.clone();
        let note = move |result: &io::Result<()>| match result {
            Ok(()) => synced.reach(last.index),
            Err(error) => synced.fail(error.to_string()),
        };
        if !self.memo.leads_in_term_of(&last).await {
            self.log.append(records, move |result| {
                note(&result);
                callback.log_io_completed(result);
            });
            return Ok(());
        }
        // The others can have it meanwhile; what waits for our own disk waits for `synced`.
        self.log.append(records, move |result| note(&result));
        callback.log_io_completed(Ok(()));
        match self.synced.failure() {
            None => Ok(()),
            Some(why) => Err(failed(ErrorVerb::Write, io::Error::other(why))),
        }
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.purge_what_waits().await?;
        self.recent().truncate(log_id.index);
        let truncated = settled(|done| self.log.truncate_from(log_id.index, done)).await;
        self.synced.cut_from(log_id.index);
        truncated.map_err(|source| failed(ErrorVerb::Delete, source))
    }

    /// openraft asks for this as soon as it has ordered that a snapshot be installed, not when that is done. A
    /// process that ended in between would come back without the entries and without the snapshot.
    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.purging = Some(log_id);
        if is_durable(self.durable.borrow().as_ref(), log_id) {
            self.purge_what_waits().await
        } else {
            Ok(())
        }
    }
}
