//! Records as clients read them.

mod host;
mod job;
mod service;

use serde::{Deserialize, Serialize};

pub use self::host::{Drain, Host, HostEvent, HostFreeze};
pub use self::job::{AttemptResult, Event, Job, JobResult, Requirement, Usage};
pub use self::service::{Assignment, Service};
pub use crate::notice::{Gap, Notice};
use crate::object;
pub use crate::schedule::Schedule;
use crate::{FreezeId, NodeId, Scope, Timestamp};

/// One use of the switch that stops everything, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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

/// Everything a coordinator keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
