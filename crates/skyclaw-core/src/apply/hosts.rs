//! Hosts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use skyclaw_proto::{AssignmentStatus, Capabilities, Enforces, HostId};

use super::Draft;
use super::services::overall;
use crate::model::{Condition, Drain, Host, HostEvent, HostFreeze, Service};
use crate::outcome::{Change, Effect, Refusal, Reply};

impl Draft<'_> {
    /// A known id keeps its `registered_at` and its leases, and is drained on if it was drained.
    pub(super) fn register_host(
        &mut self,
        id: &HostId,
        name: &str,
        capabilities: &Capabilities,
        max_parallel: u32,
        enforces: Option<&Arc<Enforces>>,
    ) -> Reply {
        let known = self.state.hosts.get(id).cloned();
        let held = self.state.leases.get(id).map_or(0, BTreeSet::len);
        let condition = known.as_ref().and_then(|host| host.condition.clone());
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
            condition: condition.map(|condition| Box::new(self.heard_of(*condition))),
            enforces: enforces.cloned(),
        });
        // It may do more now than a claim of it that waits was looked up for.
        self.effects.push(Effect::HostChanged { host: id.clone() });
        Reply::Host(Arc::clone(&host))
    }

    fn heard_of(&self, condition: Condition) -> Condition {
        match condition.down_since {
            Some(_) => Condition { down_since: None, up_since: Some(self.stamp.at), ..condition },
            None => condition,
        }
    }

    /// Draining again changes the deadline and the reason.
    pub(super) fn drain_host(
        &mut self,
        id: &HostId,
        deadline_ms: Option<u64>,
        reason: Option<&String>,
        by: Option<&String>,
    ) -> Result<Reply, Refusal> {
        let host = self.registered(id)?;
        let drain = Drain {
            since: host.drain().map_or(self.stamp.at, |drain| drain.since),
            deadline: deadline_ms.map(|ms| self.stamp.at.plus(Duration::from_millis(ms))),
            reason: reason.cloned(),
            by: by.cloned(),
        };
        let host = self.put_condition(&host, |condition| condition.drain = Some(drain));
        // Its services are to stop, and its runs when the time is over.
        self.effects.push(Effect::TellHost { host: id.clone() });
        Ok(Reply::Host(host))
    }

    pub(super) fn undrain_host(&mut self, id: &HostId) -> Result<Reply, Refusal> {
        let host = self.registered(id)?;
        if host.drain().is_none() {
            return Ok(Reply::Host(host));
        }
        let host = self.put_condition(&host, |condition| condition.drain = None);
        self.effects.push(Effect::HostChanged { host: id.clone() });
        Ok(Reply::Host(host))
    }

    /// Its leases run out by themselves, as it may be running what they are for; its replicas are given up.
    pub(super) fn remove_host(&mut self, id: &HostId, force: bool) -> Result<Reply, Refusal> {
        let host = self.registered(id)?;
        if let Some(why) = self.obstacle_to_removal(&host).filter(|_| !force) {
            return Err(Refusal::HostBusy { host: id.clone(), why });
        }
        self.state.hosts.remove(id);
        self.state.offers.remove(id);
        self.changes.push(Change::RemoveHost(id.clone()));
        let left: Vec<Arc<Service>> =
            self.state.services.values().filter(|s| s.assignment(id).is_some()).cloned().collect();
        for service in left {
            let mut service = (*service).clone();
            service.assignments.retain(|assignment| assignment.host != *id);
            service.status = overall(&service);
            self.put_service(service);
        }
        self.effects.push(Effect::HostChanged { host: id.clone() });
        Ok(Reply::Host(host))
    }

    fn obstacle_to_removal(&self, host: &Host) -> Option<String> {
        if host.down_since().is_some() {
            return None;
        }
        if host.drain().is_none() {
            return Some("is up".to_owned());
        }
        let runs = self.state.services.values().filter(|service| {
            service.assignment(&host.id).is_some_and(|own| own.status != AssignmentStatus::Failed)
        });
        match (host.active_leases, runs.count()) {
            (0, 0) => None,
            (jobs, services) => Some(format!("still has {jobs} jobs and {services} services")),
        }
    }

    /// What is no news is passed by. The version stays as it is: another mesh whose records are still taken over
    /// knows nothing of who is heard of here, and what it says of such a host later must not look old.
    pub(super) fn note_hosts(&mut self, up: &[HostId], down: &[HostId]) -> Reply {
        let at = self.stamp.at;
        for id in up {
            let Some(host) = self.state.hosts.get(id).filter(|host| host.down_since().is_some()).cloned()
            else {
                continue;
            };
            self.adopt_host(with_condition(&host, |condition| {
                (condition.down_since, condition.up_since) = (None, Some(at));
            }));
        }
        for id in down {
            let Some(host) = self.state.hosts.get(id).filter(|host| host.down_since().is_none()).cloned()
            else {
                continue;
            };
            self.adopt_host(with_condition(&host, |condition| {
                (condition.down_since, condition.up_since) = (Some(at), None);
            }));
        }
        Reply::Done
    }

    /// What a host says of its own switch. What is no news changes nothing.
    pub(super) fn note_switch(
        &mut self,
        id: &HostId,
        frozen: Option<&HostFreeze>,
        by: Option<&String>,
    ) -> Result<Reply, Refusal> {
        let host = self.registered(id)?;
        if host.frozen() == frozen {
            return Ok(Reply::Host(host));
        }
        let event = HostEvent {
            at: self.stamp.at,
            frozen: frozen.is_some(),
            reason: frozen.and_then(|frozen| frozen.reason.clone()),
            by: frozen.map_or(by, |frozen| frozen.by.as_ref()).cloned(),
        };
        let host = self.put_condition(&host, |condition| {
            condition.frozen = frozen.cloned();
            let surplus = (condition.events.len() + 1).saturating_sub(Condition::MAX_EVENTS);
            condition.events.drain(..surplus);
            condition.events.push(event);
        });
        // A claim of it that waits is looked at again.
        self.effects.push(Effect::HostChanged { host: id.clone() });
        Ok(Reply::Host(host))
    }

    fn registered(&self, id: &HostId) -> Result<Arc<Host>, Refusal> {
        self.state.hosts.get(id).cloned().ok_or_else(|| Refusal::UnknownHost(id.clone()))
    }

    fn put_condition(&mut self, host: &Host, change: impl FnOnce(&mut Condition)) -> Arc<Host> {
        self.put_host(with_condition(host, change))
    }
}

fn with_condition(host: &Host, change: impl FnOnce(&mut Condition)) -> Host {
    let mut condition = host.condition.clone().unwrap_or_default();
    change(&mut condition);
    let condition = Some(condition).filter(|condition| **condition != Condition::default());
    Host { condition, ..host.clone() }
}
