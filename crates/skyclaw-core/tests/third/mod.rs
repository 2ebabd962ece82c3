//! What is written since jobs can wait for a time, expire and be tried again.

use std::sync::Arc;

use skyclaw_core::{Attempt, Job, Life, Operation, Phase};
use skyclaw_proto::{JobStatus, Plan, Retry};

use crate::{Failure, at, enqueue, frozen_in, id, job, text};

fn plan() -> Plan {
    Plan {
        ttl_ms: Some(60_000),
        not_before: Some(at(30)),
        retry: Some(Retry { max_attempts: 5, backoff_ms: 250, max_backoff_ms: 4000 }),
        retain_ms: None,
    }
}

/// What can be said since time decides when a job is run.
pub(crate) fn operations() -> Result<Vec<(&'static str, Operation)>, Failure> {
    Ok(vec![
        ("enqueue_with_plan", enqueue(Some(Arc::new(plan())), None)?),
        ("retry_job", Operation::RetryJob { id: id("job_1")?, reason: text("fixed"), by: text("ann") }),
        ("pass_time", Operation::PassTime { most: 1000 }),
    ])
}

#[test]
fn records_of_the_third_version_are_read_and_written_as_ever() -> Result<(), Failure> {
    let attempt = Attempt {
        number: 2,
        status: JobStatus::Failed,
        ended_at: at(7),
        host: Some(id("host_1")?),
        fence: 9,
        duration_ms: Some(1234),
        exit_code: Some(3),
        error: Some("broke".into()),
        stdout: "out\n".into(),
        stderr: "ünïcode".into(),
        oom: true,
    };
    let life = Life {
        plan: Arc::new(plan()),
        claimable_at: Some(at(8)),
        expires_at: Some(at(90)),
        failures: 2,
        attempts: vec![Arc::new(attempt)],
        adopted: false,
    };
    let waiting = Job { life: Some(Arc::new(life)), ..job(Phase::Queued)? };
    frozen_in("records-v3", "job_waiting", &waiting)
}
