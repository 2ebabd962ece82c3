//! The way of a command from the node that took it in to the leader.
//!
//! Commands that wait go together in one message. A few messages may be on their way at once, so that a
//! slow answer does not hold up the next. When the leader changes while a message is on its way, those
//! commands whose client gave an idempotency key are sent again; for the others nobody can know whether
//! they were carried out, and their clients are told so.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::error::WriteError;
use crate::leader::LeaderReply;
use crate::node::Inner;
use crate::peer::LeaderCall;
use crate::proposer::{Batch, Decided, Queue, Waiting, decide};
use crate::raft::Packed;
use crate::trail::Aside;

/// Most commands that wait; beyond, they are refused.
const QUEUE: usize = 8192;
/// Most messages on their way.
const ON_THEIR_WAY: usize = 4;
/// How long a command whose outcome is open is asked for again.
const PATIENCE: Duration = Duration::from_secs(8);

/// The handle of the task that sends commands to the leader.
#[derive(Debug, Clone)]
pub(crate) struct Forwarder {
    queue: Queue,
}

impl Forwarder {
    /// A queue, and the task that serves it once there is a node: see [`serve`].
    pub(crate) fn new() -> (Self, mpsc::Receiver<Waiting>) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        (Self { queue }, waiting)
    }

    /// How many commands wait.
    pub(crate) fn depth(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Has the leader carry out a command.
    ///
    /// # Errors
    /// When it was not proposed, or its outcome is unknown.
    pub(crate) async fn send(&self, command: Packed) -> Result<Decided, WriteError> {
        decide(&self.queue, command).await
    }
}

/// Sends what is queued to the leader until the queue or the node ends.
pub(crate) async fn serve(node: Weak<Inner>, mut queue: mpsc::Receiver<Waiting>, tracker: TaskTracker) {
    let slots = Arc::new(Semaphore::new(ON_THEIR_WAY));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Some(Batch { waiting: batch, .. }) = Batch::next(&mut queue).await else { return };
        let Some(node) = node.upgrade() else { return };
        tracker.spawn(async move {
            deliver(&node, batch).await;
            drop(slot);
        });
    }
}

async fn deliver(node: &Inner, mut batch: Vec<Waiting>) {
    let deadline = Instant::now() + PATIENCE;
    while !batch.is_empty() {
        let may_try_again = Instant::now() < deadline;
        let commands = batch.iter().map(|waiting| waiting.command.clone()).collect();
        let trails = batch.iter().map(|waiting| waiting.trail.clone());
        let aside = match batch.iter().any(|waiting| waiting.trail.is_some()) {
            true => Aside::new(&node.stamper.node, trails.collect()),
            false => Aside::default(),
        };
        let results = match node.at_leader_saying(LeaderCall::Write(commands), &aside).await {
            Ok(LeaderReply::Decided(results)) if results.len() == batch.len() => results,
            Ok(_) => vec![Err(WriteError::OutcomeUnknown); batch.len()],
            Err(error) => vec![Err(error); batch.len()],
        };
        let mut again = Vec::new();
        for (waiting, result) in batch.into_iter().zip(results) {
            let keyed = waiting.command.command().idempotency.is_some();
            let retry =
                result.as_ref().err().is_some_and(|e| e.can_be_tried_again() || (keyed && e.is_open()));
            if retry && may_try_again {
                again.push(waiting);
            } else {
                tell(waiting.decided, result);
            }
        }
        batch = again;
    }
}

fn tell(client: oneshot::Sender<Result<Decided, WriteError>>, result: Result<Decided, WriteError>) {
    // Nobody listens when the client has gone.
    let _ = client.send(result);
}
