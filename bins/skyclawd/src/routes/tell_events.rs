//! `POST /v1/jobs/:id/events`: a host tells what happened to a run.

use axum::extract::State;
use axum::response::Response;
use skyclaw_core::Operation;
use skyclaw_proto::request::JobEventsBody;
use skyclaw_proto::{JobId, route};

use super::reply;
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Body, CORE, ClientKey, Id};

pub(crate) async fn handle(
    State(app): State<Shared>,
    Id(id): Id<JobId>,
    key: ClientKey,
    body: Body<JobEventsBody>,
) -> Result<Response, ApiError> {
    let key = key.bind(&app, CORE, route::job_events(&id), &body)?;
    let told = body.take().check()?;
    let events = told.events.into_iter().map(Into::into).collect();
    let operation = Operation::TellEvents { id, host: told.host_id, fence: told.fence, events };
    let written = app.node.write(key, operation).await?;
    reply::job(&written)
}
