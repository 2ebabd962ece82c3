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
mod tests {
    use super::*;

    const LAWS: Laws = Laws { lease: 1000, grace: None };

    fn is_possible(steps: &[Step], laws: Laws) -> bool {
        super::is_possible(steps, laws, Asks::default())
    }

    fn host(name: &str) -> HostId {
        HostId::parse(name).expect("an id")
    }

    fn job() -> skyclaw_proto::JobId {
        skyclaw_proto::JobId::parse("j").expect("an id")
    }

    fn view(status: JobStatus, by: Option<&str>, fence: u64) -> View {
        View { status, host: by.map(host), fence, stopping: false }
    }

    fn step(asked: Time, told_at: Time, act: StepAct) -> Step {
        Step { asked, told_at, certain: true, act }
    }

    fn lost(asked: Time, act: StepAct) -> Step {
        Step { asked, told_at: Time::MAX, certain: false, act }
    }

    fn enqueued(asked: Time, told_at: Time) -> Step {
        step(asked, told_at, StepAct::Enqueue(Some(view(JobStatus::Queued, None, 0))))
    }

    fn claimed(asked: Time, told_at: Time, by: &str, fence: u64) -> Step {
        let view = Some(view(JobStatus::Leased, Some(by), fence));
        step(asked, told_at, StepAct::Claim { host: host(by), view })
    }

    fn completed(asked: Time, told_at: Time, by: &str, fence: u64) -> Step {
        let told = Some(Ok(view(JobStatus::Completed, Some(by), fence)));
        step(asked, told_at, StepAct::Complete { host: host(by), fence, success: true, told })
    }

    fn read(asked: Time, told_at: Time, seen: Option<View>) -> Step {
        step(asked, told_at, StepAct::Read(seen))
    }

    fn refused(asked: Time, told_at: Time, by: &str, fence: u64, refusal: Refusal) -> Step {
        let told = Some(Err(refusal));
        step(asked, told_at, StepAct::Complete { host: host(by), fence, success: true, told })
    }

    #[test]
    fn a_life_in_order_is_possible() {
        let seen = Some(view(JobStatus::Completed, Some("a"), 1));
        let life = [enqueued(0, 1), claimed(2, 3, "a", 1), completed(4, 5, "a", 1), read(6, 7, seen)];
        assert!(is_possible(&life, LAWS));
        assert!(is_possible(&[], LAWS));
    }

    #[test]
    fn operations_at_the_same_time_may_have_happened_in_either_order() {
        assert!(is_possible(&[enqueued(0, 10), read(1, 2, None)], LAWS));
        assert!(is_possible(&[enqueued(0, 10), read(1, 2, Some(view(JobStatus::Queued, None, 0)))], LAWS));
    }

    #[test]
    fn what_was_acknowledged_cannot_be_gone() {
        assert!(!is_possible(&[enqueued(0, 1), read(2, 3, None)], LAWS));
        let seen = Some(view(JobStatus::Leased, Some("a"), 1));
        let life = [enqueued(0, 1), claimed(2, 3, "a", 1), completed(4, 5, "a", 1), read(6, 7, seen)];
        assert!(!is_possible(&life, LAWS), "a completion was undone");
    }

    #[test]
    fn a_job_cannot_be_leased_to_two_within_the_time_of_a_lease() {
        let twice = |at| [enqueued(0, 1), claimed(2, 3, "a", 1), claimed(at, at + 5, "b", 2)];
        assert!(!is_possible(&twice(900), LAWS));
        assert!(is_possible(&twice(998), LAWS), "it may have run out before the answer");
        assert!(is_possible(&twice(2000), LAWS));
        let back = [enqueued(0, 1), claimed(2, 3, "a", 2), claimed(2000, 2001, "b", 1)];
        assert!(!is_possible(&back, LAWS), "tokens grow");
    }

    #[test]
    fn the_holder_of_a_lease_cannot_be_told_that_there_is_none() {
        let no = refused(4, 5, "a", 1, Refusal::NotLeased(job()));
        assert!(!is_possible(&[enqueued(0, 1), claimed(2, 3, "a", 1), no.clone()], LAWS));
        let told = None;
        let before = lost(3, StepAct::Complete { host: host("a"), fence: 1, success: true, told });
        assert!(is_possible(&[enqueued(0, 1), claimed(2, 3, "a", 1), before, no], LAWS));
    }

    #[test]
    fn what_nobody_knows_may_have_happened_or_not() {
        let enqueue = || lost(0, StepAct::Enqueue(None));
        assert!(is_possible(&[enqueue(), read(5, 6, None)], LAWS));
        assert!(is_possible(&[enqueue(), read(5, 6, Some(view(JobStatus::Queued, None, 0)))], LAWS));
        let seen = Some(view(JobStatus::Queued, None, 0));
        assert!(!is_possible(&[enqueue(), read(5, 6, seen), read(7, 8, None)], LAWS), "but not be undone");
    }

    #[test]
    fn a_claim_that_nobody_was_told_of_explains_what_was_seen_later() {
        let seen = || read(5, 6, Some(view(JobStatus::Leased, Some("a"), 3)));
        assert!(!is_possible(&[enqueued(0, 1), seen()], LAWS));
        let claim = lost(2, StepAct::Claim { host: host("a"), view: None });
        assert!(is_possible(&[enqueued(0, 1), claim.clone(), seen()], LAWS));
        let other = read(7, 8, Some(view(JobStatus::Leased, Some("a"), 4)));
        assert!(!is_possible(&[enqueued(0, 1), claim, seen(), other], LAWS), "one claim, one token");
    }

    #[test]
    fn a_cancelled_job_stays_so() {
        let told = Some(Ok(view(JobStatus::Cancelled, None, 0)));
        let cancelled = || step(2, 3, StepAct::Cancel(told.clone()));
        assert!(is_possible(&[enqueued(0, 1), cancelled()], LAWS));
        assert!(!is_possible(&[enqueued(0, 1), cancelled(), claimed(4, 5, "a", 1)], LAWS));
        let too_late = step(6, 7, StepAct::Cancel(Some(Err(Refusal::UnknownJob(job())))));
        assert!(!is_possible(&[enqueued(0, 1), too_late], LAWS));
    }

    fn failed(asked: Time, by: &str, fence: u64, became: View) -> Step {
        let told = Some(Ok(became));
        step(asked, asked + 1, StepAct::Complete { host: host(by), fence, success: false, told })
    }

    #[test]
    fn a_job_is_tried_as_often_as_it_may_be_and_no_more() {
        let asks = Asks { tries: Some(2), ..Asks::default() };
        let again = || failed(4, "a", 1, view(JobStatus::Queued, None, 1));
        let over = |at, fence| failed(at, "a", fence, view(JobStatus::Failed, Some("a"), fence));
        let begun = || vec![enqueued(0, 1), claimed(2, 3, "a", 1)];
        let twice = [begun(), vec![again(), claimed(6, 7, "a", 2), over(8, 2)]].concat();
        assert!(super::is_possible(&twice, LAWS, asks));
        assert!(!super::is_possible(&twice, LAWS, Asks::default()), "nobody asked for that");
        let early = [begun(), vec![over(4, 1)]].concat();
        assert!(!super::is_possible(&early, LAWS, asks), "it had one more");
        assert!(super::is_possible(&early, LAWS, Asks::default()));
        let late = failed(8, "a", 2, view(JobStatus::Queued, None, 2));
        let thrice = [begun(), vec![again(), claimed(6, 7, "a", 2), late]].concat();
        assert!(!super::is_possible(&thrice, LAWS, asks), "it had no more");
    }

    #[test]
    fn what_has_ended_without_success_can_be_had_run_again_and_nothing_else() {
        let queued = |fence| Some(Ok(view(JobStatus::Queued, None, fence)));
        let retried = |asked, fence| step(asked, asked + 1, StepAct::Retry(queued(fence)));
        let begun = || vec![enqueued(0, 1), claimed(2, 3, "a", 1)];
        let lost = failed(4, "a", 1, view(JobStatus::Failed, Some("a"), 1));
        assert!(is_possible(&[begun(), vec![lost, retried(6, 1), claimed(8, 9, "b", 2)]].concat(), LAWS));
        assert!(!is_possible(&[begun(), vec![completed(4, 5, "a", 1), retried(6, 1)]].concat(), LAWS));
        assert!(!is_possible(&[begun(), vec![retried(6, 1)]].concat(), LAWS), "it runs");
    }

    #[test]
    fn a_job_for_later_is_not_claimed_before_and_one_that_may_not_wait_expires_no_sooner() {
        let later = Asks { not_before: Some(100), ..Asks::default() };
        assert!(!super::is_possible(&[enqueued(0, 1), claimed(2, 3, "a", 1)], LAWS, later));
        assert!(super::is_possible(&[enqueued(0, 1), claimed(2, 103, "a", 1)], LAWS, later));
        let short = Asks { ttl: Some(100), ..Asks::default() };
        let gone = |at| vec![enqueued(0, 1), read(at, at + 1, Some(view(JobStatus::Expired, None, 0)))];
        assert!(super::is_possible(&gone(150), LAWS, short));
        assert!(!super::is_possible(&gone(50), LAWS, short), "it had time");
        assert!(!super::is_possible(&gone(150), LAWS, Asks::default()), "it had all the time");
        let begun = [vec![enqueued(0, 1), claimed(2, 3, "a", 1)], gone(150)[1..].to_vec()].concat();
        assert!(!super::is_possible(&begun, LAWS, short), "it was claimed in time");
    }

    #[test]
    fn a_job_that_has_ended_may_be_forgotten_for_good_but_not_at_once_and_only_where_any_are() {
        let forgets = Laws { grace: Some(100), ..LAWS };
        let ended = || vec![enqueued(0, 1), claimed(2, 3, "a", 1), completed(4, 5, "a", 1)];
        let gone = |at| [ended(), vec![read(at, at + 1, None)]].concat();
        assert!(is_possible(&gone(150), forgets));
        assert!(!is_possible(&gone(50), forgets), "it has only just ended");
        assert!(!is_possible(&gone(150), LAWS), "all are kept");
        let told = Some(Err(Refusal::UnknownJob(job())));
        assert!(is_possible(&[gone(150), vec![step(160, 161, StepAct::Retry(told))]].concat(), forgets));
        let back = read(160, 161, Some(view(JobStatus::Completed, Some("a"), 1)));
        assert!(!is_possible(&[gone(150), vec![back]].concat(), forgets), "it came back");
        assert!(!is_possible(&[enqueued(0, 1), read(150, 151, None)], forgets), "it had not ended");
    }

    #[test]
    fn a_job_that_depends_on_another_may_end_because_of_that_and_no_other_does() {
        let tied = Asks { fails_as: Some(JobStatus::Cancelled), ..Asks::default() };
        let gone = || Some(view(JobStatus::Cancelled, None, 0));
        let later = [enqueued(0, 1), read(2, 3, gone())];
        let at_once = [step(0, 1, StepAct::Enqueue(gone())), read(2, 3, gone())];
        for life in [&later, &at_once] {
            assert!(super::is_possible(life, LAWS, tied));
            assert!(!super::is_possible(life, LAWS, Asks::default()));
        }
        let begun = [enqueued(0, 1), claimed(2, 3, "a", 1), read(4, 5, gone())];
        assert!(!super::is_possible(&begun, LAWS, tied), "it had begun");
    }
}
