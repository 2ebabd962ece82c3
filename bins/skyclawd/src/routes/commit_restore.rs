//! `POST /v1/restores/:id/commit`: the whole cluster goes back to the snapshot whose parts were laid by. Asked
//! again with the same id, it says what came of it; so no idempotency record is needed, which would go back too.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde_json::json;
use skyclaw_core::Refusal;
use skyclaw_proto::RestoreId;
use skyclaw_proto::request::CommitRestoreBody;
use skyclaw_proto::response::RestoreBody;
use skyclaw_replication::WriteError;

use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Body, Deed, Id};

pub(crate) async fn handle(
    State(app): State<Shared>,
    Id(id): Id<RestoreId>,
    deed: Deed,
    body: Body<CommitRestoreBody>,
) -> Result<Json<RestoreBody>, ApiError> {
    let asked = body.take().check()?;
    let (_, by) = deed.named(asked.requested_by);
    tracing::warn!(restore = %id, by, force = asked.force, "a restore is asked for");
    let wait = Duration::from_millis(asked.wait_ms);
    match app.node.restore(id, asked.force, by, wait).await {
        Ok(restore) => Ok(Json(RestoreBody { restore: Some((&*restore).into()) })),
        Err(WriteError::Refused(refusal)) => Err(explained(refusal)),
        Err(error) => Err(error.into()),
    }
}

/// A refusal with what it is about.
fn explained(refusal: Refusal) -> ApiError {
    let details = match &refusal {
        Refusal::JobsLeased { count, jobs } => Some(json!({ "count": count, "jobs": jobs })),
        Refusal::ForeignSnapshot { snapshot, cluster } => {
            Some(json!({ "snapshotClusterId": snapshot.to_string(), "clusterId": cluster.to_string() }))
        }
        _ => None,
    };
    let error = ApiError::from(refusal);
    match details {
        Some(details) => error.with_details(details),
        None => error,
    }
}
