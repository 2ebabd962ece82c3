//! `POST /v1/jobs`: a job joins the queue.

use axum::extract::State;
use axum::response::Response;
use skyclaw_core::Operation;
use skyclaw_proto::request::{EnqueueJob, EnqueueJobBody};
use skyclaw_proto::{JobId, route};

use super::reply;
use crate::app::{App, Shared};
use crate::error::ApiError;
use crate::extract::{Asker, Body, CORE, ClientKey};

pub(crate) async fn handle(
    State(app): State<Shared>,
    key: ClientKey,
    Asker(by): Asker,
    body: Body<EnqueueJobBody>,
) -> Result<Response, ApiError> {
    let key = key.bind(&app, CORE, route::JOBS, &body)?;
    let job = body.take().check()?;
    let written = app.node.write_by(by, key, operation(&app, job)).await?;
    reply::submitted(&written)
}

/// The operation that enqueues a job, under an id of our own.
pub(super) fn operation(app: &App, job: EnqueueJob) -> Operation {
    Operation::enqueue(JobId::from_uuid((app.new_uuid)()), job)
}
