//! Records as another mesh sends them.

use skyclaw_proto::{Capabilities, JobStatus, Payload, ShellPayload, Timestamp, record};

use super::kit::{host_id, job_id, node_id};

/// A queued job that asks for nothing.
pub(super) fn job(id: &str, at: Timestamp) -> record::Job {
    record::Job {
        id: job_id(id),
        created_at: at,
        updated_at: at,
        updated_by: node_id("ref"),
        version: 1,
        status: JobStatus::Queued,
        attempts: 0,
        lease_expires_at: None,
        assigned_host_id: None,
        requirement: record::Requirement::default(),
        payload: Payload::Shell(ShellPayload::default()),
        submitted_by: None,
        result: None,
        error: None,
        priority: None,
        labels: Default::default(),
        fence: None,
        cancel_requested_at: None,
        lost_at: None,
        on_lost: None,
        isolation: None,
        image: None,
        resources: None,
        agent_id: None,
        network: None,
        mounts: Vec::new(),
        grace_ms: None,
        depends_on: Vec::new(),
        on_dependency_failure: None,
        waits_for: Vec::new(),
        concurrency_key: None,
        concurrency_limit: None,
        unique_key: None,
        ttl_ms: None,
        not_before: None,
        retry: None,
        retain_ms: None,
        claimable_at: None,
        expires_at: None,
        failed_attempts: 0,
        attempt_results: Vec::new(),
        schedule_id: None,
        scheduled_at: None,
    }
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
