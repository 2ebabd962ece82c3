//! Has the schedules submit their jobs, where this node leads.
//!
//! ```text
//!  timetable ─► due, or ready ─► calendar: what comes next ─► FireSchedule, SubmitWaiting ─► log
//!      ▲                                                                                     │
//!      └──────────────────────────── applied ◄──────────────────────────────────────────────┘
//! ```
//!
//! Nothing is remembered here: what was proposed and did not get through is due still, and found again by
//! whoever leads then. A command that comes twice is for a time the schedule does not wait for any more.

use std::time::Duration;

use skyclaw_core::{Command, Fire, Operation, Schedule};
use skyclaw_proto::request::{EnqueueJobBody, SCHEDULE_LABEL};
use skyclaw_proto::{Invalid, JobId, ScheduleId, Timestamp};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::calendar::Calendar;
use crate::machine::{Gone, Machine};
use crate::options::Stamper;
use crate::proposer::Proposer;

/// Most schedules of each kind that are dealt with at once.
const AT_ONCE: usize = 256;
/// The wall clock is looked at again at the latest after so long: it may be set.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long to wait before what did not get through is proposed again.
const RETRY: Duration = Duration::from_millis(200);

pub(crate) struct Scheduler {
    pub(crate) machine: Machine,
    pub(crate) proposer: Proposer,
    pub(crate) stamper: Stamper,
    pub(crate) new_uuid: fn() -> Uuid,
    /// Whether this node leads.
    pub(crate) leading: watch::Receiver<bool>,
    pub(crate) stop: CancellationToken,
}

/// When to look again, if nothing changes.
enum Next {
    /// When something changes.
    Change,
    /// Then at the latest.
    In(Duration),
    /// Not before: what was proposed did not get through.
    Retry,
}

impl Scheduler {
    pub(crate) async fn run(mut self) {
        let Ok(changed) = self.machine.look(|memory| memory.timetable.signal()).await else { return };
        // Whether the last round did not get through: it is said once.
        let mut waits = false;
        let mut before = None;
        loop {
            let leads = *self.leading.borrow_and_update();
            let next = match leads {
                true => match self.round(&mut before, &mut waits).await {
                    Ok(next) => next,
                    Err(Gone) => return,
                },
                false => Next::Change,
            };
            let (pause, may_hurry) = match next {
                Next::Change => (None, true),
                Next::In(pause) => (Some(pause), true),
                Next::Retry => (Some(RETRY), false),
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = self.leading.changed() => if changed.is_err() { return },
                () = changed.notified(), if may_hurry => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Does what there is to do now, up to a bound. `before` is what came first the last time: what comes first
    /// again has not moved on, and is not hurried.
    async fn round(&self, before: &mut Option<(ScheduleId, u64)>, waits: &mut bool) -> Result<Next, Gone> {
        let now = self.stamper.now();
        let todo =
            self.machine.look(move |memory| memory.timetable.todo(&memory.state, now, AT_ONCE)).await?;
        let Some(first) = todo.due.first().or(todo.ready.first()) else {
            *before = None;
            let until = |at: Timestamp| Next::In(at.since(now).min(LOOK_AGAIN));
            return Ok(todo.next_at.map_or(Next::Change, until));
        };
        let first = Some((first.id.clone(), first.version));
        let has_moved = first != std::mem::replace(before, first.clone());
        let due = todo.due.iter().map(|schedule| self.fire(schedule, now));
        let ready = todo.ready.iter().filter_map(|schedule| self.submit(schedule));
        let commands: Vec<Command> =
            due.chain(ready).map(|operation| self.stamper.stamp(None, operation)).collect();
        let decided = self.proposer.propose_all(commands).await;
        let failed = decided.iter().find_map(|decision| decision.as_ref().err());
        let waited = std::mem::replace(waits, failed.is_some());
        match failed {
            Some(error) if !waited => tracing::warn!(%error, "the schedules have to wait"),
            None if waited => tracing::info!("the schedules go on"),
            _ => {}
        }
        Ok(if failed.is_some() || !has_moved { Next::Retry } else { Next::In(Duration::ZERO) })
    }

    /// What to propose about a schedule whose time has come.
    fn fire(&self, schedule: &Schedule, now: Timestamp) -> Operation {
        let spec = &schedule.spec;
        let calendar = match Calendar::new(&spec.cron, &spec.time_zone) {
            Ok(calendar) => calendar,
            Err(invalid) => return pause(schedule, &invalid),
        };
        let Some(at) = schedule.next_at else { return pause(schedule, &Invalid::required("nextAt")) };
        let due = calendar.due(at, now, Duration::from_millis(spec.catch_up_ms));
        let job = match due.due.map(|_| self.submission(schedule)).transpose() {
            Ok(job) => job.map(Box::new),
            Err(invalid) => return pause(schedule, &invalid),
        };
        Operation::FireSchedule(Box::new(Fire {
            schedule: schedule.id.clone(),
            at,
            due: due.due,
            missed: due.missed - u64::from(due.due.is_none()),
            next_at: due.next_at,
            job,
        }))
    }

    /// What to propose about a schedule whose last job has ended, for which another waits.
    fn submit(&self, schedule: &Schedule) -> Option<Operation> {
        let at = schedule.waiting?;
        Some(match self.submission(schedule) {
            Ok(job) => Operation::SubmitWaiting { schedule: schedule.id.clone(), at, job: Box::new(job) },
            Err(invalid) => pause(schedule, &invalid),
        })
    }

    fn submission(&self, schedule: &Schedule) -> Result<Operation, Invalid> {
        submission(schedule, JobId::from_uuid((self.new_uuid)()))
    }
}

/// The submission of a schedule's job.
///
/// # Errors
/// When this version does not take the job that another one took.
pub(crate) fn submission(schedule: &Schedule, id: JobId) -> Result<Operation, Invalid> {
    let of_job = |fault: String| Invalid::new("job", format!("is not one that can be submitted: {fault}"));
    let body: EnqueueJobBody =
        serde_json::from_str(&schedule.spec.job).map_err(|error| of_job(error.to_string()))?;
    let mut job = body.check().map_err(|invalid| of_job(invalid.to_string()))?;
    let name = &schedule.spec.name;
    job.labels.insert(SCHEDULE_LABEL.to_owned(), name.clone());
    job.submitted_by.get_or_insert_with(|| format!("schedule:{name}"));
    Ok(Operation::enqueue(id, job))
}

/// A schedule that this version cannot carry out is paused, and says why.
fn pause(schedule: &Schedule, invalid: &Invalid) -> Operation {
    tracing::warn!(schedule = %schedule.id, name = schedule.spec.name, %invalid, "a schedule is paused");
    Operation::PauseSchedule { schedule: schedule.id.clone(), reason: Some(invalid.to_string()), by: None }
}

async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}
