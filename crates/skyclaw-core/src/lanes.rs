//! Jobs of which only so many run at once, and which of them are in the queue.
//!
//! ```text
//!            lane: one key, one limit, one kind             queue
//!   key K ─┬─ limit 1, kind a:  [j1] j4 j9 …      ─ open: the first of each lane
//!  running ├─ limit 3, kind a:  [j2] j3 …         ─ closed (limit <= running): none
//!          └─ limit 3, kind b:  [j5]
//! ```
//!
//! Jobs with a concurrency key wait in lanes. A lane is open while fewer jobs of its key run than its limit says,
//! and only the first job of an open lane is in the queue. So a claim never looks past jobs that may not run: it
//! costs what it costs without, however many wait behind. When the first is taken the next one takes its place,
//! unless the lane closes by that; when one that ran is over, the lanes that open put their first in the queue. What
//! a claim finds is what a search through all jobs would find, as the first of a lane comes before the others of it
//! in every order, and no other host could have those either.
//!
//! A job counts as running while it is leased, and while it is lost: what nobody knows the end of may still run.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use skyclaw_proto::{Capabilities, JobId};

use crate::keys::OwnedKey;
use crate::model::Job;
use crate::queue::{Kind, Place, Queue};

/// What a job waits for when its turn has not come: that fewer than `limit` with the key run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn {
    pub(crate) key: OwnedKey,
    pub(crate) limit: u32,
}

type Lane = BTreeMap<Place, JobId>;

/// The jobs with one key.
#[derive(Debug, Default)]
struct Key {
    /// How many of them run.
    running: u32,
    /// Those that wait, by their limit and kind.
    lanes: BTreeMap<u32, HashMap<Kind, Lane>>,
}

impl Key {
    fn is_idle(&self) -> bool {
        self.running == 0 && self.lanes.is_empty()
    }
}

/// All jobs with a concurrency key that wait, and how many run.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    keys: HashMap<OwnedKey, Key>,
    /// How many wait and are not in the queue.
    behind: usize,
    /// Lanes that have put a job into the queue since this was last asked for. (A set, as a freeze looks at jobs in
    /// no order, and all nodes must tell the same.)
    opened: BTreeSet<(Turn, Kind)>,
}

impl Lanes {
    /// How many wait and are not in the queue.
    pub(crate) fn behind(&self) -> usize {
        self.behind
    }

    /// How many jobs with this key run.
    pub(crate) fn running(&self, key: &OwnedKey) -> u32 {
        self.keys.get(key).map_or(0, |key| key.running)
    }

    /// How many jobs with the key come before one, counted up to `most`.
    pub(crate) fn ahead(&self, turn: &Turn, job: &Job, most: usize) -> usize {
        let Some(key) = self.keys.get(&turn.key) else { return 0 };
        let place = Place::of(job);
        let lanes = key.lanes.values().flat_map(HashMap::values);
        lanes.flat_map(|lane| lane.range(..place)).take(most).count()
    }

    /// A job waits for its turn.
    pub(crate) fn enter(&mut self, queue: &mut Queue, turn: &Turn, job: &Job) {
        let (kind, place) = (Kind::of(job), Place::of(job));
        let key = self.keys.entry(turn.key.clone()).or_default();
        let is_open = key.running < turn.limit;
        let lane = key.lanes.entry(turn.limit).or_default().entry(kind.clone()).or_default();
        let first = lane.first_key_value().map(|(place, _)| *place);
        if lane.insert(place, job.id.clone()).is_some() {
            return;
        }
        self.behind += 1;
        if !is_open || first.is_some_and(|first| first < place) {
            return;
        }
        if let Some(first) = first {
            queue.take_out(&kind, first);
            self.behind += 1;
        }
        queue.put(kind.clone(), place, &job.id);
        self.behind -= 1;
        self.opened.insert((turn.clone(), kind));
    }

    /// A job waits no more.
    pub(crate) fn leave(&mut self, queue: &mut Queue, turn: &Turn, job: &Job) {
        let (kind, place) = (Kind::of(job), Place::of(job));
        let Some(key) = self.keys.get_mut(&turn.key) else { return };
        let is_open = key.running < turn.limit;
        let Some(lanes) = key.lanes.get_mut(&turn.limit) else { return };
        let Some(lane) = lanes.get_mut(&kind) else { return };
        let was_first = lane.first_key_value().is_some_and(|(first, _)| *first == place);
        if lane.remove(&place).is_none() {
            return;
        }
        if is_open && was_first {
            queue.take_out(&kind, place);
            if let Some((next, id)) = lane.first_key_value() {
                queue.put(kind.clone(), *next, id);
                self.behind -= 1;
                self.opened.insert((turn.clone(), kind.clone()));
            }
        } else {
            self.behind -= 1;
        }
        if lane.is_empty() {
            lanes.remove(&kind);
            if lanes.is_empty() {
                key.lanes.remove(&turn.limit);
            }
        }
        self.forget_if_idle(&turn.key);
    }

    /// A job with this key runs.
    pub(crate) fn begin(&mut self, queue: &mut Queue, key: &OwnedKey) {
        let found = self.keys.entry(key.clone()).or_default();
        found.running += 1;
        for (kind, lane) in found.lanes.get(&found.running).into_iter().flatten() {
            if let Some((first, _)) = lane.first_key_value() {
                queue.take_out(kind, *first);
                self.behind += 1;
            }
        }
    }

    /// It runs no more.
    pub(crate) fn end(&mut self, queue: &mut Queue, key: &OwnedKey) {
        let Some(found) = self.keys.get_mut(key) else { return };
        let limit = found.running;
        found.running = limit.saturating_sub(1);
        for (kind, lane) in found.lanes.get(&limit).into_iter().flatten() {
            if let Some((first, id)) = lane.first_key_value() {
                queue.put(kind.clone(), *first, id);
                self.behind -= 1;
                self.opened.insert((Turn { key: key.clone(), limit }, kind.clone()));
            }
        }
        self.forget_if_idle(key);
    }

    /// What the jobs ask of a host that came into the queue since this was last asked for and are there still.
    pub(crate) fn take_opened(&mut self) -> impl Iterator<Item = Capabilities> {
        let keys = &self.keys;
        std::mem::take(&mut self.opened).into_iter().filter_map(|(turn, kind)| {
            let key = keys.get(&turn.key)?;
            let is_open = key.running < turn.limit;
            let waits = key.lanes.get(&turn.limit).is_some_and(|lanes| lanes.contains_key(&kind));
            (is_open && waits).then_some(kind.required)
        })
    }

    /// Nobody is to be woken for what came until now.
    pub(crate) fn forget_opened(&mut self) {
        self.opened.clear();
    }

    /// Whether any came.
    pub(crate) fn has_opened(&self) -> bool {
        !self.opened.is_empty()
    }

    fn forget_if_idle(&mut self, key: &OwnedKey) {
        if self.keys.get(key).is_some_and(Key::is_idle) {
            self.keys.remove(key);
        }
    }

    /// All that wait, those in the queue too.
    #[cfg(test)]
    pub(crate) fn jobs(&self) -> impl Iterator<Item = &JobId> {
        self.keys.values().flat_map(|key| key.lanes.values()).flat_map(HashMap::values).flat_map(Lane::values)
    }

    /// How many jobs with each key run.
    #[cfg(test)]
    pub(crate) fn all_running(&self) -> BTreeMap<&OwnedKey, u32> {
        let running = self.keys.iter().filter(|(_, key)| key.running > 0);
        running.map(|(name, key)| (name, key.running)).collect()
    }
}
