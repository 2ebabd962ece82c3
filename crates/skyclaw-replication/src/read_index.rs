//! Reads that must see everything acknowledged before them.
//!
//! The leader asks a quorum whether it still leads; the index it has committed by then is how far a
//! read must see. One question serves all who wait when it is asked.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::peer::LeaderError;
use crate::raft::Raft;

/// Most reads that wait; beyond, those who ask wait.
const QUEUE: usize = 4096;
/// How long the quorum may take.
const CONFIRM_WITHIN: Duration = Duration::from_secs(2);

type Answer = oneshot::Sender<Result<u64, LeaderError>>;

/// The handle of the task that asks.
#[derive(Debug, Clone)]
pub(crate) struct ReadIndex {
    queue: mpsc::Sender<Answer>,
}

impl ReadIndex {
    /// Starts the task. It ends with the last handle.
    pub(crate) fn start(raft: Raft, tracker: &TaskTracker) -> Self {
        let (queue, mut waiting) = mpsc::channel::<Answer>(QUEUE);
        tracker.spawn(async move {
            let mut all = Vec::new();
            while waiting.recv_many(&mut all, QUEUE).await > 0 {
                let confirmed = tokio::time::timeout(CONFIRM_WITHIN, raft.get_read_log_id()).await;
                let index = match confirmed {
                    Ok(Ok((read, _))) => Ok(read.map_or(0, |id| id.index)),
                    Ok(Err(_)) | Err(_) => Err(LeaderError::NotLeader),
                };
                for answer in all.drain(..) {
                    let _ = answer.send(index.clone());
                }
            }
        });
        Self { queue }
    }

    /// The index a read that begins now must see, if this node leads.
    pub(crate) async fn get(&self) -> Result<u64, LeaderError> {
        let (answer, answered) = oneshot::channel();
        self.queue.send(answer).await.map_err(|_| LeaderError::NotLeader)?;
        answered.await.unwrap_or(Err(LeaderError::NotLeader))
    }
}
