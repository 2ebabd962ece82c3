//! The queued jobs, indexed so that a host's next one is found in O(log n).
//!
//! Jobs of one priority with the same requirement share a bucket, in the order of enqueueing. A view
//! belongs to one set of capabilities and knows of every bucket with jobs that those cover a place where
//! its first job is, or was some time ago: never one behind it. So the first of a view need only be
//! looked at: if the bucket's first job is elsewhere by now, the view learns of it and looks again.
//!
//! Taking a job touches its bucket alone, however many views there are; adding one touches views only
//! when the bucket was empty (those that have noticed) or it comes before what views know of (a job that
//! is queued again).
//!
//! A view's set is what a host has *of what any job asks for*, so hosts that differ only in what
//! nobody asks for share one. Views are a cache: they are made when first asked for and never decide
//! anything, so two nodes with different views hand out the same jobs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use skyclaw_proto::{Capabilities, JobId};

use crate::by_id::ById;
use crate::model::Job;
use crate::subsets::Subsets;
use crate::supersets::Supersets;

/// Where a job stands: higher priority first, then the order of enqueueing. Unique by its `seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    priority: Reverse<u8>,
    seq: u64,
}

impl Place {
    pub(crate) fn of(job: &Job) -> Self {
        Self { priority: Reverse(job.priority), seq: job.seq }
    }
}

/// What the jobs of a bucket have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Kind {
    pub(crate) required: Capabilities,
    priority: u8,
}

impl Kind {
    pub(crate) fn of(job: &Job) -> Self {
        Self { required: job.needs(), priority: job.priority }
    }
}

type BucketId = u64;
type ViewId = u64;

#[derive(Debug)]
struct Bucket {
    kind: Kind,
    jobs: BTreeMap<Place, JobId>,
    /// The views that cover `required`.
    views: Vec<ViewId>,
    /// Those among them that know of no place here, as they found the bucket empty.
    unaware: Vec<ViewId>,
    /// No view knows of a place behind this one.
    latest_known: Option<Place>,
}

impl Bucket {
    fn head(&self) -> Option<Place> {
        self.jobs.keys().next().copied()
    }
}

#[derive(Debug)]
struct View {
    set: Capabilities,
    heads: BTreeSet<(Place, BucketId)>,
    /// The place each bucket has in `heads`.
    place_of: HashMap<BucketId, Place>,
    last_used: u64,
}

impl View {
    /// Has it know of this place of a bucket and no other.
    fn know(&mut self, bucket: BucketId, place: Option<Place>) {
        let old = match place {
            Some(place) => self.place_of.insert(bucket, place),
            None => self.place_of.remove(&bucket),
        };
        if let Some(old) = old {
            self.heads.remove(&(old, bucket));
        }
        if let Some(place) = place {
            self.heads.insert((place, bucket));
        }
    }
}

/// The queued jobs.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    buckets: ById<BucketId, Bucket>,
    bucket_of: HashMap<Kind, BucketId>,
    bucket_sets: Subsets<BucketId>,
    /// How many buckets ask for each capability; what is not in here nobody asks for.
    asked: HashMap<Arc<str>, usize>,
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
        self.put(Kind::of(job), Place::of(job), &job.id);
    }

    /// The same by what the queue knows of a job.
    pub(crate) fn put(&mut self, kind: Kind, place: Place, job: &JobId) {
        let id = self.bucket_for(kind);
        let Some(bucket) = self.buckets.get_mut(&id) else { return };
        let old = bucket.head();
        if bucket.jobs.insert(place, job.clone()).is_none() {
            self.len += 1;
        }
        if old.is_none() {
            self.empty_buckets -= 1;
        }
        if old.is_none_or(|head| place < head) {
            self.announce(id, place);
        }
    }

    /// Takes a job out, if it is there.
    pub(crate) fn remove(&mut self, job: &Job) {
        self.take_out(&Kind::of(job), Place::of(job));
    }

    /// The same by what the queue knows of a job.
    pub(crate) fn take_out(&mut self, kind: &Kind, place: Place) {
        let Some(id) = self.bucket_of.get(kind) else { return };
        let Some(bucket) = self.buckets.get_mut(id) else { return };
        if bucket.jobs.remove(&place).is_none() {
            return;
        }
        self.len -= 1;
        if bucket.jobs.is_empty() {
            self.empty_buckets += 1;
        }
        if self.empty_buckets > SPARE_BUCKETS + self.buckets.len() / 2 {
            self.drop_empty_buckets();
        }
    }

    /// The first job a host with these capabilities may have.
    pub(crate) fn first(&mut self, capabilities: &Capabilities) -> Option<&JobId> {
        let view_id = self.view_for(capabilities);
        let view = self.views.get_mut(&view_id)?;
        let first = loop {
            let &(place, id) = view.heads.first()?;
            let Some(bucket) = self.buckets.get_mut(&id) else {
                view.know(id, None);
                continue;
            };
            match bucket.head() {
                Some(head) if head == place => break id,
                None => {
                    view.know(id, None);
                    bucket.unaware.push(view_id);
                }
                later => {
                    view.know(id, later);
                    bucket.latest_known = bucket.latest_known.max(later);
                }
            }
        };
        self.buckets.get(&first)?.jobs.first_key_value().map(|(_, id)| id)
    }

    /// How many jobs come before one, of those whose needs are `of_interest`, counted up to `most`.
    pub(crate) fn ahead(&self, job: &Job, most: usize, of_interest: impl Fn(&Capabilities) -> bool) -> usize {
        let place = Place::of(job);
        let before = |bucket: &Bucket| bucket.head().is_some_and(|head| head < place);
        let buckets =
            self.buckets.values().filter(|bucket| before(bucket) && of_interest(&bucket.kind.required));
        buckets.flat_map(|bucket| bucket.jobs.range(..place)).take(most).count()
    }

    /// All queued jobs, in no order.
    #[cfg(test)]
    pub(crate) fn jobs(&self) -> impl Iterator<Item = &JobId> {
        self.buckets.values().flat_map(|bucket| bucket.jobs.values())
    }

    /// Tells the views that know of no place of a bucket, or of a later one only, of its first job.
    fn announce(&mut self, id: BucketId, place: Place) {
        let Some(bucket) = self.buckets.get_mut(&id) else { return };
        let unaware = std::mem::take(&mut bucket.unaware);
        let is_early = bucket.latest_known.is_some_and(|known| place < known);
        let told = if is_early { &bucket.views } else { &unaware };
        for view in told {
            let Some(view) = self.views.get_mut(view) else { continue };
            if view.place_of.get(&id).is_none_or(|known| place < *known) {
                view.know(id, Some(place));
            }
        }
        if is_early || !told.is_empty() {
            bucket.latest_known = Some(place);
        }
    }

    fn bucket_for(&mut self, kind: Kind) -> BucketId {
        if let Some(id) = self.bucket_of.get(&kind) {
            return *id;
        }
        let id = self.fresh_id();
        for capability in kind.required.iter() {
            *self.asked.entry(capability.clone()).or_default() += 1;
        }
        self.bucket_sets.insert(id, &kind.required);
        let views: Vec<_> = self.view_sets.covering(&kind.required).collect();
        let unaware = views.clone();
        self.bucket_of.insert(kind.clone(), id);
        self.buckets.insert(id, Bucket { kind, jobs: BTreeMap::new(), views, unaware, latest_known: None });
        self.empty_buckets += 1;
        id
    }

    fn view_for(&mut self, capabilities: &Capabilities) -> ViewId {
        self.uses += 1;
        let set = capabilities.only(|capability| self.asked.contains_key(capability));
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
        let (heads, place_of) = (BTreeSet::new(), HashMap::new());
        let mut view = View { set: set.clone(), heads, place_of, last_used: self.uses };
        for bucket_id in self.bucket_sets.candidates(&set) {
            let Some(bucket) = self.buckets.get_mut(&bucket_id) else { continue };
            if !set.covers(&bucket.kind.required) {
                continue;
            }
            bucket.views.push(id);
            match bucket.head() {
                None => bucket.unaware.push(id),
                head => {
                    view.know(bucket_id, head);
                    bucket.latest_known = bucket.latest_known.max(head);
                }
            }
        }
        self.views.insert(id, view);
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
            bucket.unaware.retain(|id| self.views.contains_key(id));
        }
    }

    fn drop_empty_buckets(&mut self) {
        for (id, bucket) in self.buckets.extract_if(|_, bucket| bucket.jobs.is_empty()) {
            self.bucket_of.remove(&bucket.kind);
            self.bucket_sets.remove(id, &bucket.kind.required);
            for capability in bucket.kind.required.iter() {
                if let Some(count) = self.asked.get_mut(capability) {
                    *count -= 1;
                    if *count == 0 {
                        self.asked.remove(capability);
                    }
                }
            }
            for view in &bucket.views {
                if let Some(view) = self.views.get_mut(view) {
                    view.know(id, None);
                }
            }
        }
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
