//! Records as clients read them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::object;
use crate::payload::Env;
use crate::{
    AssignmentStatus, Capabilities, HostId, JobId, JobStatus, NodeId, Payload, ServiceId, ServiceStatus,
    Timestamp,
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
}

/// What a job asks of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Requirement {
    /// Capabilities the host must have.
    #[serde(default)]
    pub required_capabilities: Capabilities,
}

/// One piece of work with an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
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
    pub payload: Payload,
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
