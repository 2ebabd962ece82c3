//! `POST /v1/hosts/:id/heartbeat`: a host's sign of life. It renews the leases of the runs it names and
//! is told which to stop; it may wait for one. Nothing is written, so there is no idempotency record.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use skyclaw_proto::HostId;
use skyclaw_proto::request::HeartbeatBody;
use skyclaw_proto::response::Heartbeat;

use crate::admission::Permit;
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Body, ClientKey, Id};

pub(crate) async fn handle(
    State(app): State<Shared>,
    permit: Permit,
    Id(id): Id<HostId>,
    _key: ClientKey,
    body: Body<HeartbeatBody>,
) -> Result<Json<Heartbeat>, ApiError> {
    let beat = body.value.check()?;
    let wait = Duration::from_millis(beat.wait_ms);
    if wait.is_zero() {
        return Ok(Json(app.node.heartbeat(&id, beat.running, wait).await?));
    }
    let _parked = permit.park()?;
    let waited = app.unless_ending(app.node.heartbeat(&id, beat.running, wait)).await;
    let told = match waited {
        Some(told) => told?,
        // The leases were renewed before the wait began.
        None => app.node.heartbeat(&id, Vec::new(), Duration::ZERO).await?,
    };
    Ok(Json(told))
}
