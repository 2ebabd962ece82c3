//! Taking over the records of a reference coordinator.
//!
//! The newer of two records wins, by (`version`, `updatedAt`, `updatedBy`). What a record says of
//! itself is kept, its version and stamp too, so that merging the same records again changes nothing.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use skyclaw_proto::record;
use skyclaw_proto::{HostId, JobId, NodeId, ServiceId, Timestamp};

use super::Draft;
use crate::archive::Archive;
use crate::model::{Host, Lease, Phase};
use crate::outcome::{Effect, Reply};
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
        for host in newest_of_each(hosts) {
            changed |= self.merge_host(host, &mut touched);
        }
        for job in newest_of_each(jobs) {
            changed |= self.merge_job(job, archive, &mut touched);
        }
        for service in newest_of_each(services) {
            changed |= self.merge_service(service);
        }
        for host in &touched {
            self.recount(host);
            self.effects.push(Effect::HostChanged { host: host.clone() });
        }
        Reply::Merged(changed)
    }

    fn merge_host(&mut self, incoming: &record::Host, touched: &mut BTreeSet<HostId>) -> bool {
        let own = self.state.hosts.get(&incoming.id).cloned();
        if own.as_ref().is_some_and(|own| incoming.rank() <= rank(own.version, NEVER, &own.updated_by)) {
            return false;
        }
        self.saw_version(incoming.version);
        let mut host = Host::from(incoming);
        // What only this mesh knows of it stays.
        if let Some(own) = own {
            host.condition.clone_from(&own.condition);
            host.enforces.clone_from(&own.enforces);
        }
        touched.insert(host.id.clone());
        self.adopt_host(host);
        true
    }

    fn merge_job(
        &mut self,
        incoming: &record::Job,
        archive: &impl Archive,
        touched: &mut BTreeSet<HostId>,
    ) -> bool {
        let own = self.known(&incoming.id, archive);
        if own.is_none() && self.state.was_pruned(incoming, self.stamp.at) {
            return false;
        }
        let is_newer = |own| incoming.rank() > own;
        if !own.as_ref().is_none_or(|own| is_newer(rank(own.version, own.updated_at, &own.updated_by))) {
            return false;
        }
        self.saw_version(incoming.version);
        let seq = own.as_ref().map_or_else(|| self.state.next_seq(), |job| job.seq);
        let mut job = adopt_job(incoming, seq);
        job.history = own.as_ref().and_then(|job| job.history.clone());
        // What a job of ours is tied to, another mesh may not know.
        if let Some(own) = &own {
            job.bonds.clone_from(&own.bonds);
        }
        if !job.is_ended() || own.as_ref().is_some_and(|own| own.is_kept_for_good()) {
            job.keep_for_good();
        }
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
        let is_newer = |own| incoming.rank() > own;
        if !own.as_ref().is_none_or(|own| is_newer(rank(own.version, own.updated_at, &own.updated_by))) {
            return false;
        }
        self.saw_version(incoming.version);
        let seq = own.map_or_else(|| self.state.next_seq(), |service| service.seq);
        self.adopt_service(adopt_service(incoming, seq));
        true
    }

    /// What we change from now on is newer than what was adopted.
    fn saw_version(&mut self, version: u64) {
        self.state.counters.next_version = self.state.counters.next_version.max(version + 1);
    }
}

/// Highest version that is adopted: the largest whole number a reference coordinator can count to. Our
/// own versions must have room to grow past it.
const MAX_VERSION: u64 = (1 << 53) - 1;

/// Hosts have no `updatedAt`.
const NEVER: Timestamp = Timestamp::EPOCH;

type Rank<'a> = (u64, Timestamp, &'a str);

fn rank(version: u64, updated_at: Timestamp, updated_by: &NodeId) -> Rank<'_> {
    (version, updated_at, updated_by.as_str())
}

/// A record of another mesh.
trait Incoming {
    type Id: Ord;
    fn id(&self) -> &Self::Id;
    fn made_at(&self) -> Timestamp;
    fn rank(&self) -> Rank<'_>;
}

impl Incoming for record::Host {
    type Id = HostId;
    fn id(&self) -> &HostId {
        &self.id
    }
    fn made_at(&self) -> Timestamp {
        self.registered_at
    }
    fn rank(&self) -> Rank<'_> {
        rank(self.version, NEVER, &self.updated_by)
    }
}

impl Incoming for record::Job {
    type Id = JobId;
    fn id(&self) -> &JobId {
        &self.id
    }
    fn made_at(&self) -> Timestamp {
        self.created_at
    }
    fn rank(&self) -> Rank<'_> {
        rank(self.version, self.updated_at, &self.updated_by)
    }
}

impl Incoming for record::Service {
    type Id = ServiceId;
    fn id(&self) -> &ServiceId {
        &self.id
    }
    fn made_at(&self) -> Timestamp {
        self.created_at
    }
    fn rank(&self) -> Rank<'_> {
        rank(self.version, self.updated_at, &self.updated_by)
    }
}

/// The records that can be adopted, oldest first, and of several of one id only the newest: the archive
/// does not know what this very command has ended.
fn newest_of_each<T: Incoming>(records: &[T]) -> Vec<&T> {
    let mut newest: BTreeMap<&T::Id, (usize, &T)> = BTreeMap::new();
    for (index, record) in records.iter().enumerate().filter(|(_, r)| r.rank().0 <= MAX_VERSION) {
        match newest.entry(record.id()) {
            Entry::Vacant(free) => drop(free.insert((index, record))),
            Entry::Occupied(mut taken) if taken.get().1.rank() < record.rank() => {
                taken.insert((index, record));
            }
            Entry::Occupied(_) => {}
        }
    }
    let mut all: Vec<_> = newest.into_values().collect();
    all.sort_by_key(|(index, record)| (record.made_at(), *index));
    all.into_iter().map(|(_, record)| record).collect()
}
