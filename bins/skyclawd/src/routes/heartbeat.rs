//! `POST /v1/hosts/:id/heartbeat`: a host's sign of life. It renews the leases of the runs it names and
//! is told which to stop; it may wait for one. Nothing is written but that the host was frozen or thawed on its
//! machine, which is said with each heartbeat, so there is no idempotency record.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use skyclaw_core::{HostFreeze, Operation};
use skyclaw_proto::HostId;
use skyclaw_proto::request::{HeartbeatBody, HostSwitch};
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
    if let Some(switch) = beat.switch {
        note(&app, &id, switch).await;
    }
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

/// Writes down how the host's own switch is, where that is news. It is said again with the next heartbeat, so a
/// failure must not keep leases from being renewed.
async fn note(app: &Shared, id: &HostId, switch: HostSwitch) {
    let frozen = switch.frozen.map(HostFreeze::from);
    let known = match app.node.host(id).await {
        Ok(Some(host)) => host.frozen.map(HostFreeze::from),
        // Who is not known is told so by the heartbeat.
        Ok(None) | Err(_) => return,
    };
    if known == frozen {
        return;
    }
    let operation = Operation::NoteSwitch { id: id.clone(), frozen, by: switch.thawed_by };
    if let Err(error) = app.node.write(None, operation).await {
        tracing::warn!(host = %id, %error, "it could not be written down that a host was frozen or thawed");
    }
}
