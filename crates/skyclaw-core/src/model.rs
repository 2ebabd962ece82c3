//! What the state machine keeps of hosts, jobs and services.
//!
//! These are the domain's own types: a job's phase owns what exists only in that phase, so that a
//! queued job with a lease, or a leased one without a host, cannot be written down.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skyclaw_proto::payload::Env;
use skyclaw_proto::{
    AssignmentStatus, Capabilities, HostId, JobId, JobStatus, NodeId, Payload, ServiceId, ServiceStatus,
    Timestamp,
};

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
    /// Where it is in its life.
    pub phase: Phase,
}

/// Where a job is in its life.
///
/// ```text
///   Queued ──claim──► Leased ──complete──► Ended(completed | failed)
///     ▲ │               │ │
///     │ └──cancel──┐    │ └──cancel──► (asked to stop) ──► Ended(cancelled)
///     │            ▼    │
///     │   Ended(cancelled)
///     └──── lease runs out
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waits for a host.
    Queued,
    /// A host has it.
    Leased(Lease),
    /// Nothing more happens to it.
    Ended(Ended),
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
        }
    }

    /// The lease, while there is one.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        match &self.phase {
            Phase::Leased(lease) => Some(lease),
            Phase::Queued | Phase::Ended(_) => None,
        }
    }

    /// Who has it or ran it last.
    #[must_use]
    pub fn host(&self) -> Option<&HostId> {
        match &self.phase {
            Phase::Queued => None,
            Phase::Leased(lease) => Some(&lease.host),
            Phase::Ended(ended) => ended.host.as_ref(),
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

impl Service {
    /// The assignment of a host.
    #[must_use]
    pub fn assignment(&self, host: &HostId) -> Option<&Assignment> {
        self.assignments.iter().find(|a| a.host == *host)
    }
}
