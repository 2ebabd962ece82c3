//! What is written since there are schedules.

use std::sync::Arc;

use skyclaw_core::{
    Event, Fire, Job, Operation, Origin, Paused, Phase, Reply, Schedule, ScheduleSpec, StoredReply,
    Submission,
};
use skyclaw_proto::{Capabilities, Overlap};

use crate::{Failure, at, frozen_in, id, job, key, pairs, shell, text};

fn spec() -> ScheduleSpec {
    ScheduleSpec {
        name: "nightly".into(),
        cron: "0 3 * * *".into(),
        time_zone: "Europe/Berlin".into(),
        overlap: Overlap::Queue,
        catch_up_ms: 3_600_000,
        job: r#"{"payload":{"kind":"shell","command":"true"}}"#.into(),
    }
}

fn enqueue() -> Result<Box<Operation>, Failure> {
    Ok(Box::new(Operation::Enqueue {
        id: id("job_1")?,
        payload: Arc::new(shell()),
        required: Capabilities::new(["shell"]),
        submitted_by: text("schedule:nightly"),
        priority: 50,
        labels: pairs("skyclaw/schedule", "nightly"),
        terms: None,
        links: None,
        plan: None,
    }))
}

/// One of each kind, under the name of its file.
pub(crate) fn operations() -> Result<Vec<(&'static str, Operation)>, Failure> {
    let schedule = || id("sched_1");
    let fire = Fire {
        schedule: schedule()?,
        at: at(1),
        due: Some(at(3)),
        missed: 2,
        next_at: Some(at(4)),
        job: Some(enqueue()?),
    };
    let missed = Fire { due: None, next_at: None, job: None, ..fire.clone() };
    let (spec, next_at) = (Arc::new(spec()), Some(at(3600)));
    Ok(vec![
        (
            "create_schedule",
            Operation::CreateSchedule { id: schedule()?, spec, next_at, paused: false, by: text("ann") },
        ),
        (
            "pause_schedule",
            Operation::PauseSchedule { schedule: schedule()?, reason: text("odd"), by: text("ann") },
        ),
        (
            "resume_schedule",
            Operation::ResumeSchedule { schedule: schedule()?, next_at: Some(at(7)), by: text("ann") },
        ),
        ("delete_schedule", Operation::DeleteSchedule { schedule: id("nightly")? }),
        ("fire_schedule", Operation::FireSchedule(Box::new(fire))),
        ("fire_schedule_missed", Operation::FireSchedule(Box::new(missed))),
        ("submit_waiting", Operation::SubmitWaiting { schedule: schedule()?, at: at(3), job: enqueue()? }),
        (
            "trigger_schedule",
            Operation::TriggerSchedule { schedule: schedule()?, job: Some(enqueue()?), by: text("ann") },
        ),
    ])
}

fn schedule() -> Result<Schedule, Failure> {
    let told = Event {
        at: at(0),
        kind: "created".into(),
        detail: Some("by ann".into()),
        host: None,
        fence: 0,
        by: None,
    };
    Ok(Schedule {
        id: id("sched_1")?,
        spec: Arc::new(spec()),
        paused: None,
        next_at: Some(at(3600)),
        waiting: Some(at(2)),
        last: Some(Submission { at: at(1), job: id("job_1")? }),
        submitted: 3,
        skipped: 2,
        missed: 1,
        created_at: at(0),
        updated_at: at(2),
        updated_by: id("node_1")?,
        version: 9,
        events: vec![told],
    })
}

#[test]
fn schedules_of_the_first_version_that_has_them_are_read_and_written_as_ever() -> Result<(), Failure> {
    let known = schedule()?;
    frozen_in("records-v3", "schedule", &known)?;
    let origin = Some(Arc::new(Origin { schedule: id("sched_1")?, at: at(1) }));
    let submitted = Job { origin, ..job(Phase::Queued)? };
    frozen_in("records-v3", "job_of_schedule", &submitted)?;
    let paused = Paused { at: at(3), reason: text("odd"), by: text("ann") };
    let paused = Schedule { paused: Some(paused), next_at: None, waiting: None, last: None, ..known.clone() };
    frozen_in("records-v3", "schedule_paused", &paused)?;
    let kept = StoredReply { key: key(), reply: Reply::Schedule(Arc::new(paused)) };
    frozen_in("records-v3", "reply_schedule", &kept)?;
    let reply = Reply::Triggered { schedule: Arc::new(known), job: Some(Arc::new(submitted)) };
    frozen_in("records-v3", "reply_triggered", &StoredReply { key: key(), reply })
}
