//! A coordinator as an operator runs it: `skyclawd` with a database of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::process::{Process, command};
use crate::wait::{LONG, wait_until};
use crate::wire::Wire;
use crate::{TOKEN, address, net_ns};

/// How a coordinator is started.
#[derive(Debug, Clone)]
pub struct Options {
    env: BTreeMap<String, String>,
    args: Vec<String>,
    namespace: Option<String>,
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
        Self { env: env.into(), args: Vec::new(), namespace: None }
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

    /// The base URL it will have, if it was given a port.
    #[must_use]
    pub fn url(&self) -> String {
        let text = |name| self.env.get(name).map(String::as_str).unwrap_or_default();
        format!("http://{}:{}", text("SKYCLAW_COORDINATOR_HOST"), text("SKYCLAW_COORDINATOR_PORT"))
    }

    /// In a network namespace of this name.
    #[must_use]
    pub fn within(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Starts a coordinator with a directory of its own, and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    #[track_caller]
    pub fn start(self) -> Coordinator {
        let dir = tempfile::Builder::new().prefix("skyclaw-test-").tempdir().expect("a temporary directory");
        let mut node = self.start_in(dir.path());
        node._dir = Some(dir);
        node
    }

    /// Starts a coordinator whose database is in `data`, and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    #[track_caller]
    pub fn start_in(self, data: &Path) -> Coordinator {
        self.attempt_in(data).unwrap_or_else(|refused| panic!("skyclawd refuses to start: {}", refused.said))
    }

    /// Starts a coordinator that must not come up.
    ///
    /// # Panics
    /// When it does, or neither serves nor ends.
    #[must_use]
    #[track_caller]
    pub fn refused_in(self, data: &Path) -> Refused {
        self.attempt_in(data).expect_err("skyclawd must refuse to start")
    }

    /// Starts a coordinator, which may refuse.
    ///
    /// # Errors
    /// When it ends instead of serving.
    ///
    /// # Panics
    /// When it neither serves nor ends.
    #[track_caller]
    pub fn attempt_in(self, data: &Path) -> Result<Coordinator, Refused> {
        let logs = tempfile::tempdir().expect("a temporary directory");
        let mut process = self.spawn("skyclawd.1", data, logs.path());
        let address = ready(&mut process)?;
        let (earlier_logs, data) = (String::new(), data.to_owned());
        Ok(Coordinator { options: self, process, earlier_logs, address, data, logs, starts: 1, _dir: None })
    }

    fn spawn(&self, name: &str, data: &Path, logs: &Path) -> Process {
        let database = data.join("coordinator.db");
        let mut command = command("skyclawd", data, [("SKYCLAW_DB_PATH", database)]);
        command.envs(&self.env).args(&self.args);
        if let Some(namespace) = &self.namespace {
            command = net_ns::within(namespace, &command);
        }
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

/// What a daemon that ended instead of serving left behind.
#[derive(Debug)]
pub struct Refused {
    /// How it ended.
    pub status: ExitStatus,
    /// What it said.
    pub said: String,
}

impl Coordinator {
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
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn restart_with(&mut self, change: impl FnOnce(Options) -> Options) {
        self.kill9();
        self.earlier_logs.push_str(&self.process.stderr());
        self.starts += 1;
        self.options =
            change(self.options.clone().env("SKYCLAW_COORDINATOR_PORT", self.address.port().to_string()));
        let name = format!("skyclawd.{}", self.starts);
        self.process = self.options.spawn(&name, &self.data, self.logs.path());
        self.address = ready(&mut self.process)
            .unwrap_or_else(|refused| panic!("skyclawd refuses to start again: {}", refused.said));
    }
}

/// Waits for the line that says where the coordinator listens, or for its end.
#[track_caller]
fn ready(process: &mut Process) -> Result<SocketAddr, Refused> {
    wait_until("skyclawd says where it listens", LONG, || {
        // Asked first: what a process says before its end is there when it has ended.
        let ended = process.ended();
        let out = process.stdout();
        let line = out.lines().find_map(|line| line.strip_prefix("listening on http://"));
        // A line is complete once its end is there.
        match (line.filter(|_| out.ends_with('\n')), ended) {
            (Some(address), _) => Some(Ok(address.parse().unwrap_or_else(|e| panic!("{address:?}: {e}")))),
            (None, Some(status)) => Some(Err(Refused { status, said: process.stderr() })),
            (None, None) => None,
        }
    })
}
