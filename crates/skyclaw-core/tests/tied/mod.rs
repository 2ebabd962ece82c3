//! What is written since jobs can depend on others, share a limit and be unique.

use std::sync::Arc;

use skyclaw_core::{Bonds, Job, Operation, Phase, Reply};
use skyclaw_proto::{Concurrency, Links, OnDependencyFailure};

use crate::{Failure, enqueue, frozen_in, id, job};

fn links() -> Result<Links, Failure> {
    Ok(Links {
        depends_on: vec![id("job_a")?, id("job_b")?],
        on_dependency_failure: OnDependencyFailure::Skip,
        concurrency: Some(Concurrency { key: "db".into(), limit: 3 }),
        unique_key: Some("nightly".into()),
    })
}

/// What can be said since jobs are tied to each other.
pub(crate) fn operations() -> Result<Vec<(&'static str, Operation)>, Failure> {
    Ok(vec![
        ("enqueue_with_links", enqueue(None, Some(Arc::new(links()?)))?),
        ("settle_dependents", Operation::SettleDependents { ended: vec![id("job_a")?, id("job_b")?] }),
    ])
}

#[test]
fn records_of_tied_jobs_are_read_and_written_as_ever() -> Result<(), Failure> {
    let bonds = Bonds { links: Arc::new(links()?), waits_for: vec![id("job_b")?] };
    let tied = Job { bonds: Some(Arc::new(bonds)), ..job(Phase::Queued)? };
    frozen_in("records-v3", "job_tied", &tied)?;
    frozen_in("records-v3", "reply_existing", &Reply::Existing(Arc::new(tied)))
}
