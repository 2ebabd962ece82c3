//! Hosts.

use std::collections::BTreeSet;
use std::sync::Arc;

use skyclaw_proto::{Capabilities, HostId};

use super::Draft;
use crate::model::Host;
use crate::outcome::{Effect, Reply};

impl Draft<'_> {
    /// A known id keeps its `registered_at` and its leases.
    pub(super) fn register_host(
        &mut self,
        id: &HostId,
        name: &str,
        capabilities: &Capabilities,
        max_parallel: u32,
    ) -> Reply {
        let known = self.state.hosts.get(id).cloned();
        let held = self.state.leases.get(id).map_or(0, BTreeSet::len);
        let host = self.put_host(Host {
            id: id.clone(),
            name: name.to_owned(),
            capabilities: capabilities.clone(),
            max_parallel: max_parallel.max(1),
            active_leases: u32::try_from(held).unwrap_or(u32::MAX),
            last_seen_at: self.stamp.at,
            registered_at: known.map_or(self.stamp.at, |host| host.registered_at),
            updated_by: self.stamp.node.clone(),
            version: 0,
        });
        // It may do more now than a claim of it that waits was looked up for.
        self.effects.push(Effect::HostChanged { host: id.clone() });
        Reply::Host(Arc::clone(&host))
    }
}
