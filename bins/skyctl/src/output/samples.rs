//! Records for tests.

use std::collections::BTreeMap;

use skyclaw_proto::payload::{Payload, ShellPayload};
use skyclaw_proto::record::{Job, JobResult, Requirement};
use skyclaw_proto::{JobId, JobStatus, NodeId, Timestamp};

pub(crate) fn job(id: &str, status: JobStatus) -> Job {
    Job {
        id: JobId::parse(id).expect("id"),
        created_at: Timestamp::from_millis(1_767_225_600_000),
        updated_at: Timestamp::from_millis(1_767_225_601_000),
        updated_by: NodeId::parse("node_a").expect("id"),
        version: 1,
        status,
        attempts: 0,
        lease_expires_at: None,
        assigned_host_id: None,
        requirement: Requirement::default(),
        payload: Payload::Shell(ShellPayload {
            command: "echo".into(),
            args: Some(vec!["hello world".into()]),
            ..ShellPayload::default()
        }),
        submitted_by: None,
        result: None,
        error: None,
        priority: None,
        labels: BTreeMap::new(),
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

pub(crate) fn result(exit_code: i32) -> JobResult {
    JobResult {
        finished_at: Timestamp::from_millis(1_767_225_602_000),
        duration_ms: 12,
        exit_code,
        stdout: "out\n".into(),
        stderr: String::new(),
        usage: None,
        oom: false,
    }
}
