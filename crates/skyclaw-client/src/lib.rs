//! A client of the wire contract with failover over several coordinators.
//!
//! It knows the wire types and HTTP, and nothing of how a coordinator works, so it speaks to any that
//! keeps the contract.
//!
//! Invariants:
//! - Every call that changes something carries an idempotency key (or is idempotent by nature, as a
//!   heartbeat is), so each may be repeated, at another coordinator as well, without being done twice.
//!   What is neither, a change of the cluster, is not sent again once it may have been carried out.
//! - Every call ends: at most [`Config::deadline`] after its long poll, if it has one, was over. An
//!   [`EventStream`] goes on for as long as it is asked.
//! - What a coordinator answers is read up to a bound only.
//! - The token goes to the configured coordinators, and to the leader that one of them names, alone (never
//!   from https to http). It is in no error and no debug print.

mod attempt;
mod call;
mod cluster;
mod config;
mod error;
mod events;
mod freezes;
mod jobs;
mod logs;
mod nodes;
mod schedules;
mod services;
mod snapshots;
#[cfg(test)]
mod tests;
mod tries;
mod watch;

pub use config::Config;
pub use error::{Error, Failure, Reason};
pub use events::{EventFilter, EventStream, Happened};
pub use jobs::JobFilter;
pub use logs::JobLogs;
pub use nodes::install_crypto;
pub use watch::JobWatch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use crate::config::Coordinator;

/// A client of one cluster. Cheap to clone; clones share their connections and what they learned.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    http: reqwest::Client,
    coordinators: Vec<Coordinator>,
    token: Option<http::HeaderValue>,
    actor: Option<http::HeaderValue>,
    config: Config,
    /// Which coordinator answered last: the first to be asked.
    good: AtomicUsize,
    /// The newest log index a write of ours was answered with: reads wait for it, wherever they go.
    written: AtomicU64,
}
