//! What is written since it is told who brought something about.

use std::sync::Arc;

use skyclaw_core::{Command, Event, History, Job, Operation, Phase};
use skyclaw_proto::{Actor, ActorKind};

use crate::{Failure, at, frozen_in, hex, id, job, path, text, unhex};

fn actor() -> Result<Actor, Failure> {
    Ok(Actor {
        kind: ActorKind::Client,
        stated: text("ann@laptop"),
        label: text("ann"),
        schedule_id: Some(id("sched_1")?),
        node_id: Some(id("node_1")?),
        request_id: text("r-1"),
    })
}

#[test]
fn a_command_of_somebody_is_read_and_written_as_ever() -> Result<(), Failure> {
    let by = Some(Arc::new(actor()?));
    let operation = Operation::Cancel { id: id("job_1")? };
    let command = Command { at: at(0), node: id("node_1")?, idempotency: None, by, operation };
    let file = path("commands-v4/cancel_by_somebody.hex");
    expect_test::expect_file![&file].assert_eq(&hex(&rmp_serde::to_vec_named(&command)?));
    let read: Command = rmp_serde::from_slice(&unhex(&std::fs::read_to_string(&file)?)?)?;
    assert_eq!(read, command);
    Ok(())
}

#[test]
fn records_that_say_who_did_what_are_read_and_written_as_ever() -> Result<(), Failure> {
    let mut history = History::default();
    for kind in [ActorKind::Client, ActorKind::Public, ActorKind::Schedule, ActorKind::Coordinator] {
        let by = Some(Arc::new(Actor { kind, ..actor()? }));
        history.push(Event { at: at(3), kind: "submitted".into(), detail: None, host: None, fence: 0, by });
    }
    let told = Job { history: Some(Arc::new(history)), ..job(Phase::Queued)? };
    frozen_in("records-v4", "job_told", &told)
}
