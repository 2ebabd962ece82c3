//! The host daemon: claims jobs and services from the coordinators, runs them, and says how they ended.
//!
//! ```text
//!              ┌── keeper ── heartbeats, leases, stops ──┐
//! coordinators ┼── claims ──> run ──> spool ──> complete ┼── driver
//!              └── services ─> run ──> report ───────────┘
//! ```
//!
//! What always holds:
//! - A run is stopped before its lease can have run out, told by this host's own monotonic clock from
//!   when the renewal was *sent*; so two hosts never run one job at the same time.
//! - The outcome of a run is on disk before it is reported, and stays there until a coordinator has
//!   accepted or refused it.
//! - Work left behind by a daemon that died is ended, and its outcomes are reported, before anything is
//!   claimed.
//! - One state directory has one daemon.

mod claims;
mod completion;
mod coordinator;
mod daemon;
mod keeper;
mod leases;
mod ports;
pub mod secrets;
mod services;
mod settings;
mod spool;
mod state;

pub use daemon::{Error, run};
pub use settings::{Fault, Settings};
