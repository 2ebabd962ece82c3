//! Records as another mesh sends them.

use skyclaw_proto::{Capabilities, Payload, ShellPayload, Timestamp, record};

use super::kit::{host_id, job_id, node_id};

/// A queued job that asks for nothing.
pub(super) fn job(id: &str, at: Timestamp) -> record::Job {
    record::Job::new(job_id(id), Payload::Shell(ShellPayload::default()), at, node_id("ref"))
}

/// A host that holds nothing.
pub(super) fn host(id: &str, at: Timestamp) -> record::Host {
    record::Host {
        id: host_id(id),
        name: id.into(),
        capabilities: Capabilities::default(),
        max_parallel: 1,
        active_leases: 0,
        last_seen_at: at,
        registered_at: at,
        updated_by: node_id("ref"),
        version: 1,
        state: None,
        state_since: None,
        state_reason: None,
        drain: None,
        enforces: None,
        frozen: None,
        events: Vec::new(),
    }
}
