//! Jobs.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skyclaw_proto::record::Usage;
use skyclaw_proto::{
    Actor, ActorKind, AgentId, Capabilities, HostId, JobId, JobStatus, NodeId, OnLost, Payload, Terms,
    Timestamp,
};

use super::needs;
use crate::bonds::Bonds;
use crate::history::{Event, History, SUBMITTED};
use crate::life::Life;
use crate::schedule::Origin;

/// One piece of work with an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Its place in the order of enqueueing, unique.
    pub seq: u64,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The coordinator that last changed it.
    pub updated_by: NodeId,
    /// Grows with each change.
    pub version: u64,
    /// How often it was claimed.
    pub attempts: u32,
    /// 0 to 100, higher first.
    pub priority: u8,
    /// What it asks of a host.
    pub required: Capabilities,
    /// What it runs.
    pub payload: Arc<Payload>,
    /// For finding it again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Who submitted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_by: Option<String>,
    /// The fencing token of the newest lease; 0 before the first.
    #[serde(default)]
    pub fence: u64,
    /// How it is to be run; `None` when nothing was said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Arc<Terms>>,
    /// What ties it to other jobs, and what has come of that; `None` when nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bonds: Option<Arc<Bonds>>,
    /// When and how often it is to be run, and what has come of that; `None` when nothing was said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life: Option<Arc<Life>>,
    /// What happened to it; `None` before anything did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Arc<History>>,
    /// The schedule that submitted it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Arc<Origin>>,
    /// Where it is in its life.
    pub phase: Phase,
}

/// Where a job is in its life.
///
/// ```text
///   Ended(expired)
///     ▲ waits too long
///   Queued ──claim──► Leased ──complete──► Ended(completed | failed)
///     ▲ │               │ │
///     │ └──cancel──┐    │ └──cancel──► (asked to stop) ──► Ended(cancelled)
///     │            ▼    │
///     │   Ended(cancelled)
///     ├─ the run failed, and may be tried again
///     ├─ somebody wants a job retried that Ended(failed | cancelled | expired)
///     └─ lease runs out, or its host had to stop it ─► Lost ──resolve──► Queued | Ended
///                                                        └─complete, cancel─► Ended
/// ```
///
/// Which of the two it is, or an end as `failed`, is what the job says of being lost ([`OnLost`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waits for a host.
    Queued,
    /// A host has it.
    Leased(Lease),
    /// Nothing more happens to it.
    Ended(Ended),
    /// Its host was lost, and it waits for a decision.
    Lost(Lost),
}

/// A job that may or may not have been done, and must not be done twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Who had it.
    pub host: HostId,
    /// Since when.
    pub since: Timestamp,
    /// How it was lost.
    pub why: Box<str>,
}

/// A host's right to run a job, for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who holds it.
    pub host: HostId,
    /// When it runs out, unless it is renewed.
    pub expires_at: Timestamp,
    /// Since when the host is asked to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_requested_at: Option<Timestamp>,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// In which way.
    pub status: EndStatus,
    /// Who ran it last; `None` when nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// How the run ended; `None` when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Arc<Run>>,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// In which way a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndStatus {
    /// Ran and succeeded.
    Completed,
    /// Ran and did not succeed.
    Failed,
    /// Was called off.
    Cancelled,
    /// Waited longer than it was allowed to.
    Expired,
}

/// The end of one run, as its host reported it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// When the coordinator learned of it.
    pub finished_at: Timestamp,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
    /// The exit code.
    pub exit_code: i32,
    /// What it wrote, bounded.
    pub stdout: String,
    /// What it wrote, bounded.
    pub stderr: String,
    /// What it used, as far as that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Whether it ran out of the memory it may use.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oom: bool,
}

impl Job {
    /// The status on the wire.
    #[must_use]
    pub fn status(&self) -> JobStatus {
        match &self.phase {
            Phase::Queued => JobStatus::Queued,
            Phase::Leased(_) => JobStatus::Leased,
            Phase::Ended(ended) => ended.status.into(),
            Phase::Lost(_) => JobStatus::Lost,
        }
    }

    /// What happens when its host is lost.
    #[must_use]
    pub fn on_lost(&self) -> OnLost {
        self.terms.as_ref().map(|terms| terms.on_lost).unwrap_or_default()
    }

    /// On whose behalf it runs.
    #[must_use]
    pub fn agent(&self) -> Option<&AgentId> {
        self.terms.as_ref()?.agent_id.as_ref()
    }

    /// Everything it asks of a host: the capabilities, and what the host must be able to enforce.
    #[must_use]
    pub fn needs(&self) -> Capabilities {
        needs(&self.required, self.terms.as_deref())
    }

    /// What is kept of what happened to it, oldest first.
    pub fn events(&self) -> impl Iterator<Item = Event> {
        self.history.iter().flat_map(|history| history.events())
    }

    /// What happened to it, oldest first. That it was submitted follows from the record where nothing is kept of it.
    pub fn story(&self) -> impl Iterator<Item = Event> {
        let mut kept = self.events().peekable();
        let is_kept = kept.peek().is_some_and(|first| &*first.kind == SUBMITTED);
        (!is_kept).then(|| self.submission()).into_iter().chain(kept)
    }

    /// That it was submitted, and by whom as far as the record tells.
    fn submission(&self) -> Event {
        let by = match (&self.origin, &self.submitted_by) {
            (Some(origin), _) => Some(Actor::of_schedule(&origin.schedule)),
            (None, Some(name)) => Some(Actor { stated: Some(name.clone()), ..Actor::new(ActorKind::Client) }),
            (None, None) => None,
        };
        Event { by: by.map(Arc::new), ..Event::new(self.created_at, SUBMITTED, "") }
    }

    pub(crate) fn remember(&mut self, event: Event) {
        Arc::make_mut(self.history.get_or_insert_default()).push(event);
    }

    /// Keeps what a host tells of a run, once.
    pub(crate) fn remember_told(&mut self, event: Event) {
        Arc::make_mut(self.history.get_or_insert_default()).push_told(event);
    }

    /// The lease, while there is one.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        match &self.phase {
            Phase::Leased(lease) => Some(lease),
            Phase::Queued | Phase::Ended(_) | Phase::Lost(_) => None,
        }
    }

    /// Who has it or ran it last.
    #[must_use]
    pub fn host(&self) -> Option<&HostId> {
        match &self.phase {
            Phase::Queued => None,
            Phase::Leased(lease) => Some(&lease.host),
            Phase::Ended(ended) => ended.host.as_ref(),
            Phase::Lost(lost) => Some(&lost.host),
        }
    }

    /// Whether nothing more happens to it.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }
}

impl From<EndStatus> for JobStatus {
    fn from(status: EndStatus) -> Self {
        match status {
            EndStatus::Completed => Self::Completed,
            EndStatus::Failed => Self::Failed,
            EndStatus::Cancelled => Self::Cancelled,
            EndStatus::Expired => Self::Expired,
        }
    }
}
