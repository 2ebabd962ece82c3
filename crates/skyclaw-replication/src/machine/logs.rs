//! Output on its way from hosts to whoever follows it: what is asked for, who waits for it, and a little of what
//! has passed.
//!
//! ```text
//!  reader ──read──► window? ──yes──► piece
//!                     │ no
//!                     └► waits; its offset is wanted ──(heartbeat, answer to the last piece)──► host
//!  host ──piece──► who waits for it; the window
//! ```
//! All of it is soft. A read names its offset, so it can be asked anywhere and again. A host brings only what is
//! wanted, and nothing is wanted that nobody has asked for a moment ago, so a reader that is slow holds its
//! host back, and what is kept here is bounded: what falls out of a window is asked for again.

mod channel;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use skyclaw_core::{Job, Lease, Phase, Refusal, State};
use skyclaw_proto::limits::MAX_LOGS_WANTED;
use skyclaw_proto::logs::{LogCursor, LogPiece, LogWant, PushLogs};
use skyclaw_proto::{HostId, JobId, JobStatus, LogStream};
use tokio::sync::oneshot;

pub(crate) use self::channel::{Bit, filled};
use self::channel::{Channel, Waiting};
use super::memory::Memory;

/// How long what has passed of it is kept for readers that are slow.
const KEEP: Duration = Duration::from_secs(30);
/// How much is kept of all streams together, in bytes.
const ALL_BYTES: usize = 16 * 1024 * 1024;
/// How many streams are followed at once.
const MAX_STREAMS: usize = 4096;
/// How many reads wait for one stream.
const MAX_WAITING: usize = 4096;

/// What is read of a job's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadLogs {
    /// The job.
    pub job: JobId,
    /// What of it, and from where on.
    pub from: LogCursor,
    /// Whether to wait for more than there is now.
    pub follow: bool,
    /// How long to wait.
    pub wait: Duration,
}

impl ReadLogs {
    /// The streams that are wanted, and from where on.
    pub(crate) fn streams(&self) -> impl Iterator<Item = (LogStream, u64)> + use<> {
        let both = [(LogStream::Stdout, self.from.stdout), (LogStream::Stderr, self.from.stderr)];
        both.into_iter().filter_map(|(stream, from)| Some((stream, from?)))
    }

    /// A piece with nothing in it.
    pub(crate) fn nothing(&self, job: &Job, status: JobStatus) -> LogPiece {
        let is_of_it = self.from.fence.is_none_or(|fence| fence == job.fence);
        let (stream, from) = self.streams().next().unwrap_or((LogStream::Stdout, 0));
        let offset = if is_of_it { from } else { 0 };
        let (live, ended) = (false, status.is_finished() || status == JobStatus::Lost);
        LogPiece {
            job_id: job.id.clone(),
            status,
            attempt: job.attempts,
            fence: job.fence,
            stream,
            offset,
            data: String::new(),
            next_offset: offset,
            live,
            ended,
        }
    }
}

/// Why there is no piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum LogsFault {
    /// The host has not said in time what there is.
    #[error(
        "host {host}, which runs job {job}, has not said in time what the job has written: the host may be out of \
         reach, just starting the job, or of a version that does not tell; the record has the output once the job has ended"
    )]
    HostSilent {
        /// The job.
        job: JobId,
        /// Its host.
        host: HostId,
    },
    /// Too much is followed.
    #[error("too many streams of output are followed; try again later")]
    TooMany,
    /// Nobody follows what a host has brought.
    #[error("nobody follows the {stream} of job {job} there")]
    NotWanted {
        /// The job.
        job: JobId,
        /// The stream.
        stream: LogStream,
    },
    /// The record of the job has it, at this index of the log.
    #[error("job {job} has ended")]
    Over {
        /// The job.
        job: JobId,
        /// The place in the log at which that can be seen.
        index: u64,
    },
}

/// What a read finds.
#[derive(Debug)]
pub(crate) enum LogsLook {
    /// The answer.
    Piece(LogPiece),
    /// That there is none.
    Fault(LogsFault),
    /// The job has ended, or is not known.
    Over,
    /// Nothing yet: it is to wait for a change of the job, or for one of these.
    Wait { changed: oneshot::Receiver<()>, bits: Vec<oneshot::Receiver<Bit>>, about: Box<LogPiece> },
}

/// What is followed, by who runs it.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    hosts: HashMap<HostId, HashMap<(JobId, LogStream), Channel>>,
    channels: usize,
    /// How much is kept in all windows.
    held: usize,
}

impl Logs {
    /// Nothing is followed here any more: whoever waits has to ask again.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What a host is to bring.
    pub(crate) fn wanted_of(&mut self, host: &HostId, now: Instant) -> Vec<LogWant> {
        let channels = self.hosts.get_mut(host).into_iter().flatten();
        channels.filter_map(|(key, channel)| want(key, channel, now)).take(MAX_LOGS_WANTED).collect()
    }

    /// Forgets what nobody has asked for lately, and what is no longer run by whom it was asked of.
    pub(crate) fn sweep(&mut self, state: &State, now: Instant) {
        let (mut channels, mut held) = (0, 0);
        self.hosts.retain(|host, of_host| {
            of_host.retain(|(job, _), channel| {
                channel.waiting.retain(|waiting| !waiting.send.is_closed());
                let is_read = !channel.waiting.is_empty() || now.duration_since(channel.touched) < KEEP;
                is_read && runs(state, job, host, channel.fence)
            });
            channels += of_host.len();
            held += of_host.values().map(|channel| channel.window.len()).sum::<usize>();
            !of_host.is_empty()
        });
        (self.channels, self.held) = (channels, held);
    }

    /// The channel of a stream of a run.
    fn channel(&mut self, job: &Job, lease: &Lease, stream: LogStream, now: Instant) -> Option<&mut Channel> {
        let of_host = self.hosts.entry(lease.host.clone()).or_default();
        let key = (job.id.clone(), stream);
        match of_host.get(&key) {
            Some(channel) if channel.fence == job.fence => {}
            Some(channel) => {
                self.held -= channel.window.len();
                of_host.insert(key.clone(), Channel::new(job.fence, now));
            }
            None if self.channels < MAX_STREAMS => {
                self.channels += 1;
                of_host.insert(key.clone(), Channel::new(job.fence, now));
            }
            None => return None,
        }
        let channel = of_host.get_mut(&key)?;
        if !channel.is_followed(now) {
            // What was its end when its host was last asked need not be any more.
            channel.at_end = false;
        }
        channel.touched = now;
        Some(channel)
    }
}

fn want((job, stream): &(JobId, LogStream), channel: &mut Channel, now: Instant) -> Option<LogWant> {
    let offset = channel.ask(now)?;
    Some(LogWant { job_id: job.clone(), fence: channel.fence, stream: *stream, offset })
}

fn runs(state: &State, job: &JobId, host: &HostId, fence: u64) -> bool {
    let job = state.job(job).filter(|job| job.fence == fence);
    job.and_then(|job| job.lease()).is_some_and(|lease| lease.host == *host)
}

/// Whether a host that brings `serving` does not know all that is wanted of it.
pub(crate) fn is_news(wanted: &[LogWant], serving: &[LogWant]) -> bool {
    let is_known = |want: &LogWant| {
        let same =
            |it: &&LogWant| (&it.job_id, it.fence, it.stream) == (&want.job_id, want.fence, want.stream);
        serving.iter().find(same).is_some_and(|it| it.offset <= want.offset)
    };
    !wanted.iter().all(is_known)
}

impl Memory {
    /// Looks for what is to be read of a job's output, and what to wait for if there is nothing. `may_wait` no
    /// longer: it is answered as things are.
    pub(crate) fn look_at_logs(&mut self, read: &ReadLogs, now: Instant, may_wait: bool) -> LogsLook {
        let Some(job) = self.state.job(&read.job).cloned() else { return LogsLook::Over };
        match &job.phase {
            Phase::Ended(_) => LogsLook::Over,
            Phase::Lost(_) => LogsLook::Piece(read.nothing(&job, JobStatus::Lost)),
            Phase::Queued => {
                let about = read.nothing(&job, JobStatus::Queued);
                if !(read.follow && may_wait) || self.is_closing() {
                    return LogsLook::Piece(about);
                }
                let changed = self.jobs.watch(job.id.clone());
                LogsLook::Wait { changed, bits: Vec::new(), about: Box::new(about) }
            }
            Phase::Leased(lease) => self.look_at_run(read, &job, lease, now, may_wait),
        }
    }

    fn look_at_run(
        &mut self,
        read: &ReadLogs,
        job: &Job,
        lease: &Lease,
        now: Instant,
        may_wait: bool,
    ) -> LogsLook {
        let mut about = read.nothing(job, JobStatus::Leased);
        let is_of_it = read.from.fence.is_none_or(|fence| fence == job.fence);
        let (mut is_all, mut missing) = (true, Vec::new());
        about.live = true;
        for (stream, from) in read.streams() {
            let offset = if is_of_it { from } else { 0 };
            let Some(channel) = self.logs.channel(job, lease, stream, now) else {
                return LogsLook::Fault(LogsFault::TooMany);
            };
            if let Some((offset, text)) = channel.found(offset) {
                let piece = filled(about, stream, offset, text);
                channel.read_to = channel.read_to.max(piece.next_offset);
                return LogsLook::Piece(piece);
            }
            about.live &= channel.answered;
            is_all &= channel.answered && channel.at_end && offset >= channel.end();
            missing.push((stream, offset));
        }
        // A new attempt is told of at once.
        if !is_of_it || (!read.follow && is_all) {
            return LogsLook::Piece(about);
        }
        if !may_wait || self.is_closing() {
            let (job, host) = (job.id.clone(), lease.host.clone());
            let is_clear = read.follow || self.is_closing();
            return if is_clear {
                LogsLook::Piece(about)
            } else {
                LogsLook::Fault(LogsFault::HostSilent { job, host })
            };
        }
        let mut bits = Vec::new();
        for (stream, offset) in missing {
            match self.wait_for(job, lease, stream, offset, !read.follow, now) {
                Some(bit) => bits.push(bit),
                None => return LogsLook::Fault(LogsFault::TooMany),
            }
        }
        LogsLook::Wait { changed: self.jobs.watch(job.id.clone()), bits, about: Box::new(about) }
    }

    /// Lets a read wait, and has the host told when that is news to it.
    fn wait_for(
        &mut self,
        job: &Job,
        lease: &Lease,
        stream: LogStream,
        offset: u64,
        is_now: bool,
        now: Instant,
    ) -> Option<oneshot::Receiver<Bit>> {
        let channel = self.logs.channel(job, lease, stream, now)?;
        if channel.waiting.len() >= MAX_WAITING {
            channel.waiting.retain(|waiting| !waiting.send.is_closed());
            if channel.waiting.len() >= MAX_WAITING {
                return None;
            }
        }
        let (send, bit) = oneshot::channel();
        channel.waiting.push(Waiting { offset, now: is_now, send });
        if channel.asked.is_none_or(|asked| offset < asked) {
            self.beats.wake(&lease.host);
        }
        Some(bit)
    }

    /// Takes in what a host has brought, and says what is wanted of the job now.
    pub(crate) fn take_logs(
        &mut self,
        piece: &PushLogs,
        now: Instant,
    ) -> Result<Result<Vec<LogWant>, LogsFault>, Refusal> {
        let job = self.state.job(&piece.job).ok_or_else(|| Refusal::NotLeased(piece.job.clone()))?;
        let lease = job.lease().ok_or_else(|| Refusal::NotLeased(job.id.clone()))?;
        if job.fence != piece.fence {
            let (job, current) = (job.id.clone(), job.fence);
            return Err(Refusal::StaleFence { job, current, given: piece.fence });
        }
        if lease.host != piece.host {
            let (job, holder) = (job.id.clone(), Some(lease.host.clone()));
            return Err(Refusal::AssignedElsewhere { job, holder });
        }
        let refused = || LogsFault::NotWanted { job: piece.job.clone(), stream: piece.stream };
        let room = ALL_BYTES.saturating_sub(self.logs.held);
        let Some(of_host) = self.logs.hosts.get_mut(&piece.host) else { return Ok(Err(refused())) };
        let key = (piece.job.clone(), piece.stream);
        let channel = of_host.get_mut(&key).filter(|channel| channel.fence == piece.fence);
        let Some(channel) = channel else { return Ok(Err(refused())) };
        if channel.ask(now).is_none() {
            return Ok(Err(refused()));
        }
        let grown = channel.take(piece, room);
        self.logs.held = self.logs.held.saturating_add_signed(grown);
        let both = LogStream::ALL.iter().map(|stream| (piece.job.clone(), *stream));
        let both = both.filter_map(|key| {
            let channel = of_host.get_mut(&key).filter(|channel| channel.fence == piece.fence)?;
            want(&key, channel, now)
        });
        Ok(Ok(both.collect()))
    }
}
