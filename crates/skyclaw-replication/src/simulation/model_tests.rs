//! Lives that are possible, and some that are not.

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
