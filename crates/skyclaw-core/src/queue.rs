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
//! Jobs of which only so many run at once can be in a group, which claims pass by while it is closed
//! ([`crate::lanes`]). To a view it is one more bucket, in which each set finds a first job of its own: those are
//! in a queue inside. Opening it tells the views that have found nothing there since; closing it tells nobody.
//! So either costs no more than the looks that were taken in between.
//!
//! A view's set is what a host has *of what any job asks for*, so hosts that differ only in what
//! nobody asks for share one. Views are a cache: they are made when first asked for and never decide
//! anything, so two nodes with different views hand out the same jobs.

mod content;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use skyclaw_proto::{Capabilities, JobId};

use self::content::{Content, Group};
pub(crate) use self::content::{Kind, Place};
use crate::by_id::ById;
use crate::model::Job;
use crate::subsets::Subsets;
use crate::supersets::Supersets;

type BucketId = u64;
type ViewId = u64;

/// A group of jobs in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupId(BucketId);

#[derive(Debug)]
struct Bucket {
    content: Content,
    /// The views that cover what all jobs in here ask for.
    views: Vec<ViewId>,
    /// Those among them that know of no place here, as they found the bucket empty.
    unaware: Vec<ViewId>,
    /// No view knows of a place behind this one.
    latest_known: Option<Place>,
}

impl Bucket {
    /// Whether a view may know of a place behind this one.
    fn is_known_behind(&self, place: Place) -> bool {
        self.latest_known.is_some_and(|known| place < known)
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
    /// How many buckets, and how many jobs in groups, ask for each capability; what is not in here nobody asks for.
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
        let Some(Bucket { content: Content::Kind(_, jobs), .. }) = self.buckets.get_mut(&id) else { return };
        let old = jobs.keys().next().copied();
        if jobs.insert(place, job.clone()).is_none() {
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
        let Some(Bucket { content: Content::Kind(_, jobs), .. }) = self.buckets.get_mut(id) else { return };
        if jobs.remove(&place).is_none() {
            return;
        }
        self.len -= 1;
        if jobs.is_empty() {
            self.empty_buckets += 1;
        }
        if self.empty_buckets > SPARE_BUCKETS + self.buckets.len() / 2 {
            self.drop_empty_buckets();
        }
    }

    /// Makes a group, which is closed.
    pub(crate) fn add_group(&mut self) -> GroupId {
        let id = self.add_bucket(Content::Group(Box::default()));
        GroupId(id)
    }

    /// Drops a group with what is in it.
    pub(crate) fn drop_group(&mut self, id: GroupId) {
        self.close(id);
        let Some(bucket) = self.buckets.remove(&id.0) else { return };
        self.forget(id.0, &bucket);
        if let Content::Group(group) = &bucket.content {
            for needs in group.needs.values() {
                self.unask(needs);
            }
        }
    }

    /// Adds a job to a group.
    pub(crate) fn put_in(&mut self, id: GroupId, kind: Kind, place: Place, job: &JobId) {
        let Some(group) = self.group(id) else { return };
        let (required, is_open) = (kind.required.clone(), group.is_open);
        group.jobs.put(kind, place, job);
        let is_new = group.needs.insert(place, required.clone()).is_none();
        let first = group.needs.keys().next().copied().unwrap_or(place);
        if is_new {
            self.len += usize::from(is_open);
            self.ask(&required);
        }
        if is_open {
            self.announce(id.0, place);
        } else if self.buckets.get(&id.0).is_some_and(|bucket| bucket.is_known_behind(place)) {
            // Who knows of none hears of the group when it opens; if now, of the first that is in there.
            self.announce(id.0, first);
        }
    }

    /// Takes a job out of a group, if it is there.
    pub(crate) fn take_from(&mut self, id: GroupId, kind: &Kind, place: Place) {
        let Some(group) = self.group(id) else { return };
        group.jobs.take_out(kind, place);
        if group.needs.remove(&place).is_some() {
            self.len -= usize::from(group.is_open);
            self.unask(&kind.required);
        }
    }

    /// Lets claims find the jobs of a group.
    pub(crate) fn open(&mut self, id: GroupId) {
        let Some(group) = self.group(id).filter(|group| !group.is_open) else { return };
        group.is_open = true;
        let (first, count) = (group.needs.keys().next().copied(), group.jobs.len());
        self.len += count;
        if let Some(first) = first {
            self.announce_to_unaware(id.0, first);
        }
    }

    /// Lets no claim find them.
    pub(crate) fn close(&mut self, id: GroupId) {
        if let Some(group) = self.group(id).filter(|group| group.is_open) {
            group.is_open = false;
            self.len -= group.jobs.len();
        }
    }

    /// What the jobs of a group ask for, in their order.
    pub(crate) fn needs_in(&self, id: GroupId) -> impl Iterator<Item = &Capabilities> {
        let bucket = self.buckets.get(&id.0);
        let group = bucket.and_then(|bucket| match &bucket.content {
            Content::Group(group) => Some(group),
            Content::Kind(..) => None,
        });
        group.into_iter().flat_map(|group| group.needs.values())
    }

    /// The first job a host with these capabilities may have.
    pub(crate) fn first(&mut self, capabilities: &Capabilities) -> Option<&JobId> {
        self.find(capabilities).map(|(_, id)| id)
    }

    /// The same, and its place.
    fn find(&mut self, capabilities: &Capabilities) -> Option<(Place, &JobId)> {
        let view_id = self.view_for(capabilities);
        let view = self.views.get_mut(&view_id)?;
        let first = loop {
            let &(place, id) = view.heads.first()?;
            let Some(bucket) = self.buckets.get_mut(&id) else {
                view.know(id, None);
                continue;
            };
            match bucket.content.first(&view.set).map(|(place, _)| place) {
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
        self.buckets.get_mut(&first)?.content.first(&view.set)
    }

    /// How many jobs come before one, of those whose needs are `of_interest`, counted up to `most`.
    pub(crate) fn ahead(&self, job: &Job, most: usize, of_interest: &dyn Fn(&Capabilities) -> bool) -> usize {
        let mut count = 0;
        for bucket in self.buckets.values() {
            count += bucket.content.ahead(job, most - count, of_interest);
            if count == most {
                break;
            }
        }
        count
    }

    /// All jobs that are found, in no order.
    #[cfg(test)]
    pub(crate) fn jobs(&self) -> Vec<&JobId> {
        self.buckets.values().flat_map(|bucket| bucket.content.found()).collect()
    }

    fn group(&mut self, id: GroupId) -> Option<&mut Group> {
        match &mut self.buckets.get_mut(&id.0)?.content {
            Content::Group(group) => Some(group),
            Content::Kind(..) => None,
        }
    }

    /// Tells the views that know of no place of a bucket, or of a later one only, of a job in it.
    fn announce(&mut self, id: BucketId, place: Place) {
        let Some(bucket) = self.buckets.get_mut(&id) else { return };
        if !bucket.is_known_behind(place) {
            return self.announce_to_unaware(id, place);
        }
        bucket.unaware.clear();
        bucket.latest_known = Some(place);
        for view in &bucket.views {
            let Some(view) = self.views.get_mut(view) else { continue };
            if view.place_of.get(&id).is_none_or(|known| place < *known) {
                view.know(id, Some(place));
            }
        }
    }

    /// The same, but only those that know of none.
    fn announce_to_unaware(&mut self, id: BucketId, place: Place) {
        let Some(bucket) = self.buckets.get_mut(&id) else { return };
        let unaware = std::mem::take(&mut bucket.unaware);
        if !unaware.is_empty() {
            bucket.latest_known = bucket.latest_known.max(Some(place));
        }
        for view in unaware {
            if let Some(view) = self.views.get_mut(&view) {
                view.know(id, Some(place));
            }
        }
    }

    fn bucket_for(&mut self, kind: Kind) -> BucketId {
        if let Some(id) = self.bucket_of.get(&kind) {
            return *id;
        }
        self.ask(&kind.required);
        let id = self.add_bucket(Content::Kind(kind.clone(), BTreeMap::new()));
        self.bucket_of.insert(kind, id);
        self.empty_buckets += 1;
        id
    }

    fn add_bucket(&mut self, content: Content) -> BucketId {
        let id = self.fresh_id();
        let required = content.required();
        self.bucket_sets.insert(id, &required);
        let views: Vec<_> = self.view_sets.covering(&required).collect();
        let unaware = views.clone();
        self.buckets.insert(id, Bucket { content, views, unaware, latest_known: None });
        id
    }

    fn ask(&mut self, required: &Capabilities) {
        for capability in required.iter() {
            *self.asked.entry(capability.clone()).or_default() += 1;
        }
    }

    fn unask(&mut self, required: &Capabilities) {
        for capability in required.iter() {
            if let Some(count) = self.asked.get_mut(capability) {
                *count -= 1;
                if *count == 0 {
                    self.asked.remove(capability);
                }
            }
        }
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
            if !bucket.content.is_for(&set) {
                continue;
            }
            bucket.views.push(id);
            match bucket.content.earliest() {
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
        let spare: Vec<_> = self.buckets.extract_if(|_, bucket| bucket.content.is_spare()).collect();
        for (id, bucket) in spare {
            let Content::Kind(kind, _) = &bucket.content else { continue };
            self.bucket_of.remove(kind);
            self.unask(&kind.required);
            self.forget(id, &bucket);
        }
        self.empty_buckets = 0;
    }

    /// Nobody finds a bucket any more that was taken out.
    fn forget(&mut self, id: BucketId, bucket: &Bucket) {
        self.bucket_sets.remove(id, &bucket.content.required());
        for view in &bucket.views {
            if let Some(view) = self.views.get_mut(view) {
                view.know(id, None);
            }
        }
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

#[cfg(test)]
pub(crate) mod tests;
