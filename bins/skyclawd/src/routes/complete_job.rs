//! `POST /v1/jobs/:id/complete`: a host reports the end of a run.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use skyclaw_core::{Completion, Operation};
use skyclaw_proto::request::CompleteJobBody;
use skyclaw_proto::{JobId, route};

use super::reply;
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Body, CORE, ClientKey, Id};

pub(crate) async fn handle(
    State(app): State<Shared>,
    Id(id): Id<JobId>,
    key: ClientKey,
    body: Body<CompleteJobBody>,
) -> Result<Response, ApiError> {
    let key = key.bind(&app, CORE, route::complete(&id), &body)?;
    let end = body.take().check()?;
    let (took, success) = (Duration::from_millis(end.duration_ms), end.success);
    let operation = Operation::Complete(Completion {
        id,
        host: end.host_id,
        fence: end.fence,
        success: end.success,
        duration_ms: end.duration_ms,
        exit_code: end.exit_code,
        stdout: end.stdout,
        stderr: end.stderr,
        error: end.error,
        stopped: end.stopped,
        usage: end.usage,
        oom: end.oom,
        events: end.events.into_iter().map(Into::into).collect(),
    });
    let written = app.node.write(key, operation).await?;
    app.metrics.ran(took, success);
    reply::job(&written)
}
