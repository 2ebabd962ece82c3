//! The queue with time, against a model that keeps plain lists and looks through all of them.

use std::cmp::Reverse;
use std::time::Duration;

use proptest::prelude::*;
use skyclaw_proto::{JobStatus, Plan, Retry, Timestamp};

use super::generate::ids;
use super::kit::{World, enqueue, job_id, job_of};
use crate::command::Operation;

#[derive(Debug, Clone)]
enum Step {
    Enqueue {
        priority: u8,
        ttl: Option<u64>,
        later: Option<u64>,
        attempts: Option<u32>,
    },
    Claim(u32),
    /// Of those that are held, by place.
    Complete(prop::sample::Index, bool),
    Cancel(prop::sample::Index),
    Retry(prop::sample::Index),
    Pass(u64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let any = any::<prop::sample::Index>;
    prop_oneof![
        6 => (0u8..3, prop::option::of(1u64..6000), prop::option::of(1u64..6000), prop::option::of(1u32..4))
            .prop_map(|(priority, ttl, later, attempts)| Step::Enqueue { priority, ttl, later, attempts }),
        4 => (0u32..4).prop_map(Step::Claim),
        4 => (any(), prop::bool::weighted(0.3)).prop_map(|(at, well)| Step::Complete(at, well)),
        1 => any().prop_map(Step::Cancel),
        2 => any().prop_map(Step::Retry),
        5 => (1u64..3000).prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ]
}

/// A job as the model has it.
#[derive(Debug, Clone)]
struct Known {
    priority: u8,
    ttl: Option<u64>,
    attempts: Option<u32>,
    not_before: Option<Timestamp>,
    status: JobStatus,
    free_at: Timestamp,
    expires_at: Option<Timestamp>,
    failures: u32,
}

impl Known {
    fn begin(&mut self, now: Timestamp) {
        self.status = JobStatus::Queued;
        self.free_at = self.not_before.unwrap_or(now).max(now);
        self.expires_at = self.ttl.map(|ttl| self.free_at.plus(Duration::from_millis(ttl)));
        self.failures = 0;
    }
}

fn retry(max_attempts: u32) -> Retry {
    Retry { max_attempts, backoff_ms: 800, max_backoff_ms: 1500 }
}

fn name(place: usize) -> String {
    format!("j{place}")
}

proptest! {
    #[test]
    fn a_queue_with_time_does_what_plain_lists_would(steps in prop::collection::vec(step(), 0..80)) {
        let mut world = World::default();
        world.register("h1", &[], 1000);
        let mut known: Vec<Known> = Vec::new();
        for step in steps {
            let now = world.now();
            let of = |known: &[Known], status: JobStatus| -> Vec<usize> {
                (0..known.len()).filter(|place| known[*place].status == status).collect()
            };
            match step {
                Step::Enqueue { priority, ttl, later, attempts } => {
                    let not_before = later.map(|ms| now.plus(Duration::from_millis(ms)));
                    let mut operation = enqueue(&name(known.len()), &[], priority);
                    if let Operation::Enqueue { plan, .. } = &mut operation {
                        let wanted = Plan { ttl_ms: ttl, not_before, retry: attempts.map(retry), retain_ms: None };
                        *plan = wanted.kept().map(Into::into);
                    }
                    job_of(world.run(operation));
                    let mut job = Known {
                        priority, ttl, attempts, not_before, status: JobStatus::Queued, free_at: now,
                        expires_at: None, failures: 0,
                    };
                    job.begin(now);
                    known.push(job);
                }
                Step::Claim(max) => {
                    let mut free = of(&known, JobStatus::Queued);
                    free.retain(|place| known[*place].free_at <= now);
                    free.sort_by_key(|place| (Reverse(known[*place].priority), *place));
                    free.truncate(max as usize);
                    for place in &free {
                        (known[*place].status, known[*place].expires_at) = (JobStatus::Leased, None);
                    }
                    let got = world.claim("h1", max);
                    prop_assert_eq!(ids(&got), free.iter().map(|place| name(*place)).collect::<Vec<_>>());
                }
                Step::Complete(at, well) => {
                    let held = of(&known, JobStatus::Leased);
                    if held.is_empty() { continue; }
                    let place = held[at.index(held.len())];
                    let job = &mut known[place];
                    let ended = job_of(world.complete(&name(place), "h1", well));
                    job.status = if well { JobStatus::Completed } else { JobStatus::Failed };
                    if let Some(attempts) = job.attempts.filter(|_| !well) {
                        job.failures += 1;
                        if job.failures < attempts {
                            job.status = JobStatus::Queued;
                            job.free_at = now.plus(retry(attempts).backoff(&ended.id, job.failures));
                        }
                    }
                }
                Step::Cancel(at) => {
                    let queued = of(&known, JobStatus::Queued);
                    if queued.is_empty() { continue; }
                    let place = queued[at.index(queued.len())];
                    job_of(world.cancel(&name(place)));
                    known[place].status = JobStatus::Cancelled;
                }
                Step::Retry(at) => {
                    if known.is_empty() { continue; }
                    let place = at.index(known.len());
                    let reply = world.run(Operation::RetryJob { id: job_id(&name(place)), reason: None, by: None });
                    let may = matches!(known[place].status, JobStatus::Failed | JobStatus::Cancelled | JobStatus::Expired);
                    prop_assert_eq!(reply.is_ok(), may);
                    if may { known[place].begin(now); }
                }
                Step::Pass(ms) => {
                    world.wait(Duration::from_millis(ms));
                    let now = world.now();
                    world.run(Operation::PassTime { most: 1000 }).expect("done");
                    for job in known.iter_mut().filter(|job| job.status == JobStatus::Queued) {
                        if job.expires_at.is_some_and(|end| end <= now) { job.status = JobStatus::Expired; }
                    }
                    prop_assert!(world.state.next_due().is_none_or(|due| due > now));
                }
                Step::Restart => world.restart(),
            }
            for (place, job) in known.iter().enumerate() {
                let record = &world.records.jobs[&job_id(&name(place))];
                prop_assert_eq!(record.status(), job.status, "{}", record.id);
            }
        }
    }
}
