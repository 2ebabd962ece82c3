//! The host daemon: claims jobs and services from the coordinators, runs them, and says how they ended.
//!
//! ```text
//!              ┌── keeper ── heartbeats, leases, stops ──┐
//! coordinators ┼── claims ──> run ──> spool ──> complete ┼── driver, containers
//!              └── services ─> run ──> report ───────────┘
//! ```
//!
//! What always holds:
//! - A run is stopped before its lease can have run out, told by this host's own monotonic clock from
//!   when the renewal was *sent*; so two hosts never run one job at the same time.
//! - The outcome of a run is on disk before it is reported, and stays there until a coordinator has
//!   accepted or refused it.
//! - Runs of a daemon that died go on, kept by their shims. They are taken over, and what has ended is
//!   reported, before anything is claimed.
//! - A run whose lease is not renewed is stopped by its shim, whether this daemon lives or not.
//! - What this host's operator forces into Podman runs there or not at all.
//! - While the host is frozen ([`operate`]) nothing runs and nothing is claimed, whatever becomes of this daemon.
//! - One state directory has one daemon.

mod advert;
mod claims;
mod completion;
mod containers;
mod coordinator;
mod daemon;
pub mod heap;
mod history;
mod keeper;
mod leases;
mod logs;
pub mod operate;
mod podman;
mod policy;
mod ports;
pub mod secrets;
mod services;
mod settings;
mod spool;
mod state;
mod stopping;
mod supervised;
mod switch;
mod ticket;

pub use daemon::{Error, run};
pub use settings::{Fault, Place, Settings};
