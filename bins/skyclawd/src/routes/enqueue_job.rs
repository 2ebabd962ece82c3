//! `POST /v1/jobs`: a job joins the queue.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use skyclaw_core::Operation;
use skyclaw_proto::request::{EnqueueJob, EnqueueJobBody};
use skyclaw_proto::{JobId, route};

use super::reply;
use crate::app::{App, Shared};
use crate::error::ApiError;
use crate::extract::{Body, CORE, ClientKey};

pub(crate) async fn handle(
    State(app): State<Shared>,
    key: ClientKey,
    body: Body<EnqueueJobBody>,
) -> Result<Response, ApiError> {
    let key = key.bind(&app, CORE, route::JOBS, &body)?;
    let job = body.take().check()?;
    let written = app.node.write(key, operation(&app, job)).await?;
    reply::submitted(&written)
}

/// The operation that enqueues a job, under an id of our own.
pub(super) fn operation(app: &App, job: EnqueueJob) -> Operation {
    Operation::Enqueue {
        id: JobId::from_uuid((app.new_uuid)()),
        payload: Arc::new(job.payload),
        required: job.required_capabilities.unwrap_or_default(),
        submitted_by: job.submitted_by,
        priority: job.priority,
        labels: job.labels,
        terms: job.terms.map(Into::into),
        links: job.links.map(Into::into),
        plan: job.plan.map(Into::into),
    }
}
