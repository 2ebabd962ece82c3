//! The queued jobs, indexed so that a host's next one is found in O(log n).
//!
//! Jobs with the same requirement share a bucket, ordered by place. A view belongs to one set of
//! capabilities and holds, in order, the first job of every bucket those capabilities cover; the next
//! job for a host is the first of its view. Adding or taking a job touches its bucket, and views only
//! when the first of the bucket changes.
//!
//! A view's set is what a host has *of what any job asks for*, so hosts that differ only in what
//! nobody asks for share one. Views are a cache: they are made when first asked for and never decide
//! anything, so two nodes with different views hand out the same jobs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use skyclaw_proto::{Capabilities, JobId};

use crate::model::Job;
use crate::supersets::Supersets;

/// Where a job stands: higher priority first, then the order of enqueueing. Unique by its `seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    priority: Reverse<u8>,
    seq: u64,
}

impl Place {
    fn of(job: &Job) -> Self {
        Self { priority: Reverse(job.priority), seq: job.seq }
    }
}

type BucketId = u64;
type ViewId = u64;

#[derive(Debug)]
struct Bucket {
    required: Capabilities,
    jobs: BTreeMap<Place, JobId>,
    /// The views that cover `required`.
    views: Vec<ViewId>,
}

#[derive(Debug)]
struct View {
    set: Capabilities,
    heads: BTreeMap<Place, BucketId>,
    last_used: u64,
}

/// The queued jobs.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    buckets: BTreeMap<BucketId, Bucket>,
    bucket_of: HashMap<Capabilities, BucketId>,
    /// How many buckets ask for each capability; what is not in here nobody asks for.
    asked: HashMap<std::sync::Arc<str>, usize>,
    views: HashMap<ViewId, View>,
    view_of: HashMap<Capabilities, ViewId>,
    view_sets: Supersets<ViewId>,
    next_id: u64,
    uses: u64,
    len: usize,
    empty_buckets: usize,
}

/// Past this many views the half that was not used for longest is dropped.
const MAX_VIEWS: usize = 16 * 1024;
/// Empty buckets are kept, as the next job likely asks for the same, until there are this many more
/// of them than of others.
const SPARE_BUCKETS: usize = 1024;

impl Queue {
    /// How many jobs are queued.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds a job.
    pub(crate) fn insert(&mut self, job: &Job) {
        let id = self.bucket_for(&job.required);
        let Some(bucket) = self.buckets.get_mut(&id) else { return };
        let place = Place::of(job);
        let old = bucket.jobs.keys().next().copied();
        if bucket.jobs.insert(place, job.id.clone()).is_none() {
            self.len += 1;
        }
        if old.is_none() {
            self.empty_buckets -= 1;
        }
        if old.is_none_or(|head| place < head) {
            self.move_head(id, old, Some(place));
        }
    }

    /// Takes a job out, if it is there.
    pub(crate) fn remove(&mut self, job: &Job) {
        let Some(&id) = self.bucket_of.get(&job.required) else { return };
        let Some(bucket) = self.buckets.get_mut(&id) else { return };
        let place = Place::of(job);
        let old = bucket.jobs.keys().next().copied();
        if bucket.jobs.remove(&place).is_none() {
            return;
        }
        self.len -= 1;
        let new = bucket.jobs.keys().next().copied();
        if new.is_none() {
            self.empty_buckets += 1;
        }
        if old == Some(place) {
            self.move_head(id, old, new);
        }
        if self.empty_buckets > SPARE_BUCKETS + self.buckets.len() / 2 {
            self.drop_empty_buckets();
        }
    }

    /// The first job a host with these capabilities may have.
    pub(crate) fn first(&mut self, capabilities: &Capabilities) -> Option<&JobId> {
        let view = self.view_for(capabilities);
        let bucket = self.views.get(&view)?.heads.first_key_value()?.1;
        self.buckets.get(bucket)?.jobs.first_key_value().map(|(_, id)| id)
    }

    /// All queued jobs, in no order.
    #[cfg(test)]
    pub(crate) fn jobs(&self) -> impl Iterator<Item = &JobId> {
        self.buckets.values().flat_map(|bucket| bucket.jobs.values())
    }

    fn move_head(&mut self, bucket: BucketId, old: Option<Place>, new: Option<Place>) {
        let views = self.buckets.get(&bucket).map_or(&[][..], |b| &b.views);
        for view in views {
            let Some(view) = self.views.get_mut(view) else { continue };
            if let Some(place) = old {
                view.heads.remove(&place);
            }
            if let Some(place) = new {
                view.heads.insert(place, bucket);
            }
        }
    }

    fn bucket_for(&mut self, required: &Capabilities) -> BucketId {
        if let Some(id) = self.bucket_of.get(required) {
            return *id;
        }
        let id = self.fresh_id();
        for capability in required.iter() {
            *self.asked.entry(capability.clone()).or_default() += 1;
        }
        let views = self.view_sets.covering(required).collect();
        self.buckets.insert(id, Bucket { required: required.clone(), jobs: BTreeMap::new(), views });
        self.bucket_of.insert(required.clone(), id);
        self.empty_buckets += 1;
        id
    }

    fn view_for(&mut self, capabilities: &Capabilities) -> ViewId {
        self.uses += 1;
        let set = Capabilities::new(capabilities.iter().filter(|c| self.asked.contains_key(&***c)));
        if let Some(id) = self.view_of.get(&set) {
            if let Some(view) = self.views.get_mut(id) {
                view.last_used = self.uses;
            }
            return *id;
        }
        if self.views.len() >= MAX_VIEWS {
            self.drop_idle_views();
        }
        let id = self.fresh_id();
        let mut heads = BTreeMap::new();
        for (bucket_id, bucket) in &mut self.buckets {
            if set.covers(&bucket.required) {
                bucket.views.push(id);
                if let Some(place) = bucket.jobs.keys().next() {
                    heads.insert(*place, *bucket_id);
                }
            }
        }
        self.views.insert(id, View { set: set.clone(), heads, last_used: self.uses });
        self.view_sets.insert(id, set.clone());
        self.view_of.insert(set, id);
        id
    }

    fn drop_idle_views(&mut self) {
        let mut by_use: Vec<_> = self.views.iter().map(|(id, view)| (view.last_used, *id)).collect();
        by_use.sort_unstable();
        for (_, id) in by_use.into_iter().take(MAX_VIEWS / 2) {
            if let Some(view) = self.views.remove(&id) {
                self.view_of.remove(&view.set);
                self.view_sets.remove(id);
            }
        }
        for bucket in self.buckets.values_mut() {
            bucket.views.retain(|id| self.views.contains_key(id));
        }
    }

    fn drop_empty_buckets(&mut self) {
        let (asked, bucket_of) = (&mut self.asked, &mut self.bucket_of);
        self.buckets.retain(|_, bucket| {
            if !bucket.jobs.is_empty() {
                return true;
            }
            bucket_of.remove(&bucket.required);
            for capability in bucket.required.iter() {
                if let Some(count) = asked.get_mut(capability) {
                    *count -= 1;
                    if *count == 0 {
                        asked.remove(capability);
                    }
                }
            }
            false
        });
        self.empty_buckets = 0;
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
