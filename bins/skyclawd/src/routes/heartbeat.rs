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

/// How long the answer waits for it to be written down how a host's switch is. It is said again with the next
/// heartbeat.
const NOTED_WITHIN: Duration = Duration::from_secs(1);

pub(crate) async fn handle(
    State(app): State<Shared>,
    permit: Permit,
    Id(id): Id<HostId>,
    _key: ClientKey,
    body: Body<HeartbeatBody>,
) -> Result<Json<Heartbeat>, ApiError> {
    let beat = body.take().check()?;
    let noted = async {
        if let Some(switch) = beat.switch {
            let _late = tokio::time::timeout(NOTED_WITHIN, Box::pin(note(&app, &id, switch))).await;
        }
    };
    let wait = Duration::from_millis(beat.wait_ms);
    let beaten = async {
        if wait.is_zero() {
            return Ok(app.node.heartbeat_with_logs(&id, beat.running, beat.logs, wait).await?);
        }
        let _parked = permit.park()?;
        // On the heap: most heartbeats do not wait, and are not to be as large as those that do.
        let waited = Box::pin(app.node.heartbeat_with_logs(&id, beat.running, beat.logs, wait));
        let waited = app.unless_ending(waited).await;
        match waited {
            Some(told) => Ok(told?),
            // The leases were renewed before the wait began.
            None => Ok(app.node.heartbeat(&id, Vec::new(), Duration::ZERO).await?),
        }
    };
    // At the same time: what cannot be written down must not keep leases from being renewed.
    let ((), told) = tokio::join!(noted, beaten);
    told.map(Json)
}

/// Writes down how the host's own switch is, where that is news.
async fn note(app: &Shared, id: &HostId, switch: HostSwitch) {
    let frozen = switch.frozen.map(HostFreeze::from);
    // Who is not known is told so by the heartbeat.
    let Ok(Some(known)) = app.node.host_freeze(id).await else { return };
    if known == frozen {
        return;
    }
    let operation = Operation::NoteSwitch { id: id.clone(), frozen, by: switch.thawed_by };
    if let Err(error) = app.node.write(None, operation).await {
        tracing::warn!(host = %id, %error, "it could not be written down that a host was frozen or thawed");
    }
}
