//! Schedules: creating, pausing and deleting them, and what becomes of their times.
//!
//! ```text
//!  next_at is due ─┬─ the last job has ended ──────────────────────────► submitted
//!                  └─ it has not ── skip ─────► passed by               ▲
//!                               ├── queue ────► waiting ── it has ended ─┤
//!                               └── replace ──► waiting ── it has ended ─┘ (it is called off first)
//! ```
//!
//! What always holds: a time that a schedule waited for is dealt with once, and of the jobs that one schedule
//! submitted at most one has not ended, unless somebody has an ended one run again.

use std::ops::Bound;
use std::sync::Arc;

use skyclaw_proto::limits::MAX_SCHEDULES;
use skyclaw_proto::{JobId, Overlap, ScheduleId, Timestamp};

use super::Draft;
use crate::archive::Archive;
use crate::command::Operation;
use crate::model::Job;
use crate::outcome::{Change, Effect, Refusal, Reply};
use crate::schedule::{Fire, Origin, Paused, Schedule, ScheduleSpec, Submission};
use crate::state::State;

impl State {
    /// All schedules, oldest first.
    pub fn schedules(&self) -> impl Iterator<Item = &Arc<Schedule>> {
        self.schedules.values()
    }

    /// Those that came after this one, oldest first; all of them when none is named.
    pub fn schedules_after(&self, after: Option<&ScheduleId>) -> impl Iterator<Item = &Arc<Schedule>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.schedules.range((from, Bound::Unbounded)).map(|(_, schedule)| schedule)
    }

    /// The schedule with this id or name.
    #[must_use]
    pub fn schedule(&self, wanted: &ScheduleId) -> Option<&Arc<Schedule>> {
        let by_name = || self.schedules.get(self.schedule_names.get(wanted.as_str())?);
        self.schedules.get(wanted).or_else(by_name)
    }

    /// With these schedules.
    #[must_use]
    pub fn with_schedules(mut self, schedules: impl IntoIterator<Item = Arc<Schedule>>) -> Self {
        for schedule in schedules {
            self.schedule_names.insert(schedule.spec.name.clone(), schedule.id.clone());
            self.schedules.insert(schedule.id.clone(), schedule);
        }
        self
    }

    /// The last job of a schedule, if it has not ended.
    #[must_use]
    pub fn active_job_of(&self, schedule: &Schedule) -> Option<&Arc<Job>> {
        self.jobs.get(&schedule.last.as_ref()?.job)
    }

    /// Whether the state is that of a snapshot which does not know what was done about this time.
    fn may_have_been_done(&self, at: Timestamp) -> bool {
        self.restores.last().is_some_and(|last| at <= last.at)
    }
}

impl Draft<'_> {
    pub(super) fn create_schedule(
        &mut self,
        id: &ScheduleId,
        spec: &Arc<ScheduleSpec>,
        next_at: Option<Timestamp>,
        paused: bool,
        by: Option<&String>,
    ) -> Result<Reply, Refusal> {
        if let Some(known) = self.state.schedules.get(id) {
            return Ok(Reply::Schedule(Arc::clone(known)));
        }
        if let Some(known) = self.state.schedule_names.get(&spec.name) {
            return Err(Refusal::ScheduleExists { name: spec.name.clone(), id: known.clone() });
        }
        if self.state.schedules.len() >= MAX_SCHEDULES {
            return Err(Refusal::TooManySchedules);
        }
        let at = self.stamp.at;
        let mut schedule = Schedule {
            id: id.clone(),
            spec: Arc::clone(spec),
            paused: paused.then(|| Paused { at, reason: None, by: by.cloned() }),
            next_at: next_at.filter(|_| !paused),
            waiting: None,
            last: None,
            submitted: 0,
            skipped: 0,
            missed: 0,
            created_at: at,
            updated_at: at,
            updated_by: self.stamp.node.clone(),
            version: 0,
            events: Vec::new(),
        };
        schedule.remember(self.event("created", said(by, None)));
        self.state.schedule_names.insert(spec.name.clone(), id.clone());
        Ok(Reply::Schedule(self.put_schedule(schedule)))
    }

    /// Pausing again what is paused changes nothing. What waits to be submitted is not any more.
    pub(super) fn pause_schedule(
        &mut self,
        wanted: &ScheduleId,
        reason: Option<&String>,
        by: Option<&String>,
    ) -> Result<Reply, Refusal> {
        let known = self.find_schedule(wanted)?;
        if known.paused.is_some() {
            return Ok(Reply::Schedule(known));
        }
        let mut schedule = (*known).clone();
        if let Some(due) = schedule.waiting.take() {
            self.pass_by(
                &mut schedule,
                format!("the job due at {due} was not submitted before it was paused"),
            );
        }
        schedule.next_at = None;
        schedule.paused = Some(Paused { at: self.stamp.at, reason: reason.cloned(), by: by.cloned() });
        schedule.remember(self.event("paused", said(by, reason)));
        Ok(Reply::Schedule(self.put_schedule(schedule)))
    }

    /// Resuming what is not paused changes nothing. The times that passed meanwhile are not made up for.
    pub(super) fn resume_schedule(
        &mut self,
        wanted: &ScheduleId,
        next_at: Option<Timestamp>,
        by: Option<&String>,
    ) -> Result<Reply, Refusal> {
        let known = self.find_schedule(wanted)?;
        if known.paused.is_none() {
            return Ok(Reply::Schedule(known));
        }
        let mut schedule = Schedule { paused: None, next_at, ..(*known).clone() };
        schedule.remember(self.event("resumed", said(by, None)));
        Ok(Reply::Schedule(self.put_schedule(schedule)))
    }

    /// Jobs that were submitted go on.
    pub(super) fn delete_schedule(&mut self, wanted: &ScheduleId) -> Result<Reply, Refusal> {
        let known = self.find_schedule(wanted)?;
        self.state.schedules.remove(&known.id);
        self.state.schedule_names.remove(&known.spec.name);
        self.changes.push(Change::RemoveSchedule(known.id.clone()));
        self.effects.push(Effect::ScheduleChanged { schedule: known.id.clone() });
        Ok(Reply::Schedule(known))
    }

    /// A time has come, once: whoever says so again is told that nothing is to be done.
    pub(super) fn fire_schedule(&mut self, fire: &Fire, archive: &impl Archive) -> Reply {
        let Some(known) = self.state.schedules.get(&fire.schedule) else { return Reply::Done };
        let goes_on = fire.next_at.is_none_or(|next| next > fire.at.max(fire.due.unwrap_or(fire.at)));
        if known.next_at != Some(fire.at) || !goes_on {
            return Reply::Done;
        }
        let mut schedule = (**known).clone();
        schedule.next_at = fire.next_at;
        let job = fire.job.as_deref();
        let due = fire.due.filter(|due| job.is_some() && !self.state.may_have_been_done(*due));
        let missed = fire.missed.saturating_add(u64::from(due.is_none()));
        if missed > 0 {
            schedule.missed = schedule.missed.saturating_add(missed);
            let detail = format!("{missed} of its times, the first of them {}", fire.at);
            schedule.remember(self.event("missed", detail));
        }
        match due.zip(job) {
            Some((due, job)) => self.come_due(schedule, due, job, archive),
            None => drop(self.put_schedule(schedule)),
        }
        Reply::Done
    }

    /// The last job has ended, and one waits to be submitted.
    pub(super) fn submit_waiting(
        &mut self,
        id: &ScheduleId,
        at: Timestamp,
        job: &Operation,
        archive: &impl Archive,
    ) -> Reply {
        let Some(known) = self.state.schedules.get(id).cloned() else { return Reply::Done };
        if known.waiting != Some(at) || self.state.active_job_of(&known).is_some() {
            return Reply::Done;
        }
        let mut schedule = Schedule { waiting: None, ..(*known).clone() };
        if self.state.may_have_been_done(at) {
            schedule.missed = schedule.missed.saturating_add(1);
            let detail = format!("the time {at}: a snapshot of before was restored");
            schedule.remember(self.event("missed", detail));
            self.put_schedule(schedule);
        } else {
            self.submit_or_pass_by(schedule, at, job, archive);
        }
        Reply::Done
    }

    /// A job is submitted now, unless the last one has not ended and is not to be waited for.
    pub(super) fn trigger_schedule(
        &mut self,
        wanted: &ScheduleId,
        job: Option<&Operation>,
        by: Option<&String>,
        archive: &impl Archive,
    ) -> Result<Reply, Refusal> {
        let known = self.find_schedule(wanted)?;
        let Some(job) = job else { return Err(Refusal::UnknownSchedule(wanted.clone())) };
        if let Some(active) = self.state.active_job_of(&known) {
            let is_full = match known.spec.overlap {
                Overlap::Skip => true,
                Overlap::Queue => known.waiting.is_some(),
                Overlap::Replace => false,
            };
            if is_full {
                let (name, job) = (known.spec.name.clone(), active.id.clone());
                return Err(Refusal::ScheduleBusy { name, job, waits: known.waiting.is_some() });
            }
        }
        let at = self.stamp.at;
        let mut schedule = (*known).clone();
        schedule.remember(self.event("triggered", said(by, None)));
        if self.state.active_job_of(&known).is_none() {
            self.submit(schedule, at, job, archive)?;
        } else {
            self.come_due(schedule, at, job, archive);
        }
        let schedule = self.find_schedule(&known.id)?;
        let last = schedule.last.as_ref().filter(|_| schedule.submitted > known.submitted);
        let job = last.and_then(|last| self.state.jobs.get(&last.job).cloned());
        Ok(Reply::Triggered { schedule, job })
    }

    /// Submits a job for a time that has come, or does what is to be done while the last one has not ended.
    fn come_due(&mut self, mut schedule: Schedule, due: Timestamp, job: &Operation, archive: &impl Archive) {
        let Some(active) = self.state.active_job_of(&schedule).map(|job| job.id.clone()) else {
            return self.submit_or_pass_by(schedule, due, job, archive);
        };
        let not_ended = format!("the job due at {due} was not submitted: {active} had not ended");
        match schedule.spec.overlap {
            Overlap::Queue if schedule.waiting.is_none() => schedule.waiting = Some(due),
            Overlap::Skip | Overlap::Queue => self.pass_by(&mut schedule, not_ended),
            Overlap::Replace => return self.replace(schedule, &active, due, job, archive),
        }
        self.put_schedule(schedule);
    }

    /// The last job is called off. What is queued ends with that; what runs ends when its host has stopped it.
    fn replace(
        &mut self,
        mut schedule: Schedule,
        active: &JobId,
        due: Timestamp,
        job: &Operation,
        archive: &impl Archive,
    ) {
        if let Some(before) = schedule.waiting.replace(due) {
            self.pass_by(&mut schedule, format!("the job due at {before} was not submitted before {due}"));
        }
        // It is active, so calling it off is not refused; if it were, its end would be waited for.
        let _ = self.cancel(active, archive);
        if self.state.active_job_of(&schedule).is_some() {
            self.put_schedule(schedule);
        } else {
            schedule.waiting = None;
            self.submit_or_pass_by(schedule, due, job, archive);
        }
    }

    /// A submission that is refused is passed by: it is not better the next time it is tried.
    fn submit_or_pass_by(
        &mut self,
        schedule: Schedule,
        due: Timestamp,
        job: &Operation,
        archive: &impl Archive,
    ) {
        let mut kept = schedule.clone();
        if let Err(refusal) = self.submit(schedule, due, job, archive) {
            self.pass_by(&mut kept, format!("the job due at {due} was refused: {refusal}"));
            self.put_schedule(kept);
        }
    }

    /// Submits a job. Nothing changes when it is refused.
    fn submit(
        &mut self,
        mut schedule: Schedule,
        due: Timestamp,
        job: &Operation,
        archive: &impl Archive,
    ) -> Result<(), Refusal> {
        self.origin = Some(Arc::new(Origin { schedule: schedule.id.clone(), at: due }));
        let submitted = match job {
            Operation::Enqueue { .. } => self.operate(job, archive),
            _ => Ok(Reply::Done),
        };
        self.origin = None;
        match submitted? {
            Reply::Job(job) => {
                schedule.last = Some(Submission { at: due, job: job.id.clone() });
                schedule.submitted = schedule.submitted.saturating_add(1);
            }
            Reply::Existing(job) => {
                let detail = format!("the job due at {due} was not submitted: {} has its unique key", job.id);
                self.pass_by(&mut schedule, detail);
            }
            _ => {}
        }
        self.put_schedule(schedule);
        Ok(())
    }

    fn pass_by(&self, schedule: &mut Schedule, detail: String) {
        schedule.skipped = schedule.skipped.saturating_add(1);
        schedule.remember(self.event("skipped", detail));
    }

    fn find_schedule(&self, wanted: &ScheduleId) -> Result<Arc<Schedule>, Refusal> {
        self.state.schedule(wanted).cloned().ok_or_else(|| Refusal::UnknownSchedule(wanted.clone()))
    }

    fn put_schedule(&mut self, mut schedule: Schedule) -> Arc<Schedule> {
        schedule.version = self.state.next_version();
        schedule.updated_at = self.stamp.at.max(schedule.updated_at);
        schedule.updated_by = self.stamp.node.clone();
        let schedule = Arc::new(schedule);
        self.state.schedules.insert(schedule.id.clone(), Arc::clone(&schedule));
        self.changes.push(Change::Schedule(Arc::clone(&schedule)));
        self.effects.push(Effect::ScheduleChanged { schedule: schedule.id.clone() });
        schedule
    }
}

/// For people: who, and why.
fn said(by: Option<&String>, reason: Option<&String>) -> String {
    let by = by.map(|by| format!("by {by}"));
    let why = reason.map(ToOwned::to_owned);
    by.into_iter().chain(why).collect::<Vec<_>>().join(": ")
}
