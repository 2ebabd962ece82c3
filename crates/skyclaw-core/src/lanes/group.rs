//! The lanes with one key and limit.

use std::collections::{BTreeMap, HashMap};

use skyclaw_proto::JobId;

use super::{Opened, Turn};
use crate::queue::{GroupId, Kind, Place, Queue};

type Lane = BTreeMap<Place, JobId>;

/// With more lanes than this, their first jobs are in a group of the queue. To put as many into the queue itself, and
/// take them out again, whenever the lanes open and close costs about an eighth of a claim. (Random tests have few
/// lanes, and are to come by both.)
const MANY: usize = if cfg!(test) { 1 } else { 64 };

/// The lanes with one key and limit. They are open and closed together.
#[derive(Debug, Default)]
pub(super) struct Group {
    lanes: HashMap<Kind, Lane>,
    is_open: bool,
    /// Where their first jobs are when there are many; else these are in the queue itself, while they are open.
    many: Option<GroupId>,
}

impl Group {
    pub(super) fn new(is_open: bool) -> Self {
        Self { is_open, ..Self::default() }
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Where their first jobs are, when there are many.
    pub(super) fn many(&self) -> Option<GroupId> {
        self.many
    }

    /// What has put jobs into the queue when all lanes have, which are those of `turn`: the group as a whole where there are
    /// many, else each of them.
    pub(super) fn opened(&self, turn: &Turn) -> impl Iterator<Item = Opened> {
        // Those of a group are not even passed by: this is asked for with each job that ends.
        let each = self.many.is_none().then(|| self.lanes.keys().map(|kind| Some(kind.clone())));
        let whole = self.many.map(|_| None);
        whole.into_iter().chain(each.into_iter().flatten()).map(|kind| (turn.clone(), kind))
    }

    pub(super) fn has(&self, kind: &Kind) -> bool {
        self.lanes.contains_key(kind)
    }

    /// The jobs that come before a place.
    pub(super) fn before(&self, place: Place) -> impl Iterator<Item = &JobId> {
        self.lanes.values().flat_map(move |lane| lane.range(..place)).map(|(_, id)| id)
    }

    /// Adds a job to its lane. True when it is the first there.
    pub(super) fn enter(&mut self, queue: &mut Queue, kind: &Kind, place: Place, job: &JobId) -> bool {
        let lane = self.lanes.entry(kind.clone()).or_default();
        let first = lane.first_key_value().map(|(place, _)| *place);
        if lane.insert(place, job.clone()).is_some() || first.is_some_and(|first| first < place) {
            return false;
        }
        if let Some(first) = first {
            self.hide(queue, kind, first);
        }
        self.show(queue, kind, place, job);
        if first.is_none() && self.many.is_none() && self.lanes.len() > MANY {
            self.regroup(queue, |queue| Some(queue.add_group()));
        }
        true
    }

    /// Takes a job out of its lane. True when it was the first there.
    pub(super) fn leave(&mut self, queue: &mut Queue, kind: &Kind, place: Place) -> bool {
        let Some(lane) = self.lanes.get_mut(kind) else { return false };
        let was_first = lane.first_key_value().is_some_and(|(first, _)| *first == place);
        lane.remove(&place);
        if !was_first {
            return false;
        }
        let next = lane.first_key_value().map(|(place, id)| (*place, id.clone()));
        self.hide(queue, kind, place);
        match next {
            Some((place, id)) => self.show(queue, kind, place, &id),
            None => {
                self.lanes.remove(kind);
                if let Some(group) = self.many.filter(|_| self.lanes.len() <= MANY) {
                    self.regroup(queue, |queue| {
                        queue.drop_group(group);
                        None
                    });
                }
            }
        }
        true
    }

    /// Lets claims find the first of each lane, or none.
    pub(super) fn set_open(&mut self, queue: &mut Queue, is_open: bool) {
        match self.many {
            Some(group) if is_open => queue.open(group),
            Some(group) => queue.close(group),
            None if is_open => self.each_first(|kind, place, job| queue.put(kind.clone(), place, job)),
            None => self.each_first(|kind, place, _| queue.take_out(kind, place)),
        }
        self.is_open = is_open;
    }

    /// Has the first jobs elsewhere.
    fn regroup(&mut self, queue: &mut Queue, other: impl FnOnce(&mut Queue) -> Option<GroupId>) {
        let is_open = self.is_open;
        self.set_open(queue, false);
        self.many = other(queue);
        if let Some(group) = self.many {
            self.each_first(|kind, place, job| queue.put_in(group, kind.clone(), place, job));
        }
        if is_open {
            self.set_open(queue, true);
        }
    }

    /// Has the queue know the first job of a lane.
    fn show(&self, queue: &mut Queue, kind: &Kind, place: Place, job: &JobId) {
        match self.many {
            Some(group) => queue.put_in(group, kind.clone(), place, job),
            None if self.is_open => queue.put(kind.clone(), place, job),
            None => {}
        }
    }

    fn hide(&self, queue: &mut Queue, kind: &Kind, place: Place) {
        match self.many {
            Some(group) => queue.take_from(group, kind, place),
            None if self.is_open => queue.take_out(kind, place),
            None => {}
        }
    }

    fn each_first(&self, mut with: impl FnMut(&Kind, Place, &JobId)) {
        for (kind, lane) in &self.lanes {
            if let Some((place, job)) = lane.first_key_value() {
                with(kind, *place, job);
            }
        }
    }

    /// All jobs, the first ones too.
    #[cfg(test)]
    pub(super) fn jobs(&self) -> impl Iterator<Item = &JobId> {
        self.lanes.values().flat_map(Lane::values)
    }
}
