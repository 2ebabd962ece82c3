//! A host as an operator runs it: `skyclaw-hostd` with a state directory of its own.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::process::{PATH, Process, binary, command};
use crate::wait::LONG;
use crate::{TOKEN, net_ns};

const DAEMON: &str = "skyclaw-hostd";

/// A running host.
#[derive(Debug)]
pub struct Host {
    env: BTreeMap<String, String>,
    within: Within,
    process: Process,
    starts: u32,
    dir: TempDir,
}

/// Where its daemon is, and who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Within {
    /// As this process.
    Here,
    /// In the network of a namespace.
    Network(String),
    /// Another user, who runs a copy of the program.
    User(u32),
}

impl Host {
    /// Starts a host named `name` of the coordinator at `url`. Shells and what they need may run.
    ///
    /// Its heartbeats are quick, so that tests need not wait for them.
    #[must_use]
    pub fn start(url: &str, name: &str, extra: &[(&str, &str)]) -> Self {
        Self::launch(Within::Here, url, name, extra)
    }

    /// The same as another user, whose group has the same number.
    #[must_use]
    pub fn start_as(user: u32, url: &str, name: &str, extra: &[(&str, &str)]) -> Self {
        Self::launch(Within::User(user), url, name, extra)
    }

    /// The same in the network of a namespace; in all else it is where this process is.
    #[must_use]
    pub fn start_within(namespace: &str, url: &str, name: &str, extra: &[(&str, &str)]) -> Self {
        Self::launch(Within::Network(namespace.to_owned()), url, name, extra)
    }

    fn launch(within: Within, url: &str, name: &str, extra: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("skyclaw-host-").tempdir().expect("a temporary directory");
        // Runs with a user of their own find their way to what is theirs.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).expect("its mode");
        if let Within::User(user) = within {
            std::os::unix::fs::chown(dir.path(), Some(user), Some(user)).expect("its owner");
            // Where it was built only its builder may be able to go. By a program of its own, as what this process
            // has open for writing a child of another test may have for a moment too.
            let copied = Command::new("cp").arg(binary(DAEMON)).arg(dir.path().join(DAEMON)).status();
            assert!(copied.expect("cp starts").success(), "a copy of the daemon");
        }
        let state = dir.path().join("state").display().to_string();
        let usual = [
            ("SKYCLAW_COORDINATOR_URL", url),
            ("SKYCLAW_TOKEN", TOKEN),
            ("SKYCLAW_HOST_NAME", name),
            ("SKYCLAW_HOST_ID", name),
            ("SKYCLAW_ALLOWED_COMMANDS", "sh,echo,sleep,cat,env,true,false"),
            ("SKYCLAW_HEARTBEAT_MS", "300"),
            ("SKYCLAW_POLL_MS", "200"),
            ("SKYCLAW_STOP_GRACE_MS", "1000"),
            ("SKYCLAW_DRAIN_MS", "1000"),
            ("SKYCLAW_SERVICE_HOST_ENABLED", "0"),
            ("SKYCLAW_STATE_DIR", &state),
        ];
        let env: BTreeMap<String, String> =
            usual.iter().chain(extra).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let process = spawn(&env, &within, "hostd.1", &dir);
        Self { env, within, process, starts: 1, dir }
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Runs the daemon's program with what an operator on its machine says, and gives what that wrote.
    ///
    /// # Panics
    /// When it does not end well.
    #[track_caller]
    pub fn operate(&self, args: &[&str]) -> String {
        let output = command(DAEMON, self.dir.path(), &self.env).args(args).output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// What it keeps between starts.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        PathBuf::from(&self.env["SKYCLAW_STATE_DIR"])
    }

    /// Kills it as the kernel would.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Starts it again on the same state.
    pub fn restart(&mut self) {
        self.kill9();
        self.starts += 1;
        self.process = spawn(&self.env, &self.within, &format!("hostd.{}", self.starts), &self.dir);
    }

    /// Stops it as an operator would.
    ///
    /// # Panics
    /// When it does not end, or does not end well.
    #[track_caller]
    pub fn terminate(&mut self) {
        self.process.signal(Signal::SIGTERM);
        let status = self.process.wait(LONG);
        assert!(status.success(), "skyclaw-hostd ended with {status} after SIGTERM");
    }
}

fn spawn(env: &BTreeMap<String, String>, within: &Within, name: &str, dir: &TempDir) -> Process {
    let command = command(DAEMON, dir.path(), env);
    let command = match within {
        Within::Here => command,
        Within::Network(namespace) => net_ns::in_network_of(namespace, &command),
        Within::User(user) => {
            let mut other = Command::new(dir.path().join(DAEMON));
            other.current_dir(dir.path()).env_clear().env("PATH", PATH).envs(env).stdin(Stdio::null());
            other.uid(*user).gid(*user);
            other
        }
    };
    Process::start(name, dir.path(), command)
}
