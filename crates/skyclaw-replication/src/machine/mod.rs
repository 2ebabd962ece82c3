//! The task that owns the replicated state.
//!
//! ```text
//!  log ──apply──► Machine ──► replies
//!                  │  ▲ └──► effects taken in (wake claims, count leases)
//!  look-ups ───────┘  │
//!                     └── twice a second: one transaction with all that changed ──► database
//! ```
//!
//! Commands are applied in memory at once; what they changed is written to the database a little later,
//! many commands in one transaction. Until then it is found in [`memory::Unwritten`]. Nothing is lost by
//! that: the log holds every command durably and is purged only up to what the database holds durably.
//!
//! Who looks something up does so itself while the task waits, and has the task do it while it is at work: between two
//! batches in either case ([`Machine::look`]).
//!
//! When the database cannot be written (a full disk), the batch is kept and tried again; meanwhile
//! [`Machine`] says so through its health, and the proposer takes no more writes.

mod ahead;
pub(crate) mod claims;
mod explain;
mod handle;
mod hearing;
mod leases;
pub(crate) mod live;
pub(crate) mod logs;
pub(crate) mod memory;
mod orders;
mod parking;
mod past;
mod restore;
mod seen;
mod timetable;
mod watchers;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use skyclaw_core::{Change, Command, Effect, Notice, Refusal, Reply, State};
use skyclaw_proto::{EventId, Timestamp};
use skyclaw_store::{CommitError, Position, Store};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::Instant;

use self::ahead::Ahead;
pub(crate) use self::handle::{Applier, Gone, Machine, Options};
use self::memory::Memory;
pub(crate) use self::parking::Woken;
use self::past::{Fetched, Past};
pub(crate) use self::restore::{GoBack, refusal, snapshot_of, with_causes};
use self::restore::{Going, Worked, poll_back};
pub(crate) use self::timetable::ScheduleCounts;
use crate::metrics::Meters;

/// What came of one command.
pub(crate) type Answer = Result<Reply, Refusal>;

/// How the writing to the database goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// The place in the log up to which the database holds everything; `None` before the first.
    pub(crate) position: Option<Position>,
    /// Why the database cannot be written at the moment.
    pub(crate) trouble: Option<String>,
}

impl Written {
    /// The index of that place.
    pub(crate) fn index(&self) -> u64 {
        self.position.as_ref().map_or(0, |position| position.index)
    }
}

/// One entry of the log, or several at once.
#[derive(Debug)]
pub(crate) struct Apply {
    /// The place in the log after these.
    pub(crate) position: Position,
    /// The commands of each entry; none for an entry of the log's own.
    pub(crate) entries: Vec<Arc<Vec<Command>>>,
    /// Where the answers go, entry by entry. An error says that the node can go on no more.
    pub(crate) answers: oneshot::Sender<Result<Vec<Vec<Answer>>, String>>,
}

/// The whole state is replaced by that of a copy.
#[derive(Debug)]
pub(crate) struct Install {
    /// The copy.
    pub(crate) file: PathBuf,
    /// How far in the log the copy goes. An error says that the node can go on no more.
    pub(crate) done: oneshot::Sender<Result<Option<Position>, String>>,
}

/// What the log asks for, in its order.
#[derive(Debug)]
pub(crate) enum Order {
    Apply(Apply),
    Install(Install),
    GoBack(Box<GoBack>),
}

type Look = Box<dyn FnOnce(&mut Memory) + Send>;
type Commit = Pin<Box<dyn Future<Output = Result<(), CommitError>> + Send>>;

/// How long changes are collected before they are written, unless they are many. What changes again meanwhile is written
/// once, and a page that many of them touch, as the end of an index, as well.
const FLUSH_AFTER: Duration = Duration::from_millis(500);
/// So many are written at once: what is written together is synced together, and the log waits for the disk meanwhile.
const FLUSH_BYTES: usize = 4 * 1024 * 1024;
/// How long to wait before a write that failed is tried again.
const FLUSH_RETRY: Duration = Duration::from_millis(500);
/// How often those who wait are looked after.
const SWEEP_EVERY: Duration = Duration::from_millis(500);
/// Past this, no more commands are applied until something is written.
const MAX_PENDING_BYTES: usize = 64 * 1024 * 1024;

/// Where the memory is while nobody is at it. Who works with it takes it out and puts it back: it is no more when the task
/// has ended, or somebody panicked over it.
type Place = Mutex<Option<Box<Memory>>>;

/// What the task waits for.
enum Event {
    Committed(Result<(), CommitError>),
    Look(Look),
    /// `None` when there will be no more.
    Order(Option<Order>),
    Hurry,
    Flush,
    WentBack(Worked),
    LookAgain,
    Sweep,
}

/// Of the memory, which others look at between two events, each method is told.
struct Task {
    store: Store,
    applied: watch::Sender<u64>,
    written: watch::Sender<Written>,
    /// What is known of the keys of the commands that come next.
    ahead: Ahead,
    /// When the next queued job is due.
    due: watch::Sender<Option<Timestamp>>,
    /// How far the database is known to be durable.
    checkpointed: watch::Sender<Option<Position>>,
    commit: Option<Commit>,
    flush_at: Option<Instant>,
    /// A way back to a snapshot that is under way; nothing is applied before it is done.
    back: Option<Going>,
    /// Someone waits for all that is applied to be in the database.
    hurry: bool,
    /// Since when it does what may take so long that nobody is answered meanwhile.
    busy: watch::Sender<Option<Instant>>,
    meters: Meters,
}

impl Task {
    async fn run(
        mut self,
        place: Arc<Place>,
        mut orders: mpsc::Receiver<Order>,
        mut looks: mpsc::Receiver<Look>,
        mut barriers: mpsc::Receiver<()>,
    ) {
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        let mut room = true;
        loop {
            let (flush_at, back_at) = (self.flush_at, self.back_at());
            // Every branch is cancel-safe: receiving from a channel, waiting for a time, or polling a
            // commit, or a way back, that stays where it is. Meanwhile the memory is free to be looked at.
            let event = tokio::select! {
                result = poll_commit(&mut self.commit) => Event::Committed(result),
                Some(look) = looks.recv() => Event::Look(look),
                order = orders.recv(), if room => Event::Order(order),
                Some(()) = barriers.recv() => Event::Hurry,
                () = wait_until(flush_at), if self.commit.is_none() => Event::Flush,
                worked = poll_back(&mut self.back) => Event::WentBack(worked),
                () = wait_until(back_at) => Event::LookAgain,
                _ = sweep.tick() => Event::Sweep,
            };
            let mut place = place.lock().await;
            // It is gone with who panicked over it, and nothing goes on without.
            let Some(mut kept) = place.take() else { return };
            let memory = &mut *kept;
            match event {
                Event::Committed(result) => self.committed(memory, result),
                Event::Look(look) => look(memory),
                Event::Order(Some(Order::Apply(apply))) => self.apply(memory, apply).await,
                Event::Order(Some(Order::Install(install))) => {
                    self.busy.send_replace(Some(Instant::now()));
                    self.install(memory, install).await;
                    self.busy.send_replace(None);
                }
                Event::Order(Some(Order::GoBack(order))) => self.go_back(memory, *order),
                Event::Order(None) => return self.finish(memory).await,
                Event::Hurry => self.hurry = true,
                Event::Flush => self.flush(memory),
                Event::WentBack(worked) => self.went_back(memory, worked),
                Event::LookAgain => {}
                Event::Sweep => {
                    memory.sweep();
                    self.meters.jobs.take(&memory.state);
                }
            }
            if self.hurry && self.commit.is_none() {
                self.hurry = false;
                self.flush(memory);
            }
            self.begin_going_back(memory);
            room = self.back.is_none() && memory.unwritten.pending.approx_bytes() < MAX_PENDING_BYTES;
            *place = Some(kept);
        }
    }

    async fn apply(&mut self, memory: &mut Memory, apply: Apply) {
        let began = std::time::Instant::now();
        let commands = || apply.entries.iter().flat_map(|entry| entry.iter());
        let keys = (&self.ahead, self.written.borrow().index());
        let fetched = match Fetched::fetch(&self.store, memory, commands(), keys).await {
            Ok(fetched) => fetched,
            Err(error) => {
                let _ = apply.answers.send(Err(error.to_string()));
                return;
            }
        };
        let mut answers = Vec::with_capacity(apply.entries.len());
        let mut effects = Vec::new();
        let index = apply.position.index;
        let first = (index + 1).saturating_sub(apply.entries.len() as u64);
        for (at, entry) in (first..).zip(&apply.entries) {
            let mut changes = 0;
            let one = |command| self.apply_one(memory, command, &fetched, &mut effects, at, &mut changes);
            answers.push(entry.iter().map(one).collect());
        }
        memory.unwritten.pending.reach(apply.position, memory.state.counters());
        self.flush_soon(memory);
        // Whoever reads at this index must find it applied, and whoever is woken must find what woke it.
        self.applied.send_replace(index);
        memory.live.tell();
        self.tell_due(memory);
        let now = std::time::Instant::now();
        memory.take_in(effects, now);
        self.meters.apply_seconds.observe((now - began).as_secs_f64());
        self.meters.pending_bytes.set(pending_bytes(memory));
        self.meters.jobs.take(&memory.state);
        let _ = apply.answers.send(Ok(answers));
    }

    /// Has whoever waits for what is due next know when that is.
    fn tell_due(&self, memory: &Memory) {
        let next = memory.state.next_due();
        if *self.due.borrow() != next {
            self.due.send_replace(next);
        }
    }

    /// `index` is that of the command's entry, and `changes` how many there were in the entry so far: those that
    /// nothing is told of count too, so that a version that tells of more gives the same ids.
    fn apply_one(
        &mut self,
        memory: &mut Memory,
        command: &Command,
        fetched: &Fetched,
        effects: &mut Vec<Effect>,
        index: u64,
        changes: &mut u32,
    ) -> Answer {
        let past = Past { unwritten: &memory.unwritten, fetched };
        let outcome = memory.state.apply(command, &past);
        for change in &outcome.changes {
            if let Change::PruneJobs(pruned) = change {
                self.meters.pruned(pruned);
            }
            let id = EventId::new(index, *changes);
            *changes = changes.saturating_add(1);
            memory.look_at(&command.operation, change);
            if let Some(notice) = Notice::of(command, change) {
                memory.note(id, notice);
            }
        }
        memory.unwritten.pending.absorb(outcome.changes);
        effects.extend(outcome.effects);
        outcome.reply
    }

    /// What was not written yet is part of the copy, or was never committed.
    async fn install(&mut self, memory: &mut Memory, install: Install) {
        if let Some(commit) = self.commit.take() {
            let result = commit.await;
            self.committed(memory, result);
        }
        let (store, file) = (self.store.clone(), install.file.clone());
        // On a thread of its own, as the compiler cannot see that this future may be sent to another.
        let runtime = tokio::runtime::Handle::current();
        let installed = tokio::task::spawn_blocking(move || runtime.block_on(store.install(&file))).await;
        let installed = match installed.map_err(|e| e.to_string()).and_then(|r| r.map_err(|e| e.to_string()))
        {
            Ok(installed) => installed,
            Err(error) => {
                let _ = install.done.send(Err(error));
                return;
            }
        };
        let state =
            State::load(installed.hosts, installed.active_jobs, installed.services, installed.counters);
        let state = state
            .with_restores(installed.restores, installed.staging)
            .with_freezes(installed.freezes)
            .with_schedules(installed.schedules);
        memory.replace(state);
        self.tell_due(memory);
        self.meters.snapshots_installed.inc();
        self.flush_at = None;
        let written = Written { position: installed.position.clone(), trouble: None };
        self.applied.send_replace(written.index());
        self.written.send_replace(written);
        memory.live.refresh();
        // An installed copy is durable.
        self.checkpointed.send_replace(installed.position.clone());
        let _ = install.done.send(Ok(installed.position));
    }

    /// Has what is pending written before long; at once when it is much, and nothing is on its way or failed.
    fn flush_soon(&mut self, memory: &Memory) {
        let now = Instant::now();
        let unwritten = &memory.unwritten;
        if unwritten.in_flight.is_none() && unwritten.pending.approx_bytes() >= FLUSH_BYTES {
            self.flush_at = Some(now);
        } else {
            self.flush_at.get_or_insert(now + FLUSH_AFTER);
        }
    }

    /// Starts writing what is pending, or what could not be written before.
    fn flush(&mut self, memory: &mut Memory) {
        self.flush_at = None;
        let unwritten = &mut memory.unwritten;
        let batch = match &unwritten.in_flight {
            Some(failed) => Arc::clone(failed),
            None if unwritten.pending.is_empty() => return,
            None => {
                let next = unwritten.pending.successor();
                Arc::new(std::mem::replace(&mut unwritten.pending, next))
            }
        };
        unwritten.in_flight = Some(Arc::clone(&batch));
        let store = self.store.clone();
        let began = std::time::Instant::now();
        let seconds = self.meters.commit_seconds.clone();
        self.commit = Some(Box::pin(async move {
            let committed = store.commit(batch).await;
            seconds.observe(began.elapsed().as_secs_f64());
            committed
        }));
    }

    fn committed(&mut self, memory: &mut Memory, result: Result<(), CommitError>) {
        self.commit = None;
        match result {
            Ok(()) => {
                let batch = memory.unwritten.in_flight.take();
                let position = batch.and_then(|batch| batch.position().cloned());
                self.written.send_modify(|written| {
                    if written.trouble.take().is_some() {
                        tracing::info!("the database can be written again");
                    }
                    if position.is_some() {
                        written.position = position;
                    }
                });
                self.meters.pending_bytes.set(pending_bytes(memory));
                if !memory.unwritten.pending.is_empty() {
                    self.flush_soon(memory);
                }
            }
            Err(error) => {
                self.written.send_modify(|written| {
                    if written.trouble.is_none() {
                        tracing::error!(%error, "the database cannot be written; writes are refused until it can");
                    }
                    written.trouble = Some(error.to_string());
                });
                self.flush_at = Some(Instant::now() + FLUSH_RETRY);
            }
        }
    }

    /// Writes what is left. What cannot be written now is applied again from the log at the next start.
    async fn finish(&mut self, memory: &mut Memory) {
        memory.close();
        if let Some(commit) = self.commit.take() {
            let result = commit.await;
            self.committed(memory, result);
        }
        for _ in 0..2 {
            self.flush(memory);
            let Some(commit) = self.commit.take() else { break };
            let result = commit.await;
            self.committed(memory, result);
        }
    }
}

/// About how many bytes are applied and not yet in the database.
fn pending_bytes(memory: &Memory) -> i64 {
    let unwritten = &memory.unwritten;
    let in_flight = unwritten.in_flight.as_ref().map_or(0, |batch| batch.approx_bytes());
    i64::try_from(unwritten.pending.approx_bytes() + in_flight).unwrap_or(i64::MAX)
}

/// The result of the commit under way; never, when there is none.
async fn poll_commit(commit: &mut Option<Commit>) -> Result<(), CommitError> {
    match commit {
        Some(commit) => commit.await,
        None => std::future::pending().await,
    }
}

async fn wait_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
