//! `POST /v1/jobs/:id/resolve`: an operator decides about a lost job.

use axum::extract::State;
use axum::response::Response;
use skyclaw_core::Operation;
use skyclaw_proto::request::ResolveJobBody;
use skyclaw_proto::{JobId, route};

use super::reply;
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Body, CORE, ClientKey, Deed, Id};

pub(crate) async fn handle(
    State(app): State<Shared>,
    Id(id): Id<JobId>,
    key: ClientKey,
    deed: Deed,
    body: Body<ResolveJobBody>,
) -> Result<Response, ApiError> {
    let key = key.bind(&app, CORE, route::resolve(&id), &body)?;
    let decision = body.take().check()?;
    let (actor, by) = deed.named(decision.by);
    let operation = Operation::ResolveJob {
        id,
        action: decision.action,
        reason: decision.reason,
        by,
        result: decision.result,
    };
    let written = app.node.write_by(actor, key, operation).await?;
    reply::job(&written)
}
