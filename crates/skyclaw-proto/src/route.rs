//! Paths and headers.

use crate::id::{FreezeId, HostId, JobId, NodeId, RestoreId, ScheduleId, ServiceId};

/// Carries the shared token of the core routes.
pub const TOKEN_HEADER: &str = "x-skyclaw-token";
/// Carries a client's idempotency key.
pub const IDEMPOTENCY_HEADER: &str = "x-idempotency-key";
/// Carries the index of the log applied at the node that answers.
pub const INDEX_HEADER: &str = "x-skyclaw-index";
/// A request with it waits until that index is applied.
pub const MIN_INDEX_HEADER: &str = "x-skyclaw-min-index";
/// Carries what a client calls itself; it is told with what it did, as its own word.
pub const ACTOR_HEADER: &str = "x-skyclaw-actor";
/// The place of a request in a trace (W3C Trace Context).
pub const TRACE_PARENT_HEADER: &str = "traceparent";
/// What goes with that.
pub const TRACE_STATE_HEADER: &str = "tracestate";
/// Names a request through every log it leaves a trace in.
pub const REQUEST_ID_HEADER: &str = "x-request-id";

/// `POST`: register a host.
pub const REGISTER_HOST: &str = "/v1/hosts/register";
/// `POST`: enqueue a job; `GET`: list jobs.
pub const JOBS: &str = "/v1/jobs";
/// `GET`: list hosts.
pub const HOSTS: &str = "/v1/hosts";
/// `POST`: deploy a service; `GET`: list services.
pub const SERVICES: &str = "/v1/services";
/// `POST`: merge the state of a reference coordinator.
pub const REPLICATE_SNAPSHOT: &str = "/v1/replicate/snapshot";
/// `GET`: known peers.
pub const NETWORK_PEERS: &str = "/v1/network/peers";
/// `POST`: announce a peer.
pub const NETWORK_JOIN: &str = "/v1/network/join";
/// `GET`: the whole state.
pub const STATE: &str = "/v1/state";
/// `POST`: submit a job with an API key.
pub const PUBLIC_JOBS: &str = "/v1/public/jobs";

/// `GET`: the cluster and its members.
pub const CLUSTER: &str = "/v1/cluster";
/// `GET`: how the members do, as the leader sees them.
pub const CLUSTER_AUTOPILOT: &str = "/v1/cluster/autopilot";
/// `POST`: hand the leadership over.
pub const CLUSTER_TRANSFER: &str = "/v1/cluster/transfer";

/// `GET`: a snapshot of everything.
pub const SNAPSHOT: &str = "/v1/snapshot";
/// `GET`: what the cluster went back to.
pub const RESTORES: &str = "/v1/restores";

/// `POST`: freeze everything, or what a scope covers; `GET`: list what is frozen.
pub const FREEZES: &str = "/v1/freezes";

/// `POST`: create a schedule; `GET`: list schedules.
pub const SCHEDULES: &str = "/v1/schedules";

/// `GET`: one schedule, by its id or name; `DELETE`: it is no more.
#[must_use]
pub fn schedule(id: &ScheduleId) -> String {
    format!("/v1/schedules/{id}")
}

/// `POST`: let a schedule submit nothing for the time being.
#[must_use]
pub fn pause_schedule(id: &ScheduleId) -> String {
    format!("/v1/schedules/{id}/pause")
}

/// `POST`: let a paused schedule go on.
#[must_use]
pub fn resume_schedule(id: &ScheduleId) -> String {
    format!("/v1/schedules/{id}/resume")
}

/// `POST`: submit the job of a schedule now, once.
#[must_use]
pub fn trigger_schedule(id: &ScheduleId) -> String {
    format!("/v1/schedules/{id}/trigger")
}

/// `GET`: the stream of all changes.
pub const EVENTS: &str = "/v1/events";

/// `POST`: end a freeze.
#[must_use]
pub fn thaw(id: &FreezeId) -> String {
    format!("/v1/freezes/{id}/thaw")
}

/// `POST`: let a host take no more work.
#[must_use]
pub fn drain(id: &HostId) -> String {
    format!("/v1/hosts/{id}/drain")
}

/// `POST`: let a drained host take work again.
#[must_use]
pub fn undrain(id: &HostId) -> String {
    format!("/v1/hosts/{id}/undrain")
}

/// `POST`: forget a host.
#[must_use]
pub fn remove_host(id: &HostId) -> String {
    format!("/v1/hosts/{id}/remove")
}

/// `POST`: decide about a lost job.
#[must_use]
pub fn resolve(id: &JobId) -> String {
    format!("/v1/jobs/{id}/resolve")
}

/// `GET`: why a job is not running.
#[must_use]
pub fn explain(id: &JobId) -> String {
    format!("/v1/jobs/{id}/explain")
}

/// `POST`: queue a job again that ended without success.
#[must_use]
pub fn retry(id: &JobId) -> String {
    format!("/v1/jobs/{id}/retry")
}

/// `POST`: tell what happened to a run; `GET`: what happened to a job.
#[must_use]
pub fn job_events(id: &JobId) -> String {
    format!("/v1/jobs/{id}/events")
}

/// Carries the offset at which an answer with a stream of output begins.
pub const LOG_OFFSET_HEADER: &str = "x-skyclaw-log-offset";
/// Carries which attempt the output at the beginning of an answer is of; 0 before the first.
pub const LOG_ATTEMPT_HEADER: &str = "x-skyclaw-log-attempt";

/// `GET`: what a job has written; `POST`: its host brings a part that was asked for.
#[must_use]
pub fn job_logs(id: &JobId) -> String {
    format!("/v1/jobs/{id}/logs")
}

/// `POST`: lay a part of a snapshot by.
#[must_use]
pub fn restore_part(id: &RestoreId, part: u32) -> String {
    format!("/v1/restores/{id}/parts/{part}")
}

/// `POST`: go back to the snapshot that was laid by.
#[must_use]
pub fn commit_restore(id: &RestoreId) -> String {
    format!("/v1/restores/{id}/commit")
}

/// `POST`: drop what was laid by.
#[must_use]
pub fn cancel_restore(id: &RestoreId) -> String {
    format!("/v1/restores/{id}/cancel")
}

/// `POST`: take a member out of the cluster.
#[must_use]
pub fn remove_member(name: &NodeId) -> String {
    format!("/v1/cluster/members/{name}/remove")
}

/// `GET`: one host.
#[must_use]
pub fn host(id: &HostId) -> String {
    format!("/v1/hosts/{id}")
}

/// `POST`: a host's sign of life.
#[must_use]
pub fn heartbeat(id: &HostId) -> String {
    format!("/v1/hosts/{id}/heartbeat")
}

/// `POST`: claim jobs for a host.
#[must_use]
pub fn claim(id: &HostId) -> String {
    format!("/v1/hosts/{id}/claim")
}

/// `POST`: claim a service for a host.
#[must_use]
pub fn claim_service(id: &HostId) -> String {
    format!("/v1/hosts/{id}/services/claim")
}

/// `GET`: one job.
#[must_use]
pub fn job(id: &JobId) -> String {
    format!("/v1/jobs/{id}")
}

/// `POST`: the end of a job's run.
#[must_use]
pub fn complete(id: &JobId) -> String {
    format!("/v1/jobs/{id}/complete")
}

/// `POST`: call a job off.
#[must_use]
pub fn cancel(id: &JobId) -> String {
    format!("/v1/jobs/{id}/cancel")
}

/// `GET`: one service.
#[must_use]
pub fn service(id: &ServiceId) -> String {
    format!("/v1/services/{id}")
}

/// `POST`: how a replica does.
#[must_use]
pub fn report(id: &ServiceId) -> String {
    format!("/v1/services/{id}/report")
}
