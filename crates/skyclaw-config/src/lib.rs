//! What every binary shares at its edge: settings, secrets, the clock, logging, signals and the service manager.
//!
//! This is the only crate that reads the environment, the clock and signals, and the only one that
//! knows figment. A bin states each of its settings once with [`settings!`] and gets from it: the
//! layers defaults < file < systemd credential < environment < flags, the `--help` of its flags, and
//! `--print-config`.
//!
//! Invariants:
//! - The process environment is read in one place, [`Environment::of_process`]; all else is given one. What a service
//!   manager tells its services there is read in [`supervisor`] alone.
//! - A secret never reaches an error, a log line or the output of `--print-config`.
//! - A value that is not allowed, or a key nobody knows, ends the start with an error that names it.

pub mod clock;
mod environment;
mod error;
mod field;
pub mod ids;
mod layers;
pub mod logging;
pub mod otlp;
mod secret;
mod settings;
pub mod shutdown;
pub mod supervisor;
mod url;

pub use environment::Environment;
pub use error::Error;
pub use field::{Field, KeepAtMost, KeepFor, Millis, Raw};
pub use layers::{Flag, Given, Layers, Loaded, command, load, load_with_flags};
pub use secret::Secret;
pub use settings::{Setting, Settings};
pub use shutdown::Shutdown;
pub use supervisor::Supervisor;
pub use url::HttpUrl;
