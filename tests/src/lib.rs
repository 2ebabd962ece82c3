//! A kit for tests against real processes: the daemons and the CLI as an operator runs them, and a
//! client that knows the wire contract and nothing of the code that implements it.
//!
//! What always holds:
//! - Nothing here depends on a Skyclaw crate. What a daemon says is read as plain JSON.
//! - A process of a test has an environment that was built for it, a directory of its own and a
//!   loopback address of its own, so tests can run side by side.
//! - A process does not outlive the value that stands for it. It is killed by its id.
//! - What fails here fails the test, with the last lines of the logs of every process it held.

#![expect(clippy::expect_used, clippy::panic, reason = "what fails in a kit for tests must fail the test")]

mod address;
pub mod cluster;
pub mod coordinator;
pub mod ctl;
pub mod database;
pub mod failing_disk;
pub mod fake_clock;
pub mod gate;
pub mod host;
pub mod keepers;
pub mod machine;
pub mod mesh;
pub mod net_ns;
pub mod outside;
pub mod podman;
pub mod process;
pub mod raw;
pub mod registry;
pub mod shape;
pub mod stream;
pub mod wait;
pub mod wire;
pub mod witnessed;

pub use cluster::{Cluster, Plan};
pub use coordinator::{Coordinator, Options};
pub use host::Host;
pub use serde_json::{Value, json};
pub use wait::{LONG, SHORT, wait_until};
pub use wire::{Reply, Wire};

/// The shared token of every mesh of the tests: a text that occurs nowhere else.
pub const TOKEN: &str = "tests-token-Zq7vX2kP9wLr4mYc";
