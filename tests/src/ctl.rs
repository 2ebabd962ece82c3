//! The CLI as an operator runs it.

use std::process::Output;

use crate::TOKEN;
use crate::process::command;

/// What came of a command.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; -1 when it was killed.
    pub code: i32,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

impl Ran {
    /// What it wrote, when it ended well.
    ///
    /// # Panics
    /// When it did not.
    #[must_use]
    #[track_caller]
    pub fn ok(self) -> String {
        self.ended(0).stdout
    }

    /// Itself, when it ended with `code`.
    ///
    /// # Panics
    /// When it ended otherwise.
    #[track_caller]
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }
}

/// Runs `skyctl` against the coordinator at `url`, with the token.
#[must_use]
pub fn skyctl(url: &str, args: &[&str]) -> Ran {
    skyctl_with(&[("SKYCLAW_COORDINATOR_URL", url), ("SKYCLAW_TOKEN", TOKEN)], args)
}

/// Runs `skyctl` with this environment.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn skyctl_with(env: &[(&str, &str)], args: &[&str]) -> Ran {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut command = command("skyctl", dir.path(), env.iter().copied());
    let output = command.args(args).output().expect("skyctl starts");
    let Output { status, stdout, stderr } = output;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) }
}
