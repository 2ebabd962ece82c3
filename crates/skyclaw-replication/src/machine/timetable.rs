//! Which schedule is due when.
//!
//! Kept on every node as commands are applied, and looked at where it leads. To find what is due costs as much as
//! there is due, however many schedules there are.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use skyclaw_core::{Schedule, State};
use skyclaw_proto::{JobId, ScheduleId, Timestamp};
use tokio::sync::Notify;

/// Which schedule is due when.
#[derive(Debug, Default)]
pub(crate) struct Timetable {
    times: BTreeSet<(Timestamp, ScheduleId)>,
    entries: HashMap<ScheduleId, Entry>,
    /// Jobs whose end a schedule waits for.
    awaited: HashMap<JobId, Vec<ScheduleId>>,
    /// Schedules that waited for the end of a job, which has come.
    ready: BTreeSet<ScheduleId>,
    changed: Arc<Notify>,
    counts: ScheduleCounts,
}

/// What became of the times of schedules that were dealt with since this process has begun, as applied here. Clones
/// are the same counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct ScheduleCounts(Arc<[AtomicU64; 3]>);

impl ScheduleCounts {
    const OUTCOMES: [&str; 3] = ["submitted", "skipped", "missed"];

    fn of(schedule: &Schedule) -> [u64; 3] {
        [schedule.submitted, schedule.skipped, schedule.missed]
    }

    fn add(&self, before: [u64; 3], now: [u64; 3]) {
        for (count, (before, now)) in self.0.iter().zip(before.into_iter().zip(now)) {
            count.fetch_add(now.saturating_sub(before), Ordering::Relaxed);
        }
    }

    /// How many times came to each end.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Self::OUTCOMES.into_iter().zip(self.0.iter().map(|count| count.load(Ordering::Relaxed)))
    }
}

/// Where a schedule stands in the rest.
#[derive(Debug, Default)]
struct Entry {
    next_at: Option<Timestamp>,
    awaits: Option<JobId>,
    /// How many of its times were dealt with, and how.
    counted: [u64; 3],
}

/// What there is to do.
#[derive(Debug, Default)]
pub(crate) struct Todo {
    /// Schedules whose time has come.
    pub(crate) due: Vec<Arc<Schedule>>,
    /// Schedules whose last job has ended, for which another waits.
    pub(crate) ready: Vec<Arc<Schedule>>,
    /// When there is more to do, if nothing changes.
    pub(crate) next_at: Option<Timestamp>,
}

impl Timetable {
    /// Told when something changes.
    pub(crate) fn signal(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    /// The schedules are others from now on.
    pub(crate) fn restart(&mut self, state: &State) {
        let (changed, counts) = (self.signal(), self.counts.clone());
        *self = Self { changed, counts, ..Self::default() };
        for schedule in state.schedules() {
            self.enter(schedule, state);
        }
        self.changed.notify_one();
    }

    /// Counts in these from now on.
    pub(crate) fn count_in(&mut self, counts: ScheduleCounts) {
        self.counts = counts;
    }

    /// A schedule changed, or is no more.
    pub(crate) fn change(&mut self, id: &ScheduleId, state: &State) {
        let before = self.entries.get(id).map_or([0; 3], |entry| entry.counted);
        self.strike(id);
        if let Some(schedule) = state.schedule(id).filter(|schedule| schedule.id == *id) {
            self.counts.add(before, ScheduleCounts::of(schedule));
            self.enter(schedule, state);
        }
        self.changed.notify_one();
    }

    /// A job changed. Costs nothing as long as no schedule waits for the end of one.
    pub(crate) fn job_changed(&mut self, job: &JobId, state: &State) {
        if self.awaited.is_empty() || state.job(job).is_some() {
            return;
        }
        for schedule in self.awaited.remove(job).unwrap_or_default() {
            if let Some(entry) = self.entries.get_mut(&schedule) {
                entry.awaits = None;
            }
            self.ready.insert(schedule);
            self.changed.notify_one();
        }
    }

    /// What there is to do by now, at most `limit` of each kind.
    pub(crate) fn todo(&mut self, state: &State, now: Timestamp, limit: usize) -> Todo {
        // Somebody may have had the job run again that had ended.
        let is_busy =
            |id: &&ScheduleId| state.schedule(id).is_some_and(|it| state.active_job_of(it).is_some());
        let busy: Vec<ScheduleId> = self.ready.iter().filter(is_busy).cloned().collect();
        for id in &busy {
            self.change(id, state);
        }
        let due = self.times.iter().take_while(|(at, _)| *at <= now).take(limit);
        let due: Vec<_> = due.filter_map(|(_, id)| state.schedule(id).cloned()).collect();
        let ready = self.ready.iter().take(limit).filter_map(|id| state.schedule(id).cloned()).collect();
        let next_at =
            self.times.iter().find(|(at, _)| *at > now).map(|(at, _)| *at).filter(|_| due.is_empty());
        Todo { due, ready, next_at }
    }

    fn enter(&mut self, schedule: &Schedule, state: &State) {
        let id = &schedule.id;
        let mut entry =
            Entry { next_at: schedule.next_at, awaits: None, counted: ScheduleCounts::of(schedule) };
        if let Some(at) = schedule.next_at {
            self.times.insert((at, id.clone()));
        }
        if schedule.waiting.is_some() {
            match state.active_job_of(schedule) {
                Some(job) => {
                    self.awaited.entry(job.id.clone()).or_default().push(id.clone());
                    entry.awaits = Some(job.id.clone());
                }
                None => drop(self.ready.insert(id.clone())),
            }
        }
        self.entries.insert(id.clone(), entry);
    }

    fn strike(&mut self, id: &ScheduleId) {
        self.ready.remove(id);
        let Some(Entry { next_at, awaits, .. }) = self.entries.remove(id) else { return };
        if let Some(at) = next_at {
            self.times.remove(&(at, id.clone()));
        }
        if let Some(job) = awaits
            && let Some(waiting) = self.awaited.get_mut(&job)
        {
            waiting.retain(|other| other != id);
            if waiting.is_empty() {
                self.awaited.remove(&job);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use skyclaw_core::{Command, NoArchive, Operation, ScheduleSpec};
    use skyclaw_proto::request::EnqueueJobBody;
    use skyclaw_proto::{NodeId, Overlap};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1000)
    }

    fn job(id: &str) -> Option<Box<Operation>> {
        let body = r#"{"payload":{"kind":"shell","command":"true"}}"#;
        let body: EnqueueJobBody = serde_json::from_str(body).expect("a body");
        let id = JobId::parse(id).expect("an id");
        Some(Box::new(Operation::enqueue(id, body.check().expect("a job"))))
    }

    /// A state, and the timetable that follows what is applied to it.
    struct World(State, Timetable);

    impl World {
        fn run(&mut self, operation: Operation) {
            let node = NodeId::parse("n").expect("an id");
            let outcome = self
                .0
                .apply(&Command { at: at(0), node, idempotency: None, by: None, operation }, &NoArchive);
            outcome.reply.expect("carried out");
            for effect in outcome.effects {
                match effect {
                    skyclaw_core::Effect::JobChanged { job } => self.1.job_changed(&job, &self.0),
                    skyclaw_core::Effect::ScheduleChanged { schedule } => self.1.change(&schedule, &self.0),
                    _ => {}
                }
            }
        }

        fn create(&mut self, id: &str, next_at: i64) {
            let spec = ScheduleSpec {
                name: format!("name-of-{id}"),
                cron: String::new(),
                time_zone: String::new(),
                overlap: Overlap::Queue,
                catch_up_ms: 0,
                job: "{}".into(),
            };
            let (id, spec, next_at) = (schedule(id), Arc::new(spec), Some(at(next_at)));
            self.run(Operation::CreateSchedule { id, spec, next_at, paused: false, by: None });
        }

        /// What is due at a second, what is ready, and when there is more to do.
        fn todo(&mut self, second: i64) -> (Vec<String>, Vec<String>, Option<Timestamp>) {
            let ids = |all: &[Arc<Schedule>]| all.iter().map(|schedule| schedule.id.to_string()).collect();
            let seen = |table: &mut Timetable, state: &State| {
                let todo = table.todo(state, at(second), 10);
                (ids(&todo.due), ids(&todo.ready), todo.next_at)
            };
            let now = seen(&mut self.1, &self.0);
            // Whoever starts anew from the state comes to the same.
            let mut anew = Timetable::default();
            anew.restart(&self.0);
            assert_eq!(seen(&mut anew, &self.0), now);
            now
        }
    }

    fn schedule(id: &str) -> ScheduleId {
        ScheduleId::parse(id).expect("an id")
    }

    #[test]
    fn what_is_due_comes_by_its_time_and_what_is_not_says_when() {
        let mut world = World(State::default(), Timetable::default());
        assert_eq!(world.todo(9), (vec![], vec![], None));
        for (id, next_at) in [("b", 5), ("a", 7), ("c", 5)] {
            world.create(id, next_at);
        }
        assert_eq!(world.todo(4), (vec![], vec![], Some(at(5))));
        assert_eq!(world.todo(5), (vec!["b".into(), "c".into()], vec![], None));
        world.run(Operation::PauseSchedule { schedule: schedule("b"), reason: None, by: None });
        world.run(Operation::DeleteSchedule { schedule: schedule("c") });
        assert_eq!(world.todo(5), (vec![], vec![], Some(at(7))));
        assert_eq!(world.todo(7), (vec!["a".into()], vec![], None));
    }

    #[test]
    fn what_waits_for_the_end_of_a_job_is_ready_when_that_has_come() {
        let mut world = World(State::default(), Timetable::default());
        world.create("a", 50);
        let trigger = |id| Operation::TriggerSchedule { schedule: schedule("a"), job: job(id), by: None };
        world.run(trigger("j1"));
        world.run(trigger("j2"));
        assert_eq!(world.todo(1), (vec![], vec![], Some(at(50))));
        world.run(Operation::Cancel { id: JobId::parse("j1").expect("an id") });
        assert_eq!(world.todo(1), (vec![], vec!["a".into()], Some(at(50))));
        let waiting =
            Operation::SubmitWaiting { schedule: schedule("a"), at: at(0), job: job("j2").expect("a job") };
        world.run(waiting);
        assert_eq!(world.todo(1), (vec![], vec![], Some(at(50))));
        assert!(world.1.awaited.is_empty() && world.1.ready.is_empty());
    }
}
