//! Runs jobs and services on a host.
//!
//! A [`Driver`] takes a [`RunSpec`] and gives an [`Outcome`]. What runs is a process of its own session
//! and process group, with an environment that was built and not inherited, in a directory of its own,
//! kept by a [`shim`]: a process that outlives the daemon, and holds the deadline without it.
//!
//! ```text
//! RunSpec ── allowlist ──> run directory ──> shim ──> process ──> exit │ timeout │ deadline │ stop ──> record
//!               │ refused        │ fault      ▲                     TERM, grace, KILL                   │
//!               └────────────────┴────────────│──────────────────────────────────────────> Outcome <────┘
//!                                 next daemon ┘ Driver::recover
//! ```
//!
//! What always holds:
//! - A command that is not on the [`Allowlist`] is not started, nor is one whose limits cannot be enforced,
//!   unless the host says otherwise.
//! - No variable of the daemon and no file it has open reaches a run.
//! - When an [`Outcome`] is given, the process and all its descendants are gone, whatever they did to get
//!   away; when it is [forgotten](Ended::forget), so is the run's directory.
//! - A run with a deadline is over soon after it, whoever is dead or frozen then; `docs/adr/0016-the-shim.md`
//!   says by what, and what is not covered.
//! - How a run ended is written down before anybody hears of it, so that the death of no process takes it away,
//!   and stays there until it is forgotten. That a loss of power does not take it away either is seen to right
//!   after; who tells it to others has it on a disk of its own before.
//! - Output is bounded as it is written, in memory and on disk.

mod allowlist;
mod boot;
mod cgroup;
mod driver;
mod enforce;
mod environment;
mod halt;
mod live;
mod outcome;
mod output;
pub mod podman;
mod protocol;
mod record;
mod resources;
mod rundir;
mod running;
pub mod shim;
mod spec;
mod stop;
mod sweep;
mod tree;
mod unmount;

pub use allowlist::Allowlist;
pub use boot::BootTime;
pub use cgroup::Version as CgroupVersion;
pub use driver::{Config, Driver, Error, Left, Reserved, Shim};
pub use enforce::{Enforcement, Fact, Verdict};
pub use halt::{Halt, HaltWatch};
pub use live::{Growth, GrowthKey, LiveOutput, LivePiece, LiveReader};
pub use outcome::{Ending, Outcome};
pub use output::{MARKER, cut};
pub use protocol::User;
pub use record::{Event, ExitStatus, Usage, What};
pub use resources::Resources;
pub use running::{Ended, Running, is_running};
pub use spec::{Capture, Cwd, Deadline, Openclaw, RunSpec};
pub use stop::{Stop, StopSignal, Stopper, stop_channel};
