//! The wire contract as types: what travels between clients, coordinators and hosts.
//!
//! Everything here is pure: no clock, no randomness, no files, no sockets. A record is what a client
//! reads ([`record`]), a request is what it sends ([`request`]), and every request is checked into a
//! value that holds only what is allowed before anything else sees it.
//!
//! Invariants:
//! - A field that is absent is left out of the JSON, never `null`.
//! - An id that exists as a value is valid; there is no unchecked constructor.
//! - Times are milliseconds since the epoch inside and RFC 3339 with milliseconds and `Z` outside.

pub mod actor;
pub mod canonical;
pub mod capabilities;
pub mod enforces;
pub mod error;
pub mod explanation;
pub mod freeze;
pub mod id;
pub mod limits;
pub mod links;
pub mod logs;
pub mod notice;
mod object;
#[cfg(feature = "openapi")]
pub mod openapi;
pub mod payload;
pub mod plan;
pub mod record;
pub mod request;
pub mod response;
pub mod route;
pub mod schedule;
pub mod status;
pub mod terms;
pub mod time;

pub use actor::{Actor, ActorKind};
pub use capabilities::Capabilities;
pub use enforces::Enforces;
pub use error::{ErrorBody, ErrorCode};
pub use explanation::Explanation;
pub use freeze::Scope;
pub use id::{AgentId, FreezeId, HostId, InvalidId, JobId, NodeId, RestoreId, ScheduleId, ServiceId};
pub use links::{Concurrency, Links};
pub use notice::{EventId, NoticeKind};
pub use payload::{OpenclawPayload, Payload, ShellPayload};
pub use plan::{Plan, Retry};
pub use request::Invalid;
pub use status::{
    AssignmentStatus, HostState, Isolation, JobStatus, LogStream, OnDependencyFailure, OnLost, Overlap,
    Resolution, ServiceStatus, Stopped,
};
pub use terms::{Mount, Resources, Terms};
pub use time::Timestamp;
