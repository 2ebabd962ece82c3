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
//! Where the jobs of a key ask for very many different things, the first jobs of its lanes are in a group of the queue,
//! which is opened and closed as a whole ([`group`]). For a lane in the queue that opens, a claim that waits is woken;
//! for a group, one that can take any of it: no more can begin, as one alone has ended.
//!
//! A job counts as running while it is leased, and while it is lost: what nobody knows the end of may still run.

mod group;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use skyclaw_proto::Capabilities;
#[cfg(test)]
use skyclaw_proto::JobId;

use self::group::Group;
use crate::keys::OwnedKey;
use crate::model::Job;
use crate::outcome::Effect;
use crate::queue::{Kind, Place, Queue};

/// What a job waits for when its turn has not come: that fewer than so many with its key run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    pub(crate) key: OwnedKey,
    pub(crate) limit: u32,
}

/// The jobs with one key.
#[derive(Debug, Default)]
struct Key {
    /// How many of them run.
    running: u32,
    /// Those that wait, by their limit.
    groups: BTreeMap<u32, Group>,
}

impl Key {
    fn is_idle(&self) -> bool {
        self.running == 0 && self.groups.is_empty()
    }
}

/// One lane, or without a kind all that have the key and limit.
type Opened = (Turn, Option<Kind>);

/// All jobs with a concurrency key that wait, and how many run.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    keys: HashMap<OwnedKey, Key>,
    /// What has put a job into the queue since this was last asked for: one lane, or a whole group. (A set, as a freeze
    /// looks at jobs in no order, and all nodes must tell the same.)
    opened: BTreeSet<Opened>,
}

impl Lanes {
    /// How many jobs with this key run.
    pub(crate) fn running(&self, key: &OwnedKey) -> u32 {
        self.keys.get(key).map_or(0, |key| key.running)
    }

    /// How many jobs with the key come before one, counted up to `most`.
    pub(crate) fn ahead(&self, turn: &Turn, job: &Job, most: usize) -> usize {
        let Some(key) = self.keys.get(&turn.key) else { return 0 };
        let place = Place::of(job);
        key.groups.values().flat_map(|group| group.before(place)).take(most).count()
    }

    /// A job waits for its turn.
    pub(crate) fn enter(&mut self, queue: &mut Queue, turn: &Turn, job: &Job) {
        let kind = Kind::of(job);
        let key = self.keys.entry(turn.key.clone()).or_default();
        let is_open = key.running < turn.limit;
        let group = key.groups.entry(turn.limit).or_insert_with(|| Group::new(is_open));
        if group.enter(queue, &kind, Place::of(job), &job.id) && is_open {
            self.opened.insert((turn.clone(), Some(kind)));
        }
    }

    /// A job waits no more.
    pub(crate) fn leave(&mut self, queue: &mut Queue, turn: &Turn, job: &Job) {
        let kind = Kind::of(job);
        let Some(key) = self.keys.get_mut(&turn.key) else { return };
        let Some(group) = key.groups.get_mut(&turn.limit) else { return };
        let were_many = group.many().is_some();
        if group.leave(queue, &kind, Place::of(job)) && group.is_open() {
            // Of many, one claim alone was woken so far, though there may be room for more by now.
            if were_many {
                self.opened.extend(group.opened(turn));
            } else {
                self.opened.insert((turn.clone(), Some(kind)));
            }
        }
        if group.is_empty() {
            key.groups.remove(&turn.limit);
        }
        self.forget_if_idle(&turn.key);
    }

    /// A job with this key runs.
    pub(crate) fn begin(&mut self, queue: &mut Queue, key: &OwnedKey) {
        let found = self.keys.entry(key.clone()).or_default();
        found.running += 1;
        if let Some(group) = found.groups.get_mut(&found.running) {
            group.set_open(queue, false);
        }
    }

    /// It runs no more.
    pub(crate) fn end(&mut self, queue: &mut Queue, key: &OwnedKey) {
        let Some(found) = self.keys.get_mut(key) else { return };
        let limit = found.running;
        found.running = limit.saturating_sub(1);
        if let Some(group) = found.groups.get_mut(&limit) {
            group.set_open(queue, true);
            self.opened.extend(group.opened(&Turn { key: key.clone(), limit }));
        }
        self.forget_if_idle(key);
    }

    /// For whom claims are to be woken: for what came into the queue since this was last asked for and is there still.
    pub(crate) fn take_opened(&mut self) -> impl Iterator<Item = Effect> {
        let keys = &self.keys;
        std::mem::take(&mut self.opened).into_iter().filter_map(|(turn, kind)| {
            let group = keys.get(&turn.key)?.groups.get(&turn.limit)?;
            match kind {
                _ if !group.is_open() => None,
                Some(kind) => group.has(&kind).then_some(Effect::JobQueued { required: kind.required }),
                None => Some(Effect::TurnCame { turn }),
            }
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

    /// What the jobs ask for that are first in their lanes, in their order, where a group is for these.
    pub(crate) fn firsts<'a>(
        &self,
        queue: &'a Queue,
        turn: &Turn,
    ) -> impl Iterator<Item = &'a Capabilities> + use<'a> {
        let group = self.keys.get(&turn.key).and_then(|key| key.groups.get(&turn.limit)?.many());
        group.into_iter().flat_map(|group| queue.needs_in(group))
    }

    fn forget_if_idle(&mut self, key: &OwnedKey) {
        if self.keys.get(key).is_some_and(Key::is_idle) {
            self.keys.remove(key);
        }
    }

    /// All that wait, those in the queue too.
    #[cfg(test)]
    pub(crate) fn jobs(&self) -> impl Iterator<Item = &JobId> {
        self.keys.values().flat_map(|key| key.groups.values()).flat_map(Group::jobs)
    }

    /// How many jobs with each key run.
    #[cfg(test)]
    pub(crate) fn all_running(&self) -> BTreeMap<&OwnedKey, u32> {
        let running = self.keys.iter().filter(|(_, key)| key.running > 0);
        running.map(|(name, key)| (name, key.running)).collect()
    }
}
