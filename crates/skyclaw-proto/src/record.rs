//! Records as clients read them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::notice::{Gap, Notice};
use crate::object;
use crate::payload::Env;
use crate::{
    AgentId, AssignmentStatus, Capabilities, Enforces, FreezeId, HostId, HostState, Isolation, JobId,
    JobStatus, Mount, NodeId, OnLost, Payload, Resources, Scope, ServiceId, ServiceStatus, Terms, Timestamp,
};

/// A machine that runs work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    /// Its id.
    pub id: HostId,
    /// For people.
    pub name: String,
    /// What it can do.
    pub capabilities: Capabilities,
    /// How many jobs it may hold at once.
    pub max_parallel: u32,
    /// How many it holds.
    pub active_leases: u32,
    /// When it was last heard of.
    pub last_seen_at: Timestamp,
    /// When it first registered.
    pub registered_at: Timestamp,
    /// The coordinator that last changed the record.
    pub updated_by: NodeId,
    /// Grows with each change.
    pub version: u64,
    /// How it does. (Ours, as all that follows.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<HostState>,
    /// Since when it does so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_since: Option<Timestamp>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_reason: Option<String>,
    /// That it is drained, also while it is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// What it can enforce; absent when it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforces: Option<Enforces>,
    /// That it was frozen on its machine, also while it is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<HostFreeze>,
    /// When it was frozen and thawed lately, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<HostEvent>,
}

/// That a host was frozen by an operator on its machine. Only that host ends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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

/// Something that was done to a host on its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostEvent {
    /// When the cluster heard of it.
    pub at: Timestamp,
    /// What: `frozen` or `thawed`.
    pub kind: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who did it, as the machine knows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// That a host takes no more work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// Since when.
    pub since: Timestamp,
    /// When what still runs is told to stop; absent when it may run to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<Timestamp>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who asked for it, as they say themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What a job asks of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Requirement {
    /// Capabilities the host must have.
    #[serde(default)]
    pub required_capabilities: Capabilities,
}

/// One piece of work with an end. Who only writes it down can lend the payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job<P = Payload> {
    /// Its id.
    pub id: JobId,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The coordinator that last changed it.
    pub updated_by: NodeId,
    /// Grows with each change.
    pub version: u64,
    /// Where it is in its life.
    pub status: JobStatus,
    /// How often it was claimed.
    pub attempts: u32,
    /// When the lease runs out, while `leased`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_expires_at: Option<Timestamp>,
    /// Who has it, or who ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned_host_id: Option<HostId>,
    /// What it asks of a host.
    #[serde(default)]
    pub requirement: Requirement,
    /// What it runs.
    pub payload: P,
    /// Who submitted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_by: Option<String>,
    /// How the run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<JobResult>,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// 0 to 100, higher first. (Ours; absent means 50.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// For finding it again. (Ours.)
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The fencing token of the newest lease: grows with each claim. (Ours.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
    /// Since when a running job is being called off. (Ours.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_requested_at: Option<Timestamp>,
    /// Since when it is `lost`. (Ours, as all that follows.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_at: Option<Timestamp>,
    /// What happens when its host is lost; absent means `retry`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_lost: Option<OnLost>,
    /// What keeps it apart from the rest of its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// The image of its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// On whose behalf it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// The network of its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// What of the host its container sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// How long it may take to stop by itself, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
}

impl<P> Job<P> {
    /// How it is to be run.
    #[must_use]
    pub fn terms(&self) -> Terms {
        Terms {
            on_lost: self.on_lost.unwrap_or_default(),
            isolation: self.isolation,
            image: self.image.clone(),
            resources: self.resources.unwrap_or_default(),
            agent_id: self.agent_id.clone(),
            network: self.network.clone(),
            mounts: self.mounts.clone(),
            grace_ms: self.grace_ms,
        }
    }

    /// The same job, to be run like this.
    #[must_use]
    pub fn with_terms(self, terms: &Terms) -> Self {
        let terms = terms.clone();
        Self {
            on_lost: Some(terms.on_lost).filter(|on_lost| *on_lost != OnLost::default()),
            isolation: terms.isolation,
            image: terms.image,
            resources: Some(terms.resources).filter(|resources| !resources.is_empty()),
            agent_id: terms.agent_id,
            network: terms.network,
            mounts: terms.mounts,
            grace_ms: terms.grace_ms,
            ..self
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobResult {
    /// When the coordinator learned of it.
    pub finished_at: Timestamp,
    /// How long it ran, as the host measured.
    pub duration_ms: u64,
    /// The exit code.
    pub exit_code: i32,
    /// What it wrote, bounded.
    pub stdout: String,
    /// What it wrote, bounded.
    pub stderr: String,
    /// What it used. (Ours.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Whether it ran out of the memory it may use. (Ours.)
    #[serde(default, skip_serializing_if = "is_false")]
    pub oom: bool,
}

/// What a run used, as far as the host could measure it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// Time on processors, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// The most memory it had at once, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
}

impl Usage {
    /// Whether nothing could be measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Something that happened to a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When, by the clock of who tells it.
    pub at: Timestamp,
    /// What.
    pub kind: String,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// On which host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_id: Option<HostId>,
    /// Under which lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
}

/// One use of the switch that stops everything, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Freeze {
    /// Its id.
    pub id: FreezeId,
    /// What it covers.
    pub scope: Scope,
    /// Since when.
    pub frozen_at: Timestamp,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who asked for it, as they say themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Since when it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thawed_at: Option<Timestamp>,
    /// Who ended it, as they say themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thawed_by: Option<String>,
}

/// A long-lived process with replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Its id.
    pub id: ServiceId,
    /// The name gateways route by.
    pub name: String,
    /// A bare name or a path.
    pub command: String,
    /// Arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Variables added to the built environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Env>,
    /// How many of it should run.
    pub replicas: u32,
    /// What it asks of a host.
    #[serde(default)]
    pub required_capabilities: Capabilities,
    /// How it does as a whole.
    pub status: ServiceStatus,
    /// When it was deployed.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The coordinator that last changed it.
    pub updated_by: NodeId,
    /// Grows with each change.
    pub version: u64,
    /// Which hosts run it.
    #[serde(default)]
    pub assignments: Vec<Assignment>,
    /// For finding it again, and for freezing it. (Ours.)
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// On whose behalf it runs. (Ours.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
}

/// One replica of a service on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// The host.
    pub host_id: HostId,
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
}

/// Everything a coordinator keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The coordinator that says so.
    pub node_id: NodeId,
    /// All hosts.
    #[serde(default, deserialize_with = "object::list")]
    pub hosts: Vec<Host>,
    /// All jobs, oldest first.
    #[serde(default, deserialize_with = "object::list")]
    pub jobs: Vec<Job>,
    /// All services, oldest first.
    #[serde(default, deserialize_with = "object::list")]
    pub services: Vec<Service>,
}
