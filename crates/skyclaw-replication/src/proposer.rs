//! The way of a command into the log.
//!
//! Commands that wait are put together. Where this node leads they become one entry of the log, and one
//! entry is on its way at a time: while it is written and synced, the next batch gathers, and waits a moment
//! for the clients that were just answered. So under load many commands share one fsync, and a lone command does
//! not wait for company. Where another node leads, the batch is sent there ([`crate::forward`]).
//!
//! A job finds a claim that waits for it, when there is one, before it leaves: the claim goes into the same entry, so
//! that a host has the job after one round through the log and not two.
//!
//! What is refused here was never proposed. Once a command is proposed, only the log knows its fate.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{ClientWriteError, RaftError};
use skyclaw_core::Command;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::error::WriteError;
use crate::leader::{Leader, leader};
use crate::log::Log;
use crate::machine::{Answer, Gone, Machine};
use crate::raft::{Packed, Proposal, Raft};
use crate::target::Target;
use crate::trail::{Aside, Follower, OfRequest, Trail, names};

/// Most commands that wait; beyond, they are refused.
const QUEUE: usize = 8192;
/// Most commands of one entry.
pub(crate) const MAX_COMMANDS: usize = 2048;
/// Past this an entry takes no more commands.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;
/// From so many commands on it is worth while to wait for others: each entry has a price of its own.
const WORTH_WAITING: usize = 8;
/// How long an entry waits for commands of clients that were just answered.
const GATHER_FOR: Duration = Duration::from_millis(1);
/// How long an entry waits for a claim that was called. It is there at once, unless the processors are busy.
const BOARD_WITHIN: Duration = Duration::from_millis(1);
/// What the log must have room for beyond an entry: entries of its own, and an estimate that was low.
pub(crate) const RESERVE_BYTES: u64 = 1024 * 1024;
/// How long an entry may take to be committed before its clients are told that nobody knows.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long an entry may take from when it is proposed to when its clients are answered, with time to spare; who has
/// taken longer hangs.
const ENTRY_WITHIN: Duration = Duration::from_secs(30);

/// A command that was carried out or refused, and the place in the log where that was decided.
pub(crate) type Decided = (Answer, u64);

/// A command, and where its fate is told.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) command: Packed,
    pub(crate) decided: oneshot::Sender<Result<Decided, WriteError>>,
    /// Whose request it is of, if that is followed.
    pub(crate) trail: OfRequest,
}

/// Room for a command in an entry that is about to leave.
pub(crate) type Seat = oneshot::Sender<Waiting>;

/// The commands that wait, bounded.
pub(crate) type Queue = mpsc::Sender<Waiting>;

/// Puts a command into a queue and waits for its fate.
pub(crate) async fn decide(queue: &Queue, command: Packed) -> Result<Decided, WriteError> {
    enqueue(queue, command, Trail::current())?.await.unwrap_or(Err(WriteError::OutcomeUnknown))
}

fn enqueue(
    queue: &Queue,
    command: Packed,
    trail: OfRequest,
) -> Result<oneshot::Receiver<Result<Decided, WriteError>>, WriteError> {
    let (decided, decision) = oneshot::channel();
    queue.try_send(Waiting { command, decided, trail }).map_err(|error| match error {
        mpsc::error::TrySendError::Full(_) => WriteError::Overloaded,
        mpsc::error::TrySendError::Closed(_) => WriteError::ShuttingDown,
    })?;
    Ok(decision)
}

/// Commands that go together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) waiting: Vec<Waiting>,
    bytes: usize,
}

impl Batch {
    /// Takes what waits, up to the bounds of one entry; `None` when the queue has ended.
    pub(crate) async fn next(queue: &mut mpsc::Receiver<Waiting>) -> Option<Self> {
        let first = queue.recv().await?;
        let mut batch = Self::default();
        batch.waiting.reserve(1 + queue.len().min(MAX_COMMANDS));
        batch.push(first);
        batch.fill(queue);
        Some(batch)
    }

    fn push(&mut self, next: Waiting) {
        self.bytes += next.command.size();
        self.waiting.push(next);
    }

    fn has_room(&self) -> bool {
        self.bytes < MAX_BYTES && self.waiting.len() < MAX_COMMANDS
    }

    fn fill(&mut self, queue: &mut mpsc::Receiver<Waiting>) {
        self.waiting.reserve(queue.len().min(MAX_COMMANDS));
        while self.has_room() {
            let Ok(next) = queue.try_recv() else { break };
            self.push(next);
        }
    }

    /// The requests of it that are followed, where it is logged what an entry holds.
    fn followed(&self) -> Option<String> {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return None;
        }
        names(self.waiting.iter().map(|waiting| &waiting.trail))
    }

    /// Waits for as many commands as are expected, but not for long.
    async fn gather(&mut self, expected: usize, queue: &mut mpsc::Receiver<Waiting>) {
        if expected < WORTH_WAITING {
            return;
        }
        self.waiting.reserve(expected.saturating_sub(self.waiting.len()));
        let mut over = std::pin::pin!(tokio::time::sleep(GATHER_FOR));
        while self.waiting.len() < expected && self.has_room() {
            tokio::select! {
                next = queue.recv() => match next {
                    Some(next) => self.push(next),
                    None => return,
                },
                () = &mut over => return,
            }
        }
    }
}

/// The handle of the leader's proposer.
#[derive(Debug, Clone)]
pub(crate) struct Proposer {
    queue: Queue,
    pings: mpsc::Sender<Ping>,
    /// Held while a batch is on its way, and by who wants none to be.
    gate: Arc<Semaphore>,
    task: Arc<Task>,
}

impl Proposer {
    /// Starts the task. It ends with the last handle.
    pub(crate) fn start(
        raft: Raft,
        log: Log,
        machine: Machine,
        target: Arc<Target>,
        tracker: &TaskTracker,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let (pings, asked) = mpsc::channel(1);
        let gate = Arc::new(Semaphore::new(1));
        let task = Arc::new(Task { raft, log, machine, target, gate: Arc::clone(&gate) });
        tracker.spawn(Arc::clone(&task).run(waiting, Pings(asked)));
        Self { queue, pings, gate, task }
    }

    /// Waits until the task has answered. It does while it waits for commands, for a quorum as long as it waits for one at
    /// all, and for who holds it ([`Self::hold`]).
    pub(crate) async fn answers(&self) -> Result<(), Gone> {
        let (answer, answered) = oneshot::channel();
        self.pings.send(answer).await.map_err(|_| Gone)?;
        answered.await.map_err(|_| Gone)
    }

    /// Waits until nothing is on its way into the log, and keeps it so until what is returned is dropped.
    /// What is proposed meanwhile waits.
    pub(crate) async fn hold(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.gate).acquire_owned().await.ok()
    }

    /// Puts a command into an entry of its own. Nothing else is proposed until it is applied.
    ///
    /// # Errors
    /// As [`Self::propose`].
    pub(crate) async fn propose_alone(
        &self,
        command: Command,
        within: Duration,
    ) -> Result<Decided, WriteError> {
        let command = Packed::new(command)?;
        let _on_its_way = self.hold().await;
        if let Some(error) = self.task.obstacle(command.size() as u64) {
            return Err(error);
        }
        let (answers, index) = self.task.write(vec![command], within).await?;
        let answer = answers.into_iter().next().ok_or(WriteError::OutcomeUnknown)?;
        Ok((answer, index))
    }

    /// How many commands wait.
    pub(crate) fn depth(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Puts a command into the log and waits until it is applied.
    ///
    /// # Errors
    /// When it was not proposed, or its outcome is unknown.
    pub(crate) async fn propose(&self, command: Command) -> Result<Decided, WriteError> {
        self.propose_packed(Packed::new(command)?).await
    }

    /// The same for one that is encoded already.
    ///
    /// # Errors
    /// As [`Self::propose`].
    pub(crate) async fn propose_packed(&self, command: Packed) -> Result<Decided, WriteError> {
        decide(&self.queue, command).await
    }

    /// The same for many commands, of which each has its own fate.
    pub(crate) async fn propose_all(&self, commands: Vec<Command>) -> Vec<Result<Decided, WriteError>> {
        let many = commands.len();
        match commands.into_iter().map(Packed::new).collect::<Result<_, _>>() {
            Ok(packed) => self.propose_all_for(packed, &Aside::default(), &Follower::new()).await,
            Err(error) => vec![Err(error); many],
        }
    }

    /// The same for commands of which each may be of a request that is followed.
    pub(crate) async fn propose_all_for(
        &self,
        commands: Vec<Packed>,
        aside: &Aside,
        follow: &Follower,
    ) -> Vec<Result<Decided, WriteError>> {
        // All of them are queued before the first is waited for, or they would not share an entry.
        let queue = |(n, command)| {
            let span = aside.span(n, follow, "write");
            (enqueue(&self.queue, command, aside.of(n).cloned()), span)
        };
        let queued: Vec<_> = commands.into_iter().enumerate().map(queue).collect();
        let mut decided = Vec::with_capacity(queued.len());
        for (decision, span) in queued {
            let decision = match decision {
                Ok(decision) => decision.await.unwrap_or(Err(WriteError::OutcomeUnknown)),
                Err(error) => Err(error),
            };
            if let Some(span) = span {
                tell(&span, &decision);
            }
            decided.push(decision);
        }
        decided
    }
}

/// Says in the span of a request what became of its command.
fn tell(span: &tracing::Span, decision: &Result<Decided, WriteError>) {
    match decision {
        Ok((answer, index)) => {
            span.record("index", index);
            span.in_scope(|| tracing::debug!(index, refused = answer.is_err(), "decided"));
        }
        Err(error) => span.in_scope(|| tracing::debug!(%error, "not decided")),
    }
}

/// Who asks whether the task goes on.
type Ping = oneshot::Sender<()>;

/// Those who ask.
struct Pings(mpsc::Receiver<Ping>);

impl Pings {
    /// Awaits `work`, and answers who asks until then, but not beyond the time it may take.
    async fn meanwhile<T>(&mut self, within: Option<Duration>, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let mut work = std::pin::pin!(work);
        loop {
            let in_time = within.is_none_or(|within| began.elapsed() < within);
            tokio::select! {
                biased;
                done = &mut work => return done,
                Some(ping) = self.0.recv(), if in_time => drop(ping.send(())),
            }
        }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Task")
    }
}

struct Task {
    raft: Raft,
    log: Log,
    machine: Machine,
    target: Arc<Target>,
    gate: Arc<Semaphore>,
}

impl Task {
    async fn run(self: Arc<Self>, mut queue: mpsc::Receiver<Waiting>, mut pings: Pings) {
        // Whoever was answered, or waited, when the last entry was through: most of them ask again at once.
        let mut expected = 0;
        while let Some(mut batch) = pings.meanwhile(None, Batch::next(&mut queue)).await {
            batch.gather(expected, &mut queue).await;
            let _on_its_way = pings.meanwhile(None, self.gate.acquire()).await;
            pings.meanwhile(None, self.board(&mut batch)).await;
            let commands = batch.waiting.len();
            let meters = self.machine.meters();
            meters.batch_commands.observe(commands as f64);
            meters.batch_bytes.observe(batch.bytes as f64);
            pings.meanwhile(Some(ENTRY_WITHIN), self.propose(batch)).await;
            expected = commands + queue.len();
        }
    }

    /// Takes in the claims that wait for what these jobs ask for.
    async fn board(&self, batch: &mut Batch) {
        if !self.machine.has_parked() {
            return;
        }
        let room = MAX_COMMANDS.saturating_sub(batch.waiting.len());
        let wanted =
            batch.waiting.iter().filter_map(|waiting| waiting.command.command().operation.asks_of_a_host());
        let wanted: Vec<_> = wanted.take(room).collect();
        if wanted.is_empty() {
            return;
        }
        let Ok(called) = self.machine.look(move |memory| memory.call_claims(&wanted)).await else { return };
        let over = Instant::now() + BOARD_WITHIN;
        for passenger in called {
            // One that comes too late claims like everybody else.
            if let Ok(Ok(claim)) = tokio::time::timeout_at(over, passenger).await {
                batch.push(claim);
            }
        }
    }

    async fn propose(&self, batch: Batch) {
        let bytes = batch.bytes as u64;
        let followed = batch.followed();
        let (commands, clients): (Vec<_>, Vec<_>) =
            batch.waiting.into_iter().map(|w| (w.command, w.decided)).unzip();
        let result = match self.obstacle(bytes) {
            Some(error) => Err(error),
            None => {
                let began = std::time::Instant::now();
                let written = self.write(commands, COMMIT_TIMEOUT).await;
                self.machine.meters().propose_seconds.observe(began.elapsed().as_secs_f64());
                written
            }
        };
        match result {
            Ok((answers, index)) => {
                debug_assert_eq!(answers.len(), clients.len(), "one answer a command");
                if let Some(requests) = followed {
                    tracing::debug!(index, commands = answers.len(), requests, "an entry is applied");
                }
                for (client, answer) in clients.into_iter().zip(answers) {
                    let _ = client.send(Ok((answer, index)));
                }
            }
            Err(error) => {
                for client in clients {
                    let _ = client.send(Err(error.clone()));
                }
            }
        }
    }

    /// What is known to stand in the way, before anything is proposed. A full disk must be noticed here:
    /// an entry that cannot be written down would end the log's life.
    fn obstacle(&self, bytes: u64) -> Option<WriteError> {
        // Another was elected while this waited; it is sent there.
        if let Leader::Other { .. } = leader(&self.raft) {
            return Some(WriteError::NoLeader);
        }
        let target =
            self.target.check_known(&self.raft).and_then(|()| self.target.check_reachable(&self.raft));
        if let Err(error) = target {
            return Some(error);
        }
        if let Some(trouble) = self.machine.trouble() {
            return Some(WriteError::Storage(trouble));
        }
        let room = self.log.room();
        let too_little = room < bytes + RESERVE_BYTES;
        too_little.then(|| WriteError::Storage(format!("the log has room for {room} more bytes only")))
    }

    async fn write(&self, commands: Vec<Packed>, within: Duration) -> Result<(Vec<Answer>, u64), WriteError> {
        let proposal = Proposal::new(commands);
        self.machine.look_ahead(proposal.commands());
        let write = self.raft.client_write(proposal.clone());
        let done = match tokio::time::timeout(within, write).await {
            Ok(Ok(done)) => done,
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
                // Also said of an entry that was appended here and cut off by a new leader; it may live on
                // elsewhere. Only of what was never appended is it sure.
                let unknown = proposal.may_be_appended();
                return Err(if unknown { WriteError::OutcomeUnknown } else { WriteError::NoLeader });
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "the log took no entry");
                return Err(WriteError::OutcomeUnknown);
            }
            Err(_) => return Err(WriteError::OutcomeUnknown),
        };
        let index = done.log_id.index;
        self.target.wait_for(&self.raft, index).await?;
        Ok((done.data.0, index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a question is answered while `work`, which never ends, goes on for so long already.
    async fn answers_after(time: Duration, within: Option<Duration>) -> bool {
        let (ask, asked) = mpsc::channel(1);
        let mut pings = Pings(asked);
        let mut work = std::pin::pin!(pings.meanwhile(within, std::future::pending::<()>()));
        // Once a second, as it is asked.
        let mut answered = false;
        for _ in 0..time.as_secs() {
            let (ping, mut answer) = oneshot::channel();
            let _ = ask.try_send(ping);
            let _ = tokio::time::timeout(Duration::from_secs(1), &mut work).await;
            answered = answer.try_recv().is_ok();
        }
        answered
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_quorum_answers_and_who_hangs_does_not() {
        assert!(answers_after(COMMIT_TIMEOUT + Duration::from_secs(5), Some(ENTRY_WITHIN)).await);
        assert!(!answers_after(ENTRY_WITHIN + Duration::from_secs(5), Some(ENTRY_WITHIN)).await);
        assert!(answers_after(2 * ENTRY_WITHIN, None).await, "it is held");
    }
}
