//! Runs jobs and services on a host.
//!
//! A [`Driver`] takes a [`RunSpec`] and gives an [`Outcome`]. What runs is a process of its own session
//! and process group, with an environment that was built and not inherited, in a directory of its own.
//!
//! ```text
//! RunSpec ── allowlist ──> run directory ──> process ──> exit │ timeout │ stop ──> sweep ──> Outcome
//!               │ refused        │ fault                      TERM, grace, KILL
//!               └────────────────┴───────────────────────────────────────────────────────────^
//! ```
//!
//! What always holds:
//! - A command that is not on the [`Allowlist`] is not started.
//! - No variable of the daemon and no file it has open reaches a run.
//! - When an [`Outcome`] is given, the process, its group, its session and whatever still carries the
//!   run's mark are gone, and so is the run's directory.
//! - A run does not outlive its driver: dropping it kills it, and so does the kernel when the daemon dies.
//! - Memory for a run's output is bounded as it is read, not after.
//!
//! What is not covered: a descendant that left the session **and** wiped its environment is not found,
//! and when the daemon itself is killed only the first process dies with it; the rest of that run is
//! found by its mark when the next driver starts over the same directory ([`Driver::recover`]).

mod allowlist;
mod driver;
mod environment;
mod output;
pub mod podman;
mod process;
mod rundir;
mod running;
mod spec;
mod stop;
mod sweep;

pub use allowlist::Allowlist;
pub use driver::{Config, Driver, Error};
pub use output::{MARKER, cut};
pub use running::{Ending, Outcome, Running};
pub use spec::{Capture, Cwd, Openclaw, RunSpec};
pub use stop::{Stop, StopSignal, Stopper, stop_channel};
