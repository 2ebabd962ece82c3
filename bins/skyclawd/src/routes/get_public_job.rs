//! `GET /v1/public/jobs/:id`: a job for who submitted it. Those of others do not exist here.

use axum::Json;
use axum::extract::State;
use skyclaw_proto::response::JobBody;
use skyclaw_proto::{JobId, record};

use super::public_caller::PublicCaller;
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::Id;

pub(crate) async fn handle(
    State(app): State<Shared>,
    PublicCaller(rule): PublicCaller,
    Id(id): Id<JobId>,
) -> Result<Json<JobBody>, ApiError> {
    let job = app.node.job(&id).await?;
    let own = job.filter(|job| job.submitted_by.as_deref() == Some(&rule.submitter));
    let own = own.ok_or_else(|| ApiError::not_found("job not found"))?;
    Ok(Json(JobBody { job: record::Job { submitted_by: None, ..record::Job::from(&*own) } }))
}
