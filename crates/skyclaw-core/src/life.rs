//! What few jobs have: a plan of when and how often they are run, and what has come of it.
//!
//! A job of which nothing was said has none of it, and pays for none.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skyclaw_proto::limits::{
    MAX_ATTEMPT_OUTPUT_LEN, MAX_ATTEMPT_RESULTS, MAX_ATTEMPTS_BYTES, MAX_EVENT_DETAIL_LEN,
};
use skyclaw_proto::{HostId, JobStatus, Plan, Timestamp};

use crate::model::{Ended, Job, Run};

/// The plan of a job, and what has come of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Life {
    /// When it is to be run, and how often.
    pub plan: Arc<Plan>,
    /// It is not claimed before then: a command takes this away when the time has come. Only while queued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claimable_at: Option<Timestamp>,
    /// It expires then unless it was claimed. Only while queued, and before the first claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// How many of the attempts that the plan allows have failed or were lost.
    #[serde(skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// How earlier attempts ended, oldest first, bounded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Arc<Attempt>>,
    /// Whether another mesh has sent it as one that had not ended: see [`Job::prunable`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
}

/// How an attempt ended after which the job was queued again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Which of the job's attempts it was.
    pub number: u32,
    /// How it ended.
    pub status: JobStatus,
    /// When that became known.
    pub ended_at: Timestamp,
    /// Who ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// The fencing token of its lease.
    #[serde(default)]
    pub fence: u64,
    /// How long it ran, in milliseconds; `None` when no host told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// The exit code; `None` when no host told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Box<str>>,
    /// The end of what it wrote.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub stdout: Box<str>,
    /// The end of what it wrote.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub stderr: Box<str>,
    /// Whether it ran out of the memory it may use.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oom: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Life {
    /// What a job begins with that is queued now, for the first time or by somebody's decision; `None` for a
    /// plan that asks for nothing.
    ///
    /// The time it may wait is counted from when it can be claimed at the earliest.
    pub(crate) fn begin(plan: Option<&Arc<Plan>>, now: Timestamp) -> Option<Arc<Self>> {
        let plan = plan?;
        let mut life = Self { plan: Arc::clone(plan), ..Self::default() };
        life.begin_anew(now);
        Some(Arc::new(life))
    }

    /// The same with what came before: earlier attempts are history, and count no more.
    pub(crate) fn begin_anew(&mut self, now: Timestamp) {
        self.claimable_at = self.plan.not_before.filter(|time| *time > now);
        let ttl = self.plan.ttl_ms.map(std::time::Duration::from_millis);
        self.expires_at = ttl.map(|ttl| self.claimable_at.unwrap_or(now).plus(ttl));
        self.failures = 0;
    }

    /// Once it was claimed or has ended, neither time means anything any more.
    pub(crate) fn waits_no_more(mut life: Arc<Self>) -> Arc<Self> {
        if life.due().is_some() {
            let life = Arc::make_mut(&mut life);
            (life.claimable_at, life.expires_at) = (None, None);
        }
        life
    }

    /// When there is something to do about the job, if it is queued.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        [self.claimable_at, self.expires_at].into_iter().flatten().min()
    }

    /// Keeps how an attempt ended, and of the oldest ones less when there is too much.
    pub(crate) fn keep(&mut self, attempt: Attempt) {
        self.attempts.push(Arc::new(attempt.bounded()));
        self.bound();
    }

    /// Drops what there is too much of: first the output of the oldest, then the oldest. The newest stays whole.
    pub(crate) fn bound(&mut self) {
        let surplus = self.attempts.len().saturating_sub(MAX_ATTEMPT_RESULTS);
        self.attempts.drain(..surplus);
        let mut bytes: usize = self.attempts.iter().map(|attempt| attempt.approx_bytes()).sum();
        let older = self.attempts.len().saturating_sub(1);
        for attempt in self.attempts.iter_mut().take(older) {
            if bytes <= MAX_ATTEMPTS_BYTES {
                return;
            }
            let before = attempt.approx_bytes();
            let attempt = Arc::make_mut(attempt);
            (attempt.stdout, attempt.stderr) = Default::default();
            bytes -= before - attempt.approx_bytes();
        }
        while bytes > MAX_ATTEMPTS_BYTES && self.attempts.len() > 1 {
            bytes -= self.attempts.remove(0).approx_bytes();
        }
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn approx_bytes(&self) -> usize {
        let attempts: usize = self.attempts.iter().map(|attempt| attempt.approx_bytes()).sum();
        128 + self.plan.approx_bytes() + attempts
    }
}

impl Attempt {
    /// What a result takes beside its texts.
    const FIXED_BYTES: usize = 128;

    /// How a run of the job ended.
    pub(crate) fn of(job: &Job, status: JobStatus, ended_at: Timestamp, ended: &Ended) -> Self {
        let run = ended.run.as_deref();
        let text = |of: fn(&Run) -> &String| run.map(|run| end_of(of(run), MAX_ATTEMPT_OUTPUT_LEN).into());
        Self {
            number: job.attempts,
            status,
            ended_at,
            host: ended.host.clone(),
            fence: job.fence,
            duration_ms: run.map(|run| run.duration_ms),
            exit_code: run.map(|run| run.exit_code),
            error: ended.error.as_deref().map(|error| start_of(error, MAX_EVENT_DETAIL_LEN).into()),
            stdout: text(|run| &run.stdout).unwrap_or_default(),
            stderr: text(|run| &run.stderr).unwrap_or_default(),
            oom: run.is_some_and(|run| run.oom),
        }
    }

    fn approx_bytes(&self) -> usize {
        let error = self.error.as_ref().map_or(0, |error| error.len());
        let host = self.host.as_ref().map_or(0, |host| host.as_str().len());
        Self::FIXED_BYTES + error + host + self.stdout.len() + self.stderr.len()
    }

    fn bounded(self) -> Self {
        Self {
            error: self.error.map(|error| start_of(&error, MAX_EVENT_DETAIL_LEN).into()),
            stdout: end_of(&self.stdout, MAX_ATTEMPT_OUTPUT_LEN).into(),
            stderr: end_of(&self.stderr, MAX_ATTEMPT_OUTPUT_LEN).into(),
            ..self
        }
    }
}

fn start_of(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

fn end_of(text: &str, most: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(most))..]
}
