//! Hosts.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skyclaw_proto::{Capabilities, Enforces, HostId, Isolation, NodeId, Timestamp};

use super::with_words;

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
