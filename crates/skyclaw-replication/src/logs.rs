//! The output of jobs, wherever it is: in the record of what has ended, at the host of what runs.
//!
//! What runs is asked for at the leader, which every host speaks to, one piece at a time and by its offset
//! ([`crate::machine::logs`]). So nothing is lost, and nothing is there twice, when another node leads from one
//! piece to the next.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use skyclaw_core::{Job, Phase, Run};
use skyclaw_proto::logs::{LogPiece, LogWant, PushLogs};
use skyclaw_proto::request::RunningJob;
use skyclaw_proto::{HostId, JobId, LogStream, response};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::{ReadError, WriteError};
use crate::leader::LeaderReply;
use crate::machine::logs::{Bit, LogsFault, LogsLook, ReadLogs, filled};
use crate::machine::memory::Memory;
use crate::node::{Inner, Node};
use crate::peer::{LeaderCall, LeaderError};

/// How long a node may take to learn of what the leader says has ended.
const LEARNT_WITHIN: Duration = Duration::from_secs(5);

/// Why there is no piece of a job's output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogsError {
    /// There is no such job.
    #[error("unknown job: {0}")]
    UnknownJob(JobId),
    /// It cannot be had now.
    #[error(transparent)]
    Fault(#[from] LogsFault),
    /// The record cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The leader cannot be asked, or refuses.
    #[error(transparent)]
    Leader(#[from] WriteError),
}

impl Node {
    /// A piece of what a job has written. While it runs and is followed, this waits for the next one; an empty
    /// piece says that there was none in time, or that a new attempt has begun.
    ///
    /// # Errors
    /// When there is no such job, its host does not say what there is, or nobody leads.
    pub async fn logs(&self, read: ReadLogs) -> Result<LogPiece, LogsError> {
        let (mut learnt, mut sure) = (false, false);
        loop {
            let Some(job) = self.job(&read.job).await? else {
                if sure {
                    return Err(LogsError::UnknownJob(read.job));
                }
                // Somebody may have submitted it at another node a moment ago.
                self.catch_up(LEARNT_WITHIN).await?;
                sure = true;
                continue;
            };
            if let Phase::Ended(ended) = &job.phase {
                return Ok(of_record(&read, &job, ended.run.as_deref()));
            }
            match self.0.at_leader(LeaderCall::ReadLogs(read.clone())).await? {
                LeaderReply::Logs(Err(LogsFault::Over { index, .. })) if !learnt => {
                    learnt = self.wait_applied(index, LEARNT_WITHIN).await;
                }
                LeaderReply::Logs(piece) => return Ok(piece?),
                // Another version of the leader.
                _ => return Err(WriteError::OutcomeUnknown.into()),
            }
        }
    }

    /// Takes in output that was asked for of the host that runs a job, and says what is wanted of it now.
    ///
    /// # Errors
    /// When the host does not hold the lease, or nobody has asked for it.
    pub async fn push_logs(&self, piece: PushLogs) -> Result<Vec<LogWant>, LogsError> {
        match self.0.at_leader(LeaderCall::PushLogs(Box::new(piece))).await? {
            LeaderReply::LogWants(wanted) => Ok(wanted?),
            _ => Err(WriteError::OutcomeUnknown.into()),
        }
    }

    /// As [`Self::heartbeat`], of a host that brings the output of its runs: `logs` is what it knows to be wanted.
    /// What else is wanted is a reason to answer, too.
    ///
    /// # Errors
    /// As [`Self::heartbeat`].
    pub async fn heartbeat_with_logs(
        &self,
        host: &HostId,
        running: Vec<RunningJob>,
        logs: Option<Vec<LogWant>>,
        wait: Duration,
    ) -> Result<response::Heartbeat, WriteError> {
        let call = LeaderCall::Heartbeat { host: host.clone(), running, wait, logs };
        match self.0.at_leader(call).await? {
            LeaderReply::Beat(answer) => Ok(*answer),
            _ => Err(WriteError::OutcomeUnknown),
        }
    }
}

impl Inner {
    /// A read at the leader: of what has not ended.
    pub(crate) async fn lead_logs(&self, read: ReadLogs) -> Result<Result<LogPiece, LogsFault>, LeaderError> {
        let deadline = Instant::now() + read.wait;
        loop {
            if !*self.leading.borrow() {
                return Err(LeaderError::NotLeader);
            }
            let may_wait = Instant::now() < deadline;
            let asked = read.clone();
            let look =
                move |memory: &mut Memory| memory.look_at_logs(&asked, std::time::Instant::now(), may_wait);
            let (changed, bits, about) = match self.machine.look(look).await? {
                LogsLook::Piece(piece) => return Ok(Ok(piece)),
                LogsLook::Fault(fault) => return Ok(Err(fault)),
                LogsLook::Over => {
                    return Ok(Err(LogsFault::Over { job: read.job, index: self.machine.applied() }));
                }
                LogsLook::Wait { changed, bits, about } => (changed, bits, about),
            };
            tokio::select! {
                // One that is empty says that there is no more now, of one of two streams; the other is looked for
                // again. And who cannot be told any more has to look who leads now.
                Some(bit) = first(bits) => {
                    let piece = bit.piece(*about);
                    if !piece.data.is_empty() {
                        return Ok(Ok(piece));
                    }
                }
                _ = changed => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
    }
}

/// The first that comes; `None` when one of them never will. Without any this waits for ever.
async fn first(mut bits: Vec<oneshot::Receiver<Bit>>) -> Option<Bit> {
    let next = poll_fn(|context| {
        let mut polled = bits.iter_mut().map(|bit| Pin::new(bit).poll(context));
        polled.find(Poll::is_ready).unwrap_or(Poll::Pending)
    });
    next.await.ok()
}

/// What the record of a job that has ended holds of it.
fn of_record(read: &ReadLogs, job: &Job, run: Option<&Run>) -> LogPiece {
    let about = LogPiece { live: true, ..read.nothing(job, job.status()) };
    let is_of_it = read.from.fence.is_none_or(|fence| fence == job.fence);
    let mut streams = read.streams().map(|(stream, from)| {
        let text = run.map_or("", |run| match stream {
            LogStream::Stdout => run.stdout.as_str(),
            LogStream::Stderr => run.stderr.as_str(),
        });
        let from = if is_of_it { usize::try_from(from).unwrap_or(usize::MAX) } else { 0 };
        let begins = text.floor_char_boundary(from);
        // An offset beyond the end stays what it is.
        (stream, begins as u64, if from < text.len() { &text[begins..] } else { "" })
    });
    let mut left = streams.by_ref().filter(|(.., text)| !text.is_empty());
    let Some((stream, offset, text)) = left.next() else { return about };
    let others = left.next().is_some();
    let piece = filled(about, stream, offset, text);
    LogPiece { ended: !others && piece.data.len() == text.len(), ..piece }
}
