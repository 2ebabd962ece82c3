//! The switch that stops everything, or what a scope covers, as the state machine keeps it.
//!
//! While a freeze is in force nothing that it covers is claimed, and hosts are told to stop what of it they
//! run. It ends by a command alone: not with a restart, a change of leaders, or a way back to a snapshot.

use serde::{Deserialize, Serialize};
use skyclaw_proto::{FreezeId, NodeId, Scope, Timestamp};

/// How many freezes that are over are kept: the newest.
pub const KEPT_FREEZES: usize = 64;

/// One use of the switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// Its place among all there were: 1, 2, 3 and so on.
    pub number: u64,
    /// Its id.
    pub id: FreezeId,
    /// What it covers.
    pub scope: Scope,
    /// Since when.
    pub at: Timestamp,
    /// The coordinator that took it in.
    pub node: NodeId,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who asked for it, as they say themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// That it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thawed: Option<Thawed>,
}

/// The end of a freeze.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thawed {
    /// When.
    pub at: Timestamp,
    /// Who asked for it, as they say themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl Freeze {
    /// Whether it is in force.
    #[must_use]
    pub fn is_in_force(&self) -> bool {
        self.thawed.is_none()
    }

    /// For people: what it is called, whose it is and why.
    pub(crate) fn described(&self) -> String {
        let by = self.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let why = self.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        format!("{} ({}){by}{why}", self.id, self.scope)
    }
}
