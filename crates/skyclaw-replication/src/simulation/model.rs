//! What one job may do, and the search for an order in which a history is possible.
//!
//! Linearizability is compositional, so each job is looked at by itself: a history is sound when the operations on
//! every job can be put into an order that the model allows and that keeps to time: an operation happens at
//! some moment between being asked for and being told of. One whose outcome nobody knows may have happened at
//! any moment after it was asked for, or never. The search is that of Wing and Gong with Lowe's memory of
//! configurations that led nowhere ("Testing for linearizability", 2017).
//!
//! A lease may run out by itself, but not before it has lasted its time; a job that may only wait so long for its
//! first claim may expire by itself, but not before it has; one that depends on another may end because of that; and one that has ended may be forgotten, where any are, but not at once.

use std::collections::HashSet;

use skyclaw_core::Refusal;
use skyclaw_proto::{HostId, JobStatus};

use super::history::{Asks, Step, StepAct, Time, View};

/// Where a job is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum State {
    Absent,
    /// The token is at least this.
    Queued {
        fence: u64,
        failures: u32,
        /// When it expires at the earliest, if it does.
        until: Option<Time>,
    },
    /// The token is not known until somebody has seen it.
    Leased {
        host: HostId,
        fence: Option<u64>,
        since: Time,
        stopping: bool,
        failures: u32,
    },
    Ended {
        status: JobStatus,
        host: Option<HostId>,
        fence: Option<u64>,
        /// Not before this.
        since: Time,
    },
    /// It had ended.
    Forgotten,
}

/// What counts for all jobs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Laws {
    /// How long a lease lasts at least.
    pub(super) lease: Time,
    /// How long a job is there after its end at least; `None` where all are kept.
    pub(super) grace: Option<Time>,
}

/// A configuration of the search.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct At {
    done: Vec<bool>,
    state: State,
    /// No earlier than this.
    now: Time,
}

/// Whether there is an order in which all this can have happened to a job of which this was asked.
pub(super) fn is_possible(steps: &[Step], laws: Laws, asks: Asks) -> bool {
    let mut seen = HashSet::new();
    let mut open = vec![At { done: vec![false; steps.len()], state: State::Absent, now: 0 }];
    while let Some(at) = open.pop() {
        if steps.iter().zip(&at.done).all(|(step, done)| *done || !step.certain) {
            return true;
        }
        if !seen.insert(at.clone()) {
            continue;
        }
        let pending = steps.iter().zip(&at.done).filter(|(step, done)| !**done && step.certain);
        let latest = pending.map(|(step, _)| step.told_at).min().unwrap_or(Time::MAX);
        if latest < at.now {
            continue;
        }
        open.extend(by_itself(&at, laws, asks));
        if let (State::Queued { .. }, Some(status)) = (&at.state, asks.fails_as) {
            let state = State::Ended { status, host: None, fence: None, since: at.now };
            open.push(At { done: at.done.clone(), state, now: at.now });
        }
        for (nth, step) in steps.iter().enumerate().rev() {
            if at.done[nth] || step.asked > latest || step.told_at < at.now {
                continue;
            }
            if let Some(state) = after(&at.state, step, asks) {
                // One that changes nothing and that nobody was told of need not have happened.
                if !step.certain && state == at.state {
                    continue;
                }
                let mut done = at.done.clone();
                done[nth] = true;
                open.push(At { done, state, now: at.now.max(step.asked) });
            }
        }
    }
    false
}

/// What becomes of a lease that runs out, of a job that waits too long, and of one that ended long ago.
fn by_itself(at: &At, laws: Laws, asks: Asks) -> Option<At> {
    let not_before = match &at.state {
        State::Leased { since, .. } => since + laws.lease,
        State::Queued { until: Some(until), .. } => *until,
        State::Ended { since, .. } => since + laws.grace?,
        State::Queued { .. } | State::Absent | State::Forgotten => return None,
    };
    let now = at.now.max(not_before);
    let state = match &at.state {
        State::Leased { host, fence, stopping: true, .. } => {
            State::Ended { status: JobStatus::Cancelled, host: Some(host.clone()), fence: *fence, since: now }
        }
        State::Leased { host, fence, failures, .. } => {
            failed(host, *fence, *failures, JobStatus::Failed, asks, true, now)
        }
        State::Ended { .. } => State::Forgotten,
        _ => State::Ended { status: JobStatus::Expired, host: None, fence: None, since: now },
    };
    Some(At { done: at.done.clone(), state, now })
}

/// What becomes of a job whose run failed, or was lost.
fn failed(
    host: &HostId,
    fence: Option<u64>,
    failures: u32,
    status: JobStatus,
    asks: Asks,
    is_lost: bool,
    now: Time,
) -> State {
    let failures = failures + 1;
    let again = asks.tries.map_or(is_lost, |tries| failures < tries);
    if again {
        return State::Queued { fence: fence.unwrap_or(0), failures, until: None };
    }
    State::Ended { status, host: Some(host.clone()), fence, since: now }
}

/// A job that joins the queue, or joins it again.
fn queued(fence: u64, asked: Time, asks: Asks) -> State {
    State::Queued { fence, failures: 0, until: asks.ttl.map(|ttl| asked + ttl) }
}

/// The state after a step; nothing when it could not have been told what it was told.
fn after(state: &State, step: &Step, asks: Asks) -> Option<State> {
    match &step.act {
        StepAct::Enqueue(view) => {
            let next = queued(0, step.asked, asks);
            (*state == State::Absent).then_some(())?;
            agree(tied(next, view.as_ref(), asks, step.asked), view.as_ref())
        }
        StepAct::Claim { host, view } => {
            let State::Queued { fence: before, failures, .. } = state else { return None };
            if asks.not_before.is_some_and(|time| step.told_at < time) {
                return None;
            }
            let fence = view.as_ref().map(|view| view.fence);
            if fence.is_some_and(|fence| fence <= *before) {
                return None;
            }
            let (host, since, failures) = (host.clone(), step.asked, *failures);
            let leased = State::Leased { host, fence, since, stopping: false, failures };
            agree(leased, view.as_ref())
        }
        StepAct::Complete { host, fence, success, told } => {
            let ended = complete(state, host, *fence, *success, asks, step.asked);
            tell(state, ended, told.as_ref())
        }
        StepAct::Cancel(told) => tell(state, cancel(state, step.asked), told.as_ref()),
        StepAct::Retry(told) => {
            let view = told.as_ref().and_then(|told| told.as_ref().ok());
            let next = retry(state, step.asked, asks).map(|next| tied(next, view, asks, step.asked));
            tell(state, next, told.as_ref())
        }
        StepAct::Read(None) => matches!(state, State::Absent | State::Forgotten).then(|| state.clone()),
        StepAct::Read(Some(view)) => agree(state.clone(), Some(view)),
    }
}

/// A job that joins the queue, unless what it depends on had failed by then.
fn tied(next: State, view: Option<&View>, asks: Asks, now: Time) -> State {
    match view.map(|view| view.status) {
        Some(status) if asks.fails_as == Some(status) => {
            State::Ended { status, host: None, fence: None, since: now }
        }
        _ => next,
    }
}

/// A refusal, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum No {
    UnknownJob,
    AssignedElsewhere,
    NotLeased,
    StaleFence,
    JobEnded,
    NotToRetry,
    Other,
}

impl No {
    fn of(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::UnknownJob(_) => Self::UnknownJob,
            Refusal::AssignedElsewhere { .. } => Self::AssignedElsewhere,
            Refusal::NotLeased(_) => Self::NotLeased,
            Refusal::StaleFence { .. } => Self::StaleFence,
            Refusal::JobEnded { .. } => Self::JobEnded,
            Refusal::NotToRetry { .. } => Self::NotToRetry,
            _ => Self::Other,
        }
    }
}

fn complete(
    state: &State,
    by: &HostId,
    with: u64,
    success: bool,
    asks: Asks,
    now: Time,
) -> Result<State, No> {
    let holder = match state {
        State::Absent | State::Forgotten => return Err(No::UnknownJob),
        State::Queued { .. } => None,
        State::Leased { host, .. } => Some(host),
        State::Ended { host, .. } => host.as_ref(),
    };
    if holder != Some(by) {
        return Err(No::AssignedElsewhere);
    }
    let State::Leased { fence, stopping, failures, .. } = state else { return Err(No::NotLeased) };
    // Who names a token was told of its claim; a claim that nobody was told of has another.
    if *fence != Some(with) {
        return Err(No::StaleFence);
    }
    let status = match (success, stopping) {
        (true, _) => JobStatus::Completed,
        (false, true) => JobStatus::Cancelled,
        (false, false) => return Ok(failed(by, *fence, *failures, JobStatus::Failed, asks, false, now)),
    };
    Ok(State::Ended { status, host: Some(by.clone()), fence: *fence, since: now })
}

fn cancel(state: &State, now: Time) -> Result<State, No> {
    match state {
        State::Absent | State::Forgotten => Err(No::UnknownJob),
        State::Queued { .. } => {
            Ok(State::Ended { status: JobStatus::Cancelled, host: None, fence: None, since: now })
        }
        State::Leased { host, fence, since, failures, .. } => {
            let (host, failures) = (host.clone(), *failures);
            Ok(State::Leased { host, fence: *fence, since: *since, stopping: true, failures })
        }
        State::Ended { status: JobStatus::Cancelled, .. } => Ok(state.clone()),
        State::Ended { .. } => Err(No::JobEnded),
    }
}

/// Somebody wants a job run again that ended without success.
fn retry(state: &State, asked: Time, asks: Asks) -> Result<State, No> {
    match state {
        State::Absent | State::Forgotten => Err(No::UnknownJob),
        State::Ended { status: JobStatus::Completed, .. } | State::Queued { .. } | State::Leased { .. } => {
            Err(No::NotToRetry)
        }
        State::Ended { fence, .. } => Ok(queued(fence.unwrap_or(0), asked, asks)),
    }
}

/// The state after something that can be refused, if that fits what was told.
fn tell(state: &State, next: Result<State, No>, told: Option<&Result<View, Refusal>>) -> Option<State> {
    match (next, told) {
        (Ok(next), None) => Some(next),
        (Err(_), None) => Some(state.clone()),
        (Ok(next), Some(Ok(view))) => agree(next, Some(view)),
        (Err(no), Some(Err(refusal))) => (no == No::of(refusal)).then(|| state.clone()),
        (Ok(_), Some(Err(_))) | (Err(_), Some(Ok(_))) => None,
    }
}

/// The state, if it looks as it was seen; a token that was seen is known from then on.
fn agree(state: State, view: Option<&View>) -> Option<State> {
    let Some(view) = view else { return Some(state) };
    let known = |fence: Option<u64>| fence.is_none_or(|fence| fence == view.fence);
    match state {
        State::Queued { fence, failures, until } => {
            let fits = view.status == JobStatus::Queued && view.fence >= fence && !view.stopping;
            fits.then_some(State::Queued { fence: view.fence, failures, until })
        }
        State::Leased { host, fence, since, stopping, failures } => {
            let fits = view.status == JobStatus::Leased
                && view.host.as_ref() == Some(&host)
                && known(fence)
                && view.stopping == stopping;
            fits.then_some(State::Leased { host, fence: Some(view.fence), since, stopping, failures })
        }
        State::Ended { status, host, fence, since } => {
            let fits = view.status == status && view.host == host && known(fence);
            fits.then_some(State::Ended { status, host, fence: Some(view.fence), since })
        }
        State::Absent | State::Forgotten => None,
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
