//! Why a queued job is not running, for people and for programs.

use serde::{Deserialize, Serialize};

use crate::{FreezeId, HostId, JobId, JobStatus, Timestamp};

/// The answer to `GET /v1/jobs/:id/explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The job.
    pub job_id: JobId,
    /// Where it is in its life.
    pub status: JobStatus,
    /// What keeps it from running, what must be over first before the rest; empty for a job that is not queued.
    pub reasons: Vec<Reason>,
}

/// One thing that keeps a queued job from running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// A word for programs.
    pub code: ReasonCode,
    /// A sentence for people.
    pub message: String,
    /// How many there are of what it speaks of: jobs or hosts. One more than is counted stands for any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The first of the jobs it speaks of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub job_ids: Vec<JobId>,
    /// The first of the hosts it speaks of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_ids: Vec<HostId>,
    /// What is asked of a host and none has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// The freeze.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze_id: Option<FreezeId>,
    /// When it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// What keeps a queued job from running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReasonCode {
    /// Its time has not come.
    NotBefore,
    /// It depends on jobs that are not completed.
    Dependencies,
    /// A freeze covers it, or everything.
    Frozen,
    /// After a restore nobody is given a job for some time.
    ClaimsHeld,
    /// As many jobs with its concurrency key run as it allows, or others with the key come first.
    Concurrency,
    /// No host is registered.
    NoHost,
    /// No host has, or can enforce, what it asks for.
    NoCapableHost,
    /// Hosts that could take it have not been heard of.
    HostsDown,
    /// Hosts that could take it take no more work.
    HostsDraining,
    /// Hosts that could take it were frozen on their machines.
    HostsFrozen,
    /// Hosts that could take it run as many jobs as they may.
    HostsFull,
    /// Hosts that could take it have kept silent for some seconds; told by the coordinator that leads.
    HostsSilent,
    /// Other jobs that the same hosts could take come first.
    Queue,
    /// Nothing: a host that has room takes it as soon as it asks.
    Claimable,
    /// A word of a newer version.
    #[serde(other)]
    Unknown,
}

impl Reason {
    /// A reason with a word and a sentence.
    #[must_use]
    pub fn new(code: ReasonCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            count: None,
            job_ids: Vec::new(),
            host_ids: Vec::new(),
            missing: Vec::new(),
            freeze_id: None,
            until: None,
        }
    }
}
