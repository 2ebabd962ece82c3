//! Records for tests.

use skyclaw_proto::payload::{Payload, ShellPayload};
use skyclaw_proto::record::{Job, JobResult};
use skyclaw_proto::{JobId, JobStatus, NodeId, Timestamp};

pub(crate) fn job(id: &str, status: JobStatus) -> Job {
    let payload = Payload::Shell(ShellPayload {
        command: "echo".into(),
        args: Some(vec!["hello world".into()]),
        ..ShellPayload::default()
    });
    let (id, by) = (JobId::parse(id).expect("id"), NodeId::parse("node_a").expect("id"));
    Job {
        updated_at: Timestamp::from_millis(1_767_225_601_000),
        status,
        ..Job::new(id, payload, Timestamp::from_millis(1_767_225_600_000), by)
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
