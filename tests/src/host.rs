//! A host as an operator runs it: `skyclaw-hostd` with a state directory of its own.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::process::{Process, command};
use crate::wait::LONG;
use crate::{TOKEN, net_ns};

/// A running host.
#[derive(Debug)]
pub struct Host {
    env: BTreeMap<String, String>,
    namespace: Option<String>,
    process: Process,
    starts: u32,
    dir: TempDir,
}

impl Host {
    /// Starts a host named `name` of the coordinator at `url`. Shells and what they need may run.
    ///
    /// Its heartbeats are quick, so that tests need not wait for them.
    #[must_use]
    pub fn start(url: &str, name: &str, extra: &[(&str, &str)]) -> Self {
        Self::launch(None, url, name, extra)
    }

    /// The same in the network of a namespace; in all else it is where this process is.
    #[must_use]
    pub fn start_within(namespace: &str, url: &str, name: &str, extra: &[(&str, &str)]) -> Self {
        Self::launch(Some(namespace.to_owned()), url, name, extra)
    }

    fn launch(namespace: Option<String>, url: &str, name: &str, extra: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("skyclaw-host-").tempdir().expect("a temporary directory");
        // Runs with a user of their own find their way to what is theirs.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).expect("its mode");
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
        let process = spawn(&env, namespace.as_deref(), "hostd.1", &dir);
        Self { env, namespace, process, starts: 1, dir }
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
        let output =
            command("skyclaw-hostd", self.dir.path(), &self.env).args(args).output().expect("it runs");
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
        self.process =
            spawn(&self.env, self.namespace.as_deref(), &format!("hostd.{}", self.starts), &self.dir);
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

fn spawn(env: &BTreeMap<String, String>, namespace: Option<&str>, name: &str, dir: &TempDir) -> Process {
    let command = command("skyclaw-hostd", dir.path(), env);
    let inside = namespace.map(|namespace| net_ns::in_network_of(namespace, &command));
    Process::start(name, dir.path(), inside.unwrap_or(command))
}
