//! What is in a bucket of the queue.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use skyclaw_proto::{Capabilities, JobId};

use super::Queue;
use crate::model::Job;

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

#[derive(Debug)]
pub(super) enum Content {
    /// Jobs of one kind.
    Kind(Kind, BTreeMap<Place, JobId>),
    /// Jobs of many kinds, which are found while it is open.
    Group(Box<Group>),
}

#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) is_open: bool,
    pub(super) jobs: Queue,
    /// What each of them asks for.
    pub(super) needs: BTreeMap<Place, Capabilities>,
}

impl Content {
    /// What all jobs in here ask for.
    pub(super) fn required(&self) -> Capabilities {
        match self {
            Self::Kind(kind, _) => kind.required.clone(),
            Self::Group(_) => Capabilities::default(),
        }
    }

    /// Whether a view with this set is to know of it.
    pub(super) fn is_for(&self, set: &Capabilities) -> bool {
        match self {
            Self::Kind(kind, _) => set.covers(&kind.required),
            Self::Group(_) => true,
        }
    }

    /// The first job in here for a view with this set.
    pub(super) fn first(&mut self, set: &Capabilities) -> Option<(Place, &JobId)> {
        match self {
            Self::Kind(_, jobs) => jobs.first_key_value().map(|(place, id)| (*place, id)),
            Self::Group(group) if group.is_open => group.jobs.find(set),
            Self::Group(_) => None,
        }
    }

    /// No view finds a job before this place; `None` where none finds any.
    pub(super) fn earliest(&self) -> Option<Place> {
        match self {
            Self::Kind(_, jobs) => jobs.keys().next().copied(),
            Self::Group(group) => group.needs.keys().next().copied().filter(|_| group.is_open),
        }
    }

    pub(super) fn is_spare(&self) -> bool {
        matches!(self, Self::Kind(_, jobs) if jobs.is_empty())
    }

    pub(super) fn ahead(&self, job: &Job, most: usize, of_interest: &dyn Fn(&Capabilities) -> bool) -> usize {
        let place = Place::of(job);
        match self {
            _ if self.earliest().is_none_or(|earliest| earliest >= place) => 0,
            Self::Kind(kind, _) if !of_interest(&kind.required) => 0,
            Self::Kind(_, jobs) => jobs.range(..place).take(most).count(),
            Self::Group(group) => group.jobs.ahead(job, most, of_interest),
        }
    }

    #[cfg(test)]
    pub(super) fn found(&self) -> Vec<&JobId> {
        match self {
            Self::Kind(_, jobs) => jobs.values().collect(),
            Self::Group(group) if group.is_open => group.jobs.jobs(),
            Self::Group(_) => Vec::new(),
        }
    }
}
