//! The body of every error answer.

use serde::{Deserialize, Serialize};

/// `{"error": "<sentence>", "code": "<word>", "details": …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    /// A sentence for people.
    pub error: String,
    /// A word for programs. A reference coordinator sends none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
    /// What else helps, such as `{"field": "name"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<serde_json::Value>,
}

/// What went wrong, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The body or a parameter is malformed; `details.field` names it.
    InvalidRequest,
    /// Token or key missing or wrong.
    Unauthorized,
    /// Known, but not allowed.
    Forbidden,
    /// No such route, host, job or service.
    NotFound,
    /// The route does not take this method.
    MethodNotAllowed,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The body is too large.
    PayloadTooLarge,
    /// The body is in an encoding that is not taken.
    UnsupportedMediaType,
    /// The head of the request is too large.
    HeadersTooLarge,
    /// An idempotency key came with another body.
    IdempotencyConflict,
    /// The job is leased to another host, or to nobody.
    NotAssigned,
    /// The job is not leased.
    NotLeased,
    /// The lease this speaks of has been replaced by a newer one.
    StaleFence,
    /// Nobody follows this stream of output.
    NotWanted,
    /// The host that runs the job has not said in time what the job has written.
    HostSilent,
    /// The job has ended already.
    JobFinished,
    /// The job is not lost, so there is nothing to decide about it.
    NotLost,
    /// `dependsOn` names a job that is not there.
    UnknownDependency,
    /// The job was done, or may yet be, so it is not queued again.
    NotRetryable,
    /// The host is up, or holds work; it is drained or stopped first.
    HostBusy,
    /// There are as many freezes as there may be.
    TooManyFreezes,
    /// A schedule of that name is there already.
    ScheduleExists,
    /// There are as many schedules as there may be.
    TooManySchedules,
    /// The last job of the schedule has not ended, and the schedule does not submit another beside it.
    ScheduleBusy,
    /// The public API is off.
    PublicApiDisabled,
    /// Fewer peers are known than the replication target needs.
    InsufficientPeers,
    /// Enough peers are known, too few are reachable; nothing was written.
    PeersUnreachable,
    /// The write may or may not have happened: retry with the same idempotency key.
    OutcomeUnknown,
    /// The coordinator that was asked does not lead; `details.leaderUrl` says who does, if it is known.
    NotLeader,
    /// The members of the cluster cannot be changed so.
    MembersUnchanged,
    /// Jobs run that a restore must not meet; `details.jobs` names the first.
    JobsLeased,
    /// The snapshot was taken of another cluster.
    ForeignSnapshot,
    /// What was sent is no sound snapshot.
    SnapshotUnusable,
    /// Not all parts of the snapshot are there.
    RestoreIncomplete,
    /// There is no leader at the moment.
    NoLeader,
    /// This coordinator has not applied the index that was asked for.
    Behind,
    /// This coordinator takes no writes at the moment; the sentence says why.
    NotReady,
    /// Too much is waiting; come back after `retry-after`.
    Overloaded,
    /// The disk is full or broken; nothing was written.
    StorageUnavailable,
    /// The daemon is going down.
    ShuttingDown,
    /// A fault of the daemon, with nothing to blame the client for.
    Internal,
    /// A word of a newer version.
    #[serde(other)]
    Unknown,
}

impl ErrorBody {
    /// An error with a sentence and a word.
    #[must_use]
    pub fn new(code: ErrorCode, error: impl Into<String>) -> Self {
        Self { error: error.into(), code: Some(code), details: None }
    }
}
