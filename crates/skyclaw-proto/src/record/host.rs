//! Hosts as clients read them.

use serde::{Deserialize, Serialize};

use crate::object;
use crate::{Capabilities, Enforces, HostId, HostState, NodeId, Timestamp};

/// A machine that runs work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object::optional")]
    pub drain: Option<Drain>,
    /// What it can enforce; absent when it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object::optional")]
    pub enforces: Option<Enforces>,
    /// That it was frozen on its machine, also while it is down.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object::optional")]
    pub frozen: Option<HostFreeze>,
    /// When it was frozen and thawed lately, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "object::list")]
    pub events: Vec<HostEvent>,
}

/// That a host was frozen by an operator on its machine. Only that host ends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
