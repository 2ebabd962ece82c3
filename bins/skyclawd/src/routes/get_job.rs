//! `GET /v1/jobs/:id`: one job. With `waitMs` the answer waits until the job is of another `version`
//! than the one named, or has ended; without `version`, until it has ended.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use skyclaw_core::Refusal;
use skyclaw_proto::response::JobBody;
use skyclaw_proto::{JobId, record};

use crate::admission::Permit;
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Id, Query};

pub(crate) async fn handle(
    State(app): State<Shared>,
    permit: Permit,
    Id(id): Id<JobId>,
    query: Query,
) -> Result<Json<JobBody>, ApiError> {
    let wait = Duration::from_millis(query.wait_ms()?);
    let version = query.read("version", "must be a whole number, 0 or more")?;
    let waited = if wait.is_zero() {
        None
    } else {
        let _parked = permit.park()?;
        app.unless_ending(app.node.watch_job(&id, version, wait)).await
    };
    let job = match waited {
        Some(job) => job?,
        None => app.node.job(&id).await?,
    };
    let job = job.ok_or(Refusal::UnknownJob(id))?;
    Ok(Json(JobBody { job: record::Job::from(&*job) }))
}
