//! Runs jobs and services in containers, through the socket of a Podman service.
//!
//! ```text
//! Spec ── Policy, Enforcement ──> Shape ──┬─ one made ahead ─┬──> Prepared ─┬─ start ──> Run ── finish ──> Report
//!             │ refused                   └─ make, init ─────┘       │       └─ start_kept ──> Running, of a shim
//!             v                                                      v                           └── clear
//!           Error                                       launcher looks, starts the
//!                                                       job's command, and is its init
//! ```
//!
//! What always holds:
//! - An image, a mount or a network that the [`Policy`] does not allow is not used. What is run is the image
//!   that was judged, by its id; what is mounted is the file that was judged.
//! - Every container has a read-only root, its own `/tmp` in memory, no capability, no way to gain one, a
//!   filter of system calls, its own user namespace and a user that is not root. The [launcher](folder)
//!   looks at this from within, and starts nothing if any of it is missing.
//! - A limit that cannot be enforced is refused, unless the policy says that best effort is enough.
//! - What a job is started with (command, environment, secrets) is in no record that Podman keeps, and in no
//!   list of processes but its own.
//! - An exit code survives the service and this daemon. A container without a monitor is killed.
//! - A run that a shim [keeps](Keep) ends at its deadline, whoever is dead or frozen then.
//! - A sweep touches what carries this host's label, and nothing else.
//!
//! Why the parts are as they are is written in `docs/adr/0017-podman.md`.

mod container;
mod driver;
mod enforcement;
mod error;
mod folder;
mod http;
mod job;
mod kept;
mod output;
mod policy;
mod pool;
mod prepared;
mod proc;
mod run;
mod spec;
mod sweep;

pub use crate::enforce::{Enforcement, Verdict};
pub use driver::{Config, IdRange, Podman};
pub use enforcement::Service;
pub use error::Error;
pub use kept::Keep;
pub use output::{Output, Stream};
pub use policy::{AllowedMount, Policy};
pub use pool::PoolConfig;
pub use run::{Exit, Report, Run, Usage};
pub use spec::{Agent, Identity, Mount, Network, SECRETS_FOLDER, Secret, Spec, User};
pub use sweep::{Found, Swept};

/// What a run, or all runs of an agent together, may use.
pub type Limits = crate::Resources;

#[cfg(test)]
#[path = "../../launcher/main.rs"]
#[expect(dead_code, reason = "it is a program of its own, and its parts are tested here")]
mod launcher;
