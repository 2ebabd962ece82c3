//! The handle of the task that owns the state.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use skyclaw_core::{Command, State};
use skyclaw_proto::Timestamp;
use skyclaw_store::{CommitError, Position, ReplyId, Store};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::ahead::Ahead;
use super::memory::Memory;
use super::{Answer, Apply, GoBack, Install, Look, Order, Place, Task, Written};
use crate::metrics::Meters;

/// The machine has stopped: the node is going down.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the node is going down")]
pub(crate) struct Gone;

/// Why the database could not be made durable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    #[error(transparent)]
    Gone(#[from] Gone),
    #[error(transparent)]
    Store(#[from] CommitError),
}

/// What the machine starts from.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) state: State,
    /// How far in the log the state goes.
    pub(crate) position: Option<Position>,
    pub(crate) lease: Duration,
}

/// A handle of the task that owns the state. The task ends when the last [`Applier`] is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    memory: Arc<Place>,
    looks: mpsc::Sender<Look>,
    barriers: mpsc::Sender<()>,
    applied: watch::Receiver<u64>,
    written: watch::Receiver<Written>,
    due: watch::Receiver<Option<Timestamp>>,
    checkpointed: watch::Sender<Option<Position>>,
    busy: watch::Receiver<Option<Instant>>,
    /// How many claims wait for a job.
    parked: Arc<AtomicUsize>,
    ahead: Ahead,
    store: Store,
    meters: Meters,
}

/// The right to apply what the log has committed; there is one.
#[derive(Debug)]
pub(crate) struct Applier {
    orders: mpsc::Sender<Order>,
}

/// Most look-ups that wait for their turn; beyond, those who ask wait.
const LOOKS: usize = 4096;
/// Most orders that wait for their turn: the log waits for each anyway.
const ORDERS: usize = 16;
/// How long the whole state may take to be replaced before that counts as a task that hangs.
const INSTALL_WITHIN: Duration = Duration::from_secs(3600);

impl Machine {
    /// Starts the task.
    pub(crate) fn start(options: Options, store: Store, tracker: &TaskTracker) -> (Self, Applier) {
        let (looks, looks_rx) = mpsc::channel(LOOKS);
        let (orders, orders_rx) = mpsc::channel(ORDERS);
        let (barriers, barriers_rx) = mpsc::channel(1);
        let start = Written { position: options.position, trouble: None };
        let (applied_tx, applied) = watch::channel(start.index());
        let (written_tx, written) = watch::channel(start);
        // What was found may be in the memory of the system only: it is made durable before it is named.
        let (checkpointed, _) = watch::channel(None);
        let (due_tx, due) = watch::channel(options.state.next_due());
        let (busy_tx, busy) = watch::channel(None);
        let meters = Meters::new();
        let mut memory = Memory::new(options.state, options.lease);
        memory.timetable.count_in(meters.schedules.clone());
        let parked = memory.claims.count();
        let ahead = Ahead::new(tracker);
        let task = Task {
            store: store.clone(),
            applied: applied_tx,
            written: written_tx,
            ahead: ahead.clone(),
            due: due_tx,
            checkpointed: checkpointed.clone(),
            commit: None,
            flush_at: None,
            back: None,
            hurry: false,
            busy: busy_tx,
            meters: meters.clone(),
        };
        let memory = Arc::new(Place::new(Some(Box::new(memory))));
        tracker.spawn(task.run(Arc::clone(&memory), orders_rx, looks_rx, barriers_rx));
        let machine = Self {
            memory,
            looks,
            barriers,
            applied,
            written,
            due,
            checkpointed,
            busy,
            parked,
            ahead,
            store,
            meters,
        };
        (machine, Applier { orders })
    }

    /// Looks something up in memory, between two applications: here and now where nobody else is at it, and else when
    /// the task comes to it.
    pub(crate) async fn look<R: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Memory) -> R + Send + 'static,
    ) -> Result<R, Gone> {
        let Ok(mut place) = self.memory.try_lock() else { return self.have_looked(look).await };
        // Not put back by who panics: what it is worth then is not known.
        let mut memory = place.take().ok_or(Gone)?;
        let looked = look(&mut memory);
        *place = Some(memory);
        Ok(looked)
    }

    /// Has the task look something up.
    async fn have_looked<R: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Memory) -> R + Send + 'static,
    ) -> Result<R, Gone> {
        let (answer, answered) = oneshot::channel();
        let look: Look = Box::new(move |memory| {
            let _ = answer.send(look(memory));
        });
        self.looks.send(look).await.map_err(|_| Gone)?;
        answered.await.map_err(|_| Gone)
    }

    /// Waits until the task has answered, or is known to be at work that takes its time.
    pub(crate) async fn answers(&self) -> Result<(), Gone> {
        let is_at_work =
            |since: &Option<Instant>| since.is_some_and(|since| since.elapsed() < INSTALL_WITHIN);
        let mut busy = self.busy.clone();
        // Nobody would take the question from the queue.
        if is_at_work(&busy.borrow()) {
            return Ok(());
        }
        tokio::select! {
            looked = self.have_looked(|_| ()) => looked,
            began = busy.wait_for(is_at_work) => began.map(drop).map_err(|_| Gone),
        }
    }

    /// Waits until the database holds all that is applied now, or cannot be written. Says how it stands.
    pub(crate) async fn settle(&self) -> Result<Written, Gone> {
        let target = self.applied();
        let mut written = self.written.clone();
        let settled = |written: &Written| written.index() >= target || written.trouble.is_some();
        if !settled(&written.borrow()) {
            // A full channel means that someone has asked already.
            let _ = self.barriers.try_send(());
        }
        let now = written.wait_for(settled).await.map_err(|_| Gone)?;
        Ok(now.clone())
    }

    /// The index of the last entry that was applied.
    pub(crate) fn applied(&self) -> u64 {
        *self.applied.borrow()
    }

    /// The same, to be watched.
    pub(crate) fn watch_applied(&self) -> watch::Receiver<u64> {
        self.applied.clone()
    }

    /// When the next queued job is due, to be watched.
    pub(crate) fn watch_due(&self) -> watch::Receiver<Option<Timestamp>> {
        self.due.clone()
    }

    /// Waits until the task has ended: all that could be written is written.
    pub(crate) async fn ended(&self) {
        self.looks.closed().await;
    }

    /// Makes the database durable as far as it is applied now, and says how far in the log that goes.
    ///
    /// # Errors
    /// When it could not be made durable; what was durable before is so still.
    pub(crate) async fn checkpoint(&self) -> Result<Option<Position>, CheckpointError> {
        let position = self.settle().await?.position;
        self.store.checkpoint().await?;
        let index = |position: &Option<Position>| position.as_ref().map_or(0, |position| position.index);
        self.checkpointed.send_if_modified(|durable| {
            let is_news = index(&position) > index(durable);
            if is_news {
                durable.clone_from(&position);
            }
            is_news
        });
        Ok(position)
    }

    /// The place in the log up to which the database is known to be durable: the log may be purged up to
    /// there. `None` before the first checkpoint of this process.
    pub(crate) fn checkpointed(&self) -> Option<Position> {
        self.checkpointed.borrow().clone()
    }

    /// The same, to be watched.
    pub(crate) fn watch_checkpointed(&self) -> watch::Receiver<Option<Position>> {
        self.checkpointed.subscribe()
    }

    /// Why the database cannot be written at the moment.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.written.borrow().trouble.clone()
    }

    /// Whether a claim waits for a job: a hint, which costs nothing to ask for.
    pub(crate) fn has_parked(&self) -> bool {
        self.parked.load(Ordering::Relaxed) > 0
    }

    /// Has the database asked for what the commands of an entry speak of that is about to be applied.
    pub(crate) fn look_ahead(&self, commands: &[Command]) {
        let keys = commands.iter().filter_map(|command| command.idempotency.as_ref());
        let replies: Vec<_> = keys.map(ReplyId::of).collect();
        if !replies.is_empty() {
            // Before the question: what is written while it is out makes the answer void.
            let as_of = self.written.borrow().index();
            self.ahead.ask(&self.store, as_of, replies);
        }
    }

    /// What is measured of this node.
    pub(crate) fn meters(&self) -> &Meters {
        &self.meters
    }

    /// The database, for what is not in memory. Only what [`Self::settle`] waited for is surely there.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }
}

impl Applier {
    /// Applies entries of the log, in their order.
    ///
    /// # Errors
    /// When the node can go on no more.
    pub(crate) async fn apply(
        &self,
        position: Position,
        entries: Vec<Arc<Vec<Command>>>,
    ) -> Result<Vec<Vec<Answer>>, String> {
        let (answers, answered) = oneshot::channel();
        self.orders
            .send(Order::Apply(Apply { position, entries, answers }))
            .await
            .map_err(|_| Gone.to_string())?;
        answered.await.map_err(|_| Gone.to_string())?
    }

    /// Carries out a command that is alone in its entry: to go back to a snapshot.
    ///
    /// # Errors
    /// When the node can go on no more.
    pub(crate) async fn go_back(
        &self,
        position: Position,
        command: Command,
        back: skyclaw_core::RollBack,
    ) -> Result<Answer, String> {
        let (answer, answered) = oneshot::channel();
        let order = Order::GoBack(Box::new(GoBack { position, command, back, answer }));
        self.orders.send(order).await.map_err(|_| Gone.to_string())?;
        answered.await.map_err(|_| Gone.to_string())?
    }

    /// Replaces the whole state by that of a copy, and says how far in the log it goes.
    ///
    /// # Errors
    /// When the node can go on no more.
    pub(crate) async fn install(&self, file: PathBuf) -> Result<Option<Position>, String> {
        let (done, installed) = oneshot::channel();
        self.orders.send(Order::Install(Install { file, done })).await.map_err(|_| Gone.to_string())?;
        installed.await.map_err(|_| Gone.to_string())?
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Waker};

    use super::*;

    async fn start(dir: &std::path::Path) -> (Machine, Applier) {
        let tracker = TaskTracker::new();
        let opened = Store::open(&dir.join("state.db"), skyclaw_store::Options::default(), &tracker)
            .await
            .expect("a store");
        let options = Options { state: State::default(), position: None, lease: Duration::from_secs(60) };
        Machine::start(options, opened.store, &tracker)
    }

    fn is_pending<F: Future>(future: Pin<&mut F>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_look_waits_while_the_task_is_at_work_and_is_taken_at_once_when_it_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let (machine, _applier) = start(dir.path()).await;
        let (go_on, at_work) = std::sync::mpsc::sync_channel::<()>(1);
        let (began, has_begun) = oneshot::channel();
        let (tracker, other) = (TaskTracker::new(), machine.clone());
        let working = tracker.spawn(async move {
            let work = move |memory: &mut Memory| {
                let _ = began.send(());
                let _ = at_work.recv();
                memory.closing = true;
            };
            other.have_looked(work).await
        });
        has_begun.await.expect("the task is at work");
        let mut look = std::pin::pin!(machine.look(|memory| memory.is_closing()));
        assert!(is_pending(look.as_mut()));
        go_on.send(()).expect("it waits");
        assert!(look.await.expect("it is there"), "it sees what was done");
        working.await.expect("it ends").expect("it is there");
        // The task may be about to let go of the memory; it has nothing else to do.
        let mut tries = 0;
        while is_pending(std::pin::pin!(machine.look(|_| ()))) {
            tries += 1;
            assert!(tries < 10_000, "nothing is looked at without the task");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn nothing_goes_on_with_a_memory_that_somebody_panicked_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let (machine, _applier) = start(dir.path()).await;
        let other = machine.clone();
        let panicked =
            TaskTracker::new().spawn(async move { other.look(|_| panic!("in the middle")).await }).await;
        assert!(panicked.is_err_and(|error| error.is_panic()));
        assert!(machine.look(|_| ()).await.is_err());
        machine.ended().await;
        assert!(machine.answers().await.is_err());
    }

    #[tokio::test]
    async fn nothing_is_looked_at_after_the_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let (machine, applier) = start(dir.path()).await;
        machine.look(|_| ()).await.expect("it is there");
        drop(applier);
        machine.ended().await;
        assert!(machine.look(|_| ()).await.is_err());
    }
}
