//! Services as clients read them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::object;
use crate::payload::Env;
use crate::{AgentId, AssignmentStatus, Capabilities, HostId, NodeId, ServiceId, ServiceStatus, Timestamp};

/// A long-lived process with replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
    #[cfg_attr(feature = "openapi", schema(value_type = Option<BTreeMap<String, String>>))]
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
    #[serde(default, deserialize_with = "object::list")]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
