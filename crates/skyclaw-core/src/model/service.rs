//! Services.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skyclaw_proto::payload::Env;
use skyclaw_proto::{
    AgentId, AssignmentStatus, Capabilities, HostId, NodeId, ServiceId, ServiceStatus, Timestamp,
};

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

impl Service {
    /// The assignment of a host.
    #[must_use]
    pub fn assignment(&self, host: &HostId) -> Option<&Assignment> {
        self.assignments.iter().find(|a| a.host == *host)
    }
}
