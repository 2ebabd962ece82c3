//! Jobs as clients read them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::object;
use crate::{
    Actor, AgentId, Capabilities, Concurrency, HostId, Isolation, JobId, JobStatus, Links, Mount, NodeId,
    OnDependencyFailure, OnLost, Payload, Plan, Resources, Retry, ScheduleId, Terms, Timestamp,
};

/// What a job asks of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Requirement {
    /// Capabilities the host must have.
    #[serde(default)]
    pub required_capabilities: Capabilities,
}

/// One piece of work with an end. Who only writes it down can lend the payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", bound(deserialize = "P: Deserialize<'de>"))]
pub struct Job<P = Payload> {
    /// Its id.
    pub id: JobId,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The coordinator that last changed it.
    pub updated_by: NodeId,
    /// Grows with each change.
    pub version: u64,
    /// Where it is in its life.
    pub status: JobStatus,
    /// How often it was claimed.
    pub attempts: u32,
    /// When the lease runs out, while `leased`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_expires_at: Option<Timestamp>,
    /// Who has it, or who ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned_host_id: Option<HostId>,
    /// What it asks of a host.
    #[serde(default, deserialize_with = "object::one")]
    pub requirement: Requirement,
    /// What it runs.
    #[serde(deserialize_with = "object::one")]
    pub payload: P,
    /// Who submitted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_by: Option<String>,
    /// How the run ended.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object::optional")]
    pub result: Option<JobResult>,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// 0 to 100, higher first. (Ours; absent means 50.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// For finding it again. (Ours.)
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The fencing token of the newest lease: grows with each claim. (Ours.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
    /// Since when a running job is being called off. (Ours.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_requested_at: Option<Timestamp>,
    /// Since when it is `lost`. (Ours, as all that follows.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_at: Option<Timestamp>,
    /// What happens when its host is lost; absent means `retry`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_lost: Option<OnLost>,
    /// What keeps it apart from the rest of its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// The image of its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What it may use.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object::optional")]
    pub resources: Option<Resources>,
    /// On whose behalf it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// The network of its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// What of the host its container sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "object::list")]
    pub mounts: Vec<Mount>,
    /// How long it may take to stop by itself, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
    /// The jobs that must be completed first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<JobId>,
    /// What becomes of it when one of those ends otherwise; absent means `fail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_dependency_failure: Option<OnDependencyFailure>,
    /// Those of `dependsOn` that it waits for, while it is queued.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<JobId>,
    /// Of the jobs with this key, only so many run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<String>,
    /// How many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_limit: Option<u32>,
    /// While it has not ended, there is no second one with this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_key: Option<String>,
    /// How long it may wait for a host, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// It is not claimed before then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// How often it is tried.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object::optional")]
    pub retry: Option<Retry>,
    /// How long its record is kept after its end, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain_ms: Option<u64>,
    /// When it can be claimed, while it cannot: for `notBefore`, or after an attempt that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimable_at: Option<Timestamp>,
    /// When it expires unless it is claimed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// How many of the attempts that `retry` allows have failed or were lost.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_attempts: u32,
    /// How its earlier attempts ended, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "object::list")]
    pub attempt_results: Vec<AttemptResult>,
    /// The schedule that submitted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_id: Option<ScheduleId>,
    /// The time of the schedule it was submitted for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<Timestamp>,
}

impl<P> Job<P> {
    /// When it is to be run, and how often.
    #[must_use]
    pub fn plan(&self) -> Plan {
        Plan {
            ttl_ms: self.ttl_ms,
            not_before: self.not_before,
            retry: self.retry,
            retain_ms: self.retain_ms,
        }
    }

    /// The same job, to be run then and so often.
    #[must_use]
    pub fn with_plan(self, plan: &Plan) -> Self {
        let Plan { ttl_ms, not_before, retry, retain_ms } = *plan;
        Self { ttl_ms, not_before, retry, retain_ms, ..self }
    }

    /// How it is to be run.
    #[must_use]
    pub fn terms(&self) -> Terms {
        Terms {
            on_lost: self.on_lost.unwrap_or_default(),
            isolation: self.isolation,
            image: self.image.clone(),
            resources: self.resources.unwrap_or_default(),
            agent_id: self.agent_id.clone(),
            network: self.network.clone(),
            mounts: self.mounts.clone(),
            grace_ms: self.grace_ms,
        }
    }

    /// The same job, to be run like this.
    #[must_use]
    pub fn with_terms(self, terms: &Terms) -> Self {
        let terms = terms.clone();
        Self {
            on_lost: Some(terms.on_lost).filter(|on_lost| *on_lost != OnLost::default()),
            isolation: terms.isolation,
            image: terms.image,
            resources: Some(terms.resources).filter(|resources| !resources.is_empty()),
            agent_id: terms.agent_id,
            network: terms.network,
            mounts: terms.mounts,
            grace_ms: terms.grace_ms,
            ..self
        }
    }
}

impl<P> Job<P> {
    /// What ties it to other jobs.
    #[must_use]
    pub fn links(&self) -> Links {
        let limit = self.concurrency_limit.unwrap_or(1).max(1);
        let concurrency = self.concurrency_key.as_deref();
        Links {
            depends_on: self.depends_on.clone(),
            on_dependency_failure: self.on_dependency_failure.unwrap_or_default(),
            concurrency: concurrency.map(|key| Concurrency { key: key.into(), limit }),
            unique_key: self.unique_key.as_deref().map(Into::into),
        }
    }

    /// The same job, tied to others like this.
    #[must_use]
    pub fn with_links(self, links: &Links) -> Self {
        let concurrency = links.concurrency.as_ref();
        let on_failure = links.on_dependency_failure;
        Self {
            depends_on: links.depends_on.clone(),
            on_dependency_failure: Some(on_failure).filter(|it| *it != OnDependencyFailure::default()),
            concurrency_key: concurrency.map(|concurrency| concurrency.key.to_string()),
            concurrency_limit: concurrency.map(|concurrency| concurrency.limit),
            unique_key: links.unique_key.as_ref().map(ToString::to_string),
            ..self
        }
    }
}

impl<P> Job<P> {
    /// One that was enqueued just now and asks for nothing but to be run.
    pub fn new(id: JobId, payload: P, at: Timestamp, by: NodeId) -> Self {
        Self {
            id,
            created_at: at,
            updated_at: at,
            updated_by: by,
            version: 1,
            status: JobStatus::Queued,
            attempts: 0,
            lease_expires_at: None,
            assigned_host_id: None,
            requirement: Requirement::default(),
            payload,
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
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct JobResult {
    /// When the coordinator learned of it.
    pub finished_at: Timestamp,
    /// How long it ran, as the host measured.
    pub duration_ms: u64,
    /// The exit code.
    pub exit_code: i32,
    /// What it wrote, bounded.
    pub stdout: String,
    /// What it wrote, bounded.
    pub stderr: String,
    /// What it used. (Ours.)
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object::optional")]
    pub usage: Option<Usage>,
    /// Whether it ran out of the memory it may use. (Ours.)
    #[serde(default, skip_serializing_if = "is_false")]
    pub oom: bool,
}

/// How an attempt ended after which the job was queued again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct AttemptResult {
    /// Which of the job's attempts it was: what `attempts` said then.
    pub attempt: u32,
    /// How it ended: `failed`, `lost`, or as what the job had ended that was then retried.
    pub status: JobStatus,
    /// When that became known.
    pub ended_at: Timestamp,
    /// Who ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_id: Option<HostId>,
    /// The fencing token of its lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
    /// How long it ran, as the host measured; absent when no host told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// The exit code; absent when no host told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The end of what it wrote.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stdout: String,
    /// The end of what it wrote.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stderr: String,
    /// Whether it ran out of the memory it may use.
    #[serde(default, skip_serializing_if = "is_false")]
    pub oom: bool,
}

/// What a run used, as far as the host could measure it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// Time on processors, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// The most memory it had at once, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
}

impl Usage {
    /// Whether nothing could be measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// Something that happened to a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When, by the clock of who tells it.
    pub at: Timestamp,
    /// What.
    pub kind: String,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// On which host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_id: Option<HostId>,
    /// Under which lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
    /// Who brought it about, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Actor>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn job() -> Value {
        json!({
            "id": "j", "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z", "updatedBy": "n",
            "version": 1, "status": "completed", "attempts": 1, "requirement": {"requiredCapabilities": ["a"]},
            "payload": {"kind": "shell", "command": "true"}, "retry": {"maxAttempts": 2}, "resources": {"pids": 3},
            "mounts": [{"source": "/a", "target": "/a"}],
            "result": {
                "finishedAt": "2026-01-01T00:00:00Z", "durationMs": 1, "exitCode": 0, "stdout": "", "stderr": "",
                "usage": {"cpuMs": 1},
            },
        })
    }

    #[test]
    fn what_is_an_object_is_not_read_from_a_list_however_deep() {
        assert!(serde_json::from_value::<Job>(job()).is_ok());
        let lists = [
            ("/requirement", json!([["a"]])),
            ("/payload", json!(["shell", "true"])),
            ("/retry", json!([2, 1, 1])),
            ("/resources", json!([null, null, 3, null])),
            ("/mounts/0", json!(["/a", "/a", true])),
            ("/result/usage", json!([null, null])),
        ];
        for (place, list) in lists {
            let mut job = job();
            *job.pointer_mut(place).expect("a place") = list;
            assert!(serde_json::from_value::<Job>(job).is_err(), "{place}");
        }
    }

    #[test]
    fn records_in_the_log_are_read_as_they_were_written() {
        let job: Job = serde_json::from_value(job()).expect("a job");
        let named = rmp_serde::to_vec_named(&job).expect("written");
        assert_eq!(rmp_serde::from_slice::<Job>(&named).expect("read"), job);
    }
}
