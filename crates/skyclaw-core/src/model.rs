//! What the state machine keeps of hosts, jobs and services.
//!
//! These are the domain's own types: a job's phase owns what exists only in that phase, so that a
//! queued job with a lease, or a leased one without a host, cannot be written down.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skyclaw_proto::payload::Env;
use skyclaw_proto::record::Usage;
use skyclaw_proto::{
    Actor, ActorKind, AgentId, AssignmentStatus, Capabilities, Enforces, HostId, Isolation, JobId, JobStatus,
    NodeId, OnLost, Payload, ServiceId, ServiceStatus, Terms, Timestamp,
};

use crate::bonds::Bonds;
use crate::history::{Event, History, SUBMITTED};
use crate::life::Life;
use crate::schedule::Origin;

/// A machine that runs work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its id.
    pub id: HostId,
    /// For people.
    pub name: String,
    /// What it can do.
    pub capabilities: Capabilities,
    /// How many jobs it may hold at once; at least 1.
    pub max_parallel: u32,
    /// How many it holds.
    pub active_leases: u32,
    /// When it last registered. (Heartbeats are not part of the replicated state.)
    pub last_seen_at: Timestamp,
    /// When it first registered.
    pub registered_at: Timestamp,
    /// The coordinator that last changed the record.
    pub updated_by: NodeId,
    /// Grows with each change.
    pub version: u64,
    /// How it does, when there is something to say of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Box<Condition>>,
    /// What it can enforce; `None` when it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforces: Option<Arc<Enforces>>,
}

/// How a host does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Condition {
    /// Since when it has not been heard of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down_since: Option<Timestamp>,
    /// Since when it is heard of again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up_since: Option<Timestamp>,
    /// That it takes no more work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// That an operator on its machine has frozen it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen: Option<HostFreeze>,
    /// When it was frozen and thawed lately, oldest first; at most [`Condition::MAX_EVENTS`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<HostEvent>,
}

impl Condition {
    /// How many events of a host are kept.
    pub const MAX_EVENTS: usize = 16;
}

/// That an operator on a host's machine has frozen it. The host alone ends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFreeze {
    /// Since when, by the clock of the host.
    pub since: Timestamp,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who did it, as the machine knows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// That a host was frozen or thawed on its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEvent {
    /// When the cluster heard of it.
    pub at: Timestamp,
    /// Whether it was frozen; thawed, if not.
    pub frozen: bool,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// That a host takes no more work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Since when.
    pub since: Timestamp,
    /// When what still runs is told to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who asked for it, as they say themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

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

/// A long-lived process with replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its id.
    pub id: ServiceId,
    /// Its place in the order of deployment, unique.
    pub seq: u64,
    /// The name gateways route by.
    pub name: String,
    /// A bare name or a path.
    pub command: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Variables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Env>,
    /// How many of it should run; at least 1.
    pub replicas: u32,
    /// What it asks of a host.
    pub required: Capabilities,
    /// How it does as a whole: follows from the assignments.
    pub status: ServiceStatus,
    /// When it was deployed.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The coordinator that last changed it.
    pub updated_by: NodeId,
    /// Grows with each change.
    pub version: u64,
    /// Which hosts run it, in the order they took it; one a host.
    pub assignments: Vec<Assignment>,
    /// For finding it again, and for freezing it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// On whose behalf it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
}

/// One replica of a service on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The host.
    pub host: HostId,
    /// How it does.
    pub status: AssignmentStatus,
    /// Where it can be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Why it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it first ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// How often it, and what ran in its place before it, failed in a row: the wait before the next try
    /// grows with it.
    #[serde(default)]
    pub failures: u32,
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

impl Host {
    /// That it takes no more work.
    #[must_use]
    pub fn drain(&self) -> Option<&Drain> {
        self.condition.as_ref()?.drain.as_ref()
    }

    /// That an operator on its machine has frozen it.
    #[must_use]
    pub fn frozen(&self) -> Option<&HostFreeze> {
        self.condition.as_ref()?.frozen.as_ref()
    }

    /// Whether it may be given anything.
    #[must_use]
    pub fn takes_work(&self) -> bool {
        self.drain().is_none() && self.frozen().is_none()
    }

    /// Since when it has not been heard of.
    #[must_use]
    pub fn down_since(&self) -> Option<Timestamp> {
        self.condition.as_ref()?.down_since
    }

    /// Everything a job may ask of it: the capabilities, and what it can enforce. One that says nothing of
    /// that runs processes.
    #[must_use]
    pub fn offers(&self) -> Capabilities {
        match &self.enforces {
            Some(enforces) => with_words(&self.capabilities, enforces.words().map(str::to_owned)),
            None => with_words(&self.capabilities, [Isolation::Process.to_string()].into_iter()),
        }
    }
}

/// What a job asks of a host.
pub(crate) fn needs(required: &Capabilities, terms: Option<&Terms>) -> Capabilities {
    match terms {
        Some(terms) => with_words(required, terms.needs()),
        None => required.clone(),
    }
}

/// Capabilities and, beside them, words about what is enforced. A word begins with a character that no
/// capability has, so no client can ask for or have one by another name.
fn with_words(set: &Capabilities, words: impl Iterator<Item = String>) -> Capabilities {
    let mut words = words.map(|word| format!("\0{word}")).peekable();
    if words.peek().is_none() {
        return set.clone();
    }
    Capabilities::new(set.iter().map(ToString::to_string).chain(words))
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

impl Service {
    /// The assignment of a host.
    #[must_use]
    pub fn assignment(&self, host: &HostId) -> Option<&Assignment> {
        self.assignments.iter().find(|a| a.host == *host)
    }
}
