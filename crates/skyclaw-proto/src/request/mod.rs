//! Requests as clients send them, and what is left of each after it was checked.
//!
//! A body is first read into the `…Body` type of its route: every field optional, so that a missing
//! one gets its own sentence. `check` then gives a value that holds only what is allowed.

mod check;
mod cluster;
mod events;
mod freezes;
mod hosts;
mod jobs;
mod links;
mod plan;
mod restore;
mod services;
mod terms;
#[cfg(test)]
mod tests;

pub use self::cluster::{JoinBody, TransferBody};
pub use self::events::{EventBody, JobEvents, JobEventsBody};
pub use self::freezes::{Freeze, FreezeBody, ThawBody};
pub use self::hosts::{
    Claim, ClaimBody, DrainHost, DrainHostBody, Heartbeat, HeartbeatBody, HostSwitch, RegisterHost,
    RegisterHostBody, RemoveHostBody, RunningJob,
};
pub use self::jobs::{
    CompleteJob, CompleteJobBody, EnqueueJob, EnqueueJobBody, FoundResult, PayloadBody, RequirementBody,
    ResolveJob, ResolveJobBody,
};
pub use self::plan::{RetryBody, RetryJobBody};
pub use self::restore::{CommitRestore, CommitRestoreBody};
pub use self::services::{
    ClaimServiceBody, DeployService, DeployServiceBody, ReportService, ReportServiceBody,
};
pub use self::terms::MountBody;

/// A field that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {fault}")]
pub struct Invalid {
    /// The path of the field, such as `payload.timeoutMs`.
    pub field: String,
    /// What is wrong, as the rest of a sentence.
    pub fault: String,
}

impl Invalid {
    /// Names a field and its fault.
    pub fn new(field: impl Into<String>, fault: impl Into<String>) -> Self {
        Self { field: field.into(), fault: fault.into() }
    }

    /// A field that must be there and is not.
    pub fn required(field: impl Into<String>) -> Self {
        Self::new(field, "is required")
    }
}
