//! A coordinator as an operator runs it: `skyclawd` with a database of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::process::{Process, command};
use crate::wait::{LONG, SHORT, wait_until};
use crate::wire::Wire;
use crate::{TOKEN, address};

/// How a coordinator is started.
#[derive(Debug, Clone)]
pub struct Options {
    env: BTreeMap<String, String>,
    args: Vec<String>,
}

impl Default for Options {
    /// A single node on a free port of an address of its own, with the token of the tests.
    fn default() -> Self {
        let address = address::unused().to_string();
        let env = [
            ("SKYCLAW_COORDINATOR_HOST", address.as_str()),
            ("SKYCLAW_COORDINATOR_PORT", "0"),
            ("SKYCLAW_COORDINATOR_NODE_ID", "node-a"),
            ("SKYCLAW_MIN_REPLICATIONS", "1"),
            ("SKYCLAW_TOKEN", TOKEN),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { env: env.into(), args: Vec::new() }
    }
}

impl Options {
    /// With a variable set.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// With a variable not set.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    /// With a further argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Starts a coordinator with a directory of its own, and waits until it serves.
    #[must_use]
    pub fn start(self) -> Coordinator {
        let dir = tempfile::Builder::new().prefix("skyclaw-test-").tempdir().expect("a temporary directory");
        let data = dir.path().to_owned();
        Coordinator::start(self, data, Some(dir))
    }

    /// Starts a coordinator whose database is in `data`, and waits until it serves.
    #[must_use]
    pub fn start_in(self, data: &Path) -> Coordinator {
        Coordinator::start(self, data.to_owned(), None)
    }

    /// Starts a coordinator that must not come up, and tells how it ended and what it said.
    ///
    /// # Panics
    /// When it does not end.
    #[must_use]
    #[track_caller]
    pub fn refused_in(&self, data: &Path) -> (ExitStatus, String) {
        let logs = tempfile::tempdir().expect("a temporary directory");
        let mut process = self.spawn("skyclawd.refused", data, logs.path());
        let status = process.wait(LONG);
        (status, process.stderr())
    }

    fn spawn(&self, name: &str, data: &Path, logs: &Path) -> Process {
        let database = data.join("coordinator.db");
        let mut command = command("skyclawd", data, [("SKYCLAW_DB_PATH", database)]);
        command.envs(&self.env).args(&self.args);
        Process::start(name, logs, command)
    }
}

/// A running coordinator.
#[derive(Debug)]
pub struct Coordinator {
    options: Options,
    process: Process,
    earlier_logs: String,
    address: SocketAddr,
    data: PathBuf,
    logs: TempDir,
    starts: u32,
    /// Removed when the coordinator is dropped; after the process, which was declared earlier.
    _dir: Option<TempDir>,
}

impl Coordinator {
    fn start(options: Options, data: PathBuf, dir: Option<TempDir>) -> Self {
        let logs = tempfile::tempdir().expect("a temporary directory");
        let mut process = options.spawn("skyclawd.1", &data, logs.path());
        let address = ready(&mut process);
        let earlier_logs = String::new();
        Self { options, process, earlier_logs, address, data, logs, starts: 1, _dir: dir }
    }

    /// A client with the token.
    #[must_use]
    pub fn wire(&self) -> Wire {
        Wire::new(&self.url(), Some(TOKEN))
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The directory of its database.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What it has logged since its first start.
    #[must_use]
    pub fn log(&self) -> String {
        self.earlier_logs.clone() + &self.process.stderr()
    }

    /// Kills it as the kernel would.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Stops it as an operator would.
    ///
    /// # Panics
    /// When it does not end, or does not end well.
    #[track_caller]
    pub fn terminate(&mut self) {
        self.process.signal(Signal::SIGTERM);
        let status = self.process.wait(LONG);
        assert!(status.success(), "skyclawd ended with {status} after SIGTERM");
    }

    /// Starts it again on the same data and at the same address.
    pub fn restart(&mut self) {
        self.restart_with(|options| options);
    }

    /// Starts it again at the same address with other options.
    pub fn restart_with(&mut self, change: impl FnOnce(Options) -> Options) {
        self.kill9();
        self.earlier_logs.push_str(&self.process.stderr());
        self.starts += 1;
        self.options =
            change(self.options.clone().env("SKYCLAW_COORDINATOR_PORT", self.address.port().to_string()));
        let name = format!("skyclawd.{}", self.starts);
        self.process = self.options.spawn(&name, &self.data, self.logs.path());
        self.address = ready(&mut self.process);
    }
}

/// Waits for the line that says where the coordinator listens.
#[track_caller]
fn ready(process: &mut Process) -> SocketAddr {
    let address = wait_until("skyclawd says where it listens", SHORT * 2, || {
        let out = process.stdout();
        let url = out.lines().find_map(|line| line.strip_prefix("listening on http://"));
        let end = process.ended();
        assert!(end.is_none() || url.is_some(), "skyclawd ended at once: {end:?}\n{}", process.stderr());
        // A line is complete once its end is there.
        url.filter(|_| out.ends_with('\n')).map(str::to_owned)
    });
    address.trim().parse().unwrap_or_else(|e| panic!("{address:?} is no address: {e}"))
}
