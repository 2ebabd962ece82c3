//! Taking over the records of a reference coordinator.
//!
//! The newer of two records wins, by (`version`, `updatedAt`, `updatedBy`). What a record says of
//! itself is kept, its version and stamp too, so that merging the same records again changes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use skyclaw_proto::record;
use skyclaw_proto::{HostId, NodeId, Timestamp};

use super::Draft;
use crate::archive::Archive;
use crate::model::{Host, Lease, Phase};
use crate::outcome::{Change, Effect, Reply};
use crate::wire::{adopt_job, adopt_service};

impl Draft<'_> {
    pub(super) fn merge(
        &mut self,
        hosts: &[record::Host],
        jobs: &[record::Job],
        services: &[record::Service],
        archive: &impl Archive,
    ) -> Reply {
        let mut touched = BTreeSet::new();
        let mut changed = false;
        for host in hosts {
            changed |= self.merge_host(host, &mut touched);
        }
        for job in oldest_first(jobs, |job| job.created_at) {
            changed |= self.merge_job(job, archive, &mut touched);
        }
        for service in oldest_first(services, |service| service.created_at) {
            changed |= self.merge_service(service);
        }
        for host in &touched {
            self.recount(host);
            self.effects.push(Effect::HostChanged { host: host.clone() });
        }
        Reply::Merged(changed)
    }

    fn merge_host(&mut self, incoming: &record::Host, touched: &mut BTreeSet<HostId>) -> bool {
        // Hosts have no `updatedAt`.
        let never = Timestamp::default();
        if let Some(own) = self.state.hosts.get(&incoming.id) {
            let theirs = rank(incoming.version, never, &incoming.updated_by);
            if theirs <= rank(own.version, never, &own.updated_by) {
                return false;
            }
        }
        self.saw_version(incoming.version);
        let host = Arc::new(Host::from(incoming));
        touched.insert(host.id.clone());
        self.state.hosts.insert(host.id.clone(), Arc::clone(&host));
        self.changes.push(Change::Host(host));
        true
    }

    fn merge_job(
        &mut self,
        incoming: &record::Job,
        archive: &impl Archive,
        touched: &mut BTreeSet<HostId>,
    ) -> bool {
        let own = self.state.jobs.get(&incoming.id).cloned().or_else(|| archive.job(&incoming.id));
        if let Some(own) = &own {
            let theirs = rank(incoming.version, incoming.updated_at, &incoming.updated_by);
            if theirs <= rank(own.version, own.updated_at, &own.updated_by) {
                return false;
            }
        }
        self.saw_version(incoming.version);
        let seq = own.as_ref().map_or_else(|| self.state.next_seq(), |job| job.seq);
        let mut job = adopt_job(incoming, seq);
        let held_before = own.as_ref().and_then(|job| job.lease()).map(|lease| lease.host.clone());
        if let Phase::Leased(Lease { host, .. }) = &job.phase {
            // Our fencing tokens grow over all jobs; whatever number the other mesh used means nothing.
            job.fence = self.state.counters.next_fence;
            self.state.counters.next_fence += 1;
            touched.insert(host.clone());
            let (id, fence, host) = (job.id.clone(), job.fence, host.clone());
            self.effects.push(Effect::LeaseHeld { job: id, fence, host });
        } else {
            job.fence = own.as_ref().map_or(0, |job| job.fence);
            if held_before.is_some() {
                self.effects.push(Effect::LeaseOver { job: job.id.clone() });
            }
        }
        touched.extend(held_before);
        self.adopt_job(job);
        true
    }

    fn merge_service(&mut self, incoming: &record::Service) -> bool {
        let own = self.state.services.get(&incoming.id).cloned();
        if let Some(own) = &own {
            let theirs = rank(incoming.version, incoming.updated_at, &incoming.updated_by);
            if theirs <= rank(own.version, own.updated_at, &own.updated_by) {
                return false;
            }
        }
        self.saw_version(incoming.version);
        let seq = own.map_or_else(|| self.state.next_seq(), |service| service.seq);
        self.adopt_service(adopt_service(incoming, seq));
        true
    }

    /// What we change from now on is newer than what was adopted.
    fn saw_version(&mut self, version: u64) {
        let next = version.saturating_add(1);
        self.state.counters.next_version = self.state.counters.next_version.max(next);
    }
}

type Rank<'a> = (u64, Timestamp, &'a str);

fn rank(version: u64, updated_at: Timestamp, updated_by: &NodeId) -> Rank<'_> {
    (version, updated_at, updated_by.as_str())
}

fn oldest_first<T>(records: &[T], created_at: impl Fn(&T) -> Timestamp) -> Vec<&T> {
    let mut all: Vec<&T> = records.iter().collect();
    all.sort_by_key(|record| created_at(record));
    all
}
