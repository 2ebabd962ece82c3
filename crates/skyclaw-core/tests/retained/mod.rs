//! What is written since jobs that have ended are forgotten.

use std::sync::Arc;

use skyclaw_core::{Counters, EndStatus, Expendable, Job, Life, Operation, PruneJobs, WhyPruned};
use skyclaw_proto::Plan;

use crate::{Failure, at, ended, enqueue, frozen_in, id, job};

fn plan() -> Plan {
    Plan { retain_ms: Some(3_600_000), ..Plan::default() }
}

/// One of each kind, under the name of its file.
pub(crate) fn operations() -> Result<Vec<(&'static str, Operation)>, Failure> {
    let jobs = vec![
        Expendable { id: id("job_1")?, ended_at: at(7) },
        Expendable { id: id("job_2")?, ended_at: at(8) },
    ];
    let own = PruneJobs { jobs: jobs.clone(), why: WhyPruned::Own, up_to: None };
    Ok(vec![
        ("prune_jobs", Operation::PruneJobs(PruneJobs { jobs, why: WhyPruned::Age, up_to: Some(at(8)) })),
        ("prune_jobs_own", Operation::PruneJobs(own)),
        ("enqueue_retained", enqueue(Some(Arc::new(plan())), None)?),
    ])
}

#[test]
fn records_that_say_how_long_they_are_kept_are_read_and_written_as_ever() -> Result<(), Failure> {
    let life = Life { plan: Arc::new(plan()), adopted: true, ..Life::default() };
    let kept = Job { life: Some(Arc::new(life)), ..job(ended(EndStatus::Completed)?)? };
    frozen_in("records-v3", "job_retained", &kept)?;
    let counters = Counters {
        next_seq: 3,
        next_version: 4,
        next_fence: 5,
        pruned_to: Some(at(9)),
        own_pruned_to: Some(at(10)),
    };
    frozen_in("records-v3", "counters_pruned", &counters)?;
    let before: Counters = serde_json::from_str(r#"{"next_seq":3,"next_version":4,"next_fence":5}"#)?;
    assert_eq!(before, Counters { pruned_to: None, own_pruned_to: None, ..counters });
    Ok(())
}
