//! What a host has to stop, found anew from the replicated state each time it asks.
//!
//! So nothing has to be remembered from when it was decided: a new leader tells the same, and tells it again
//! until the host has reported that it is done.

use std::collections::BTreeSet;

use skyclaw_core::{Host, State};
use skyclaw_proto::response::{Stop, StopReason, StopService};
use skyclaw_proto::{AssignmentStatus, Timestamp};

/// One thing to stop.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    Run { stop: Stop, fence: u64 },
    Service(StopService),
}

/// All that a host has to stop of what it holds.
pub(super) fn orders(state: &State, host: &Host, now: Timestamp) -> BTreeSet<Order> {
    let (id, drain) = (&host.id, host.drain());
    let is_over = drain.and_then(|drain| drain.deadline).is_some_and(|deadline| deadline <= now);
    let runs = state.leased_by(id).filter_map(|(job, lease)| {
        let reason = if lease.cancel_requested_at.is_some() {
            StopReason::Cancelled
        } else if state.freeze_of(job).is_some() {
            StopReason::Frozen
        } else if is_over {
            StopReason::Draining
        } else {
            return None;
        };
        Some(Order::Run { stop: Stop { job_id: job.id.clone(), reason }, fence: job.fence })
    });
    // Most of the time there is nothing of the kind, and no heartbeat has to look through all services.
    let may_be_any = drain.is_some() || state.is_any_frozen();
    let services = may_be_any.then(|| state.services()).into_iter().flatten();
    let held = services
        .filter(|service| service.assignment(id).is_some_and(|own| own.status != AssignmentStatus::Failed));
    // A service has no end to wait for: it moves on as soon as its host is drained.
    let services = held.filter_map(|service| {
        let reason = match (state.freeze_of_service(service), drain) {
            (Some(_), _) => StopReason::Frozen,
            (None, Some(_)) => StopReason::Draining,
            (None, None) => return None,
        };
        Some(Order::Service(StopService { service_id: service.id.clone(), reason }))
    });
    runs.chain(services).collect()
}
