//! What must hold of a history, and of what is left in the end.

use std::collections::{BTreeMap, BTreeSet};

use skyclaw_proto::JobId;

use super::State;
use super::history::{Act, History, Told};
use super::model::{self, Laws};

/// Checks what must hold of a history and of what is left in the end.
pub(super) fn check(history: &History, jobs: &BTreeSet<JobId>, state: &State, laws: Laws) {
    for job in jobs {
        let steps = history.steps(job);
        if !model::is_possible(&steps, laws, history.asks(job)) {
            for step in &steps {
                println!("{step:?}");
            }
            panic!("what happened to job {job} is not linearizable");
        }
    }
    one_operation_a_key(history, &state.jobs);
    fences_grow(history);
    dependents_come_after(history);
}

/// However often an enqueue is sent, at most one of its ids becomes a job: the one that was acknowledged, unless it is forgotten.
fn one_operation_a_key(history: &History, left: &BTreeSet<JobId>) {
    let mut explained = BTreeSet::new();
    for event in &history.events {
        let Act::Enqueue { ids, .. } = &event.act else { continue };
        let made: Vec<&JobId> = ids.iter().filter(|id| left.contains(*id)).collect();
        assert!(made.len() <= 1, "one enqueue made the jobs {made:?}");
        if let Told::Job(job, _) = &event.told {
            assert!(made.iter().all(|made| *made == job), "{job} was acknowledged and {made:?} is there");
        }
        explained.extend(made.into_iter().cloned());
    }
    let unheard: Vec<_> = left.difference(&explained).collect();
    assert!(unheard.is_empty(), "nobody enqueued {unheard:?}");
}

/// What depends on a job is claimed after that was completed.
fn dependents_come_after(history: &History) {
    let dependents = history.dependents();
    for (job, _, _, told) in history.fences().into_values().flatten() {
        let Some(after) = dependents.get(&job) else { continue };
        assert!(history.may_be_completed(after, told), "{job} was claimed before {after} was completed");
    }
}

/// A token stands for one lease, and one that was given later is greater.
fn fences_grow(history: &History) {
    let fences: BTreeMap<_, _> = history.fences();
    for (fence, claims) in &fences {
        let same = claims.windows(2).all(|pair| (&pair[0].0, &pair[0].1) == (&pair[1].0, &pair[1].1));
        assert!(same, "the token {fence} stands for several leases: {claims:?}");
    }
    // Going through the tokens in their order, none may have been told of before a smaller one was asked for.
    let mut asked_so_far = 0;
    for (fence, claims) in &fences {
        let told = claims.iter().map(|claim| claim.3).min().unwrap_or(0);
        assert!(told >= asked_so_far, "the token {fence} is greater than one that was given later");
        asked_so_far = asked_so_far.max(claims.iter().map(|claim| claim.2).min().unwrap_or(0));
    }
}
