//! `POST /v1/hosts/:id/claim`: a host takes jobs, the oldest that fit first; it may wait for one.

use std::time::Duration;

use axum::extract::State;
use skyclaw_proto::request::ClaimBody;
use skyclaw_proto::response::ClaimedJobs;
use skyclaw_proto::{HostId, route};

use super::reply::{self, At};
use crate::admission::Permit;
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Body, CORE, ClientKey, Id};

pub(crate) async fn handle(
    State(app): State<Shared>,
    permit: Permit,
    Id(id): Id<HostId>,
    key: ClientKey,
    body: Body<ClaimBody>,
) -> Result<At<ClaimedJobs>, ApiError> {
    let key = key.bind(&app, CORE, route::claim(&id), &body)?;
    let claim = body.take().check()?;
    let (wait, max) = (Duration::from_millis(claim.wait_ms), claim.max.unwrap_or(1));
    let written = if wait.is_zero() {
        app.node.claim(&id, max, wait, key).await?
    } else {
        let _parked = permit.park()?;
        match app.unless_ending(app.node.claim(&id, max, wait, key.clone())).await {
            Some(written) => written?,
            // Once more without waiting: if a job was being taken just then, its key brings it back.
            None => app.node.claim(&id, max, Duration::ZERO, key).await?,
        }
    };
    let jobs = reply::claimed(&written)?;
    jobs.iter().for_each(|job| app.metrics.claimed(job));
    // Hosts of the reference name no `max` and know no `jobs`.
    let body = match claim.max {
        None => ClaimedJobs { job: jobs.into_iter().next(), jobs: None },
        Some(_) => ClaimedJobs { job: jobs.first().cloned(), jobs: Some(jobs) },
    };
    Ok(At { index: written.index, body })
}
