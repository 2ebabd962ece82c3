//! One process under test: its environment, its logs and its end.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::wait_until;

/// The `PATH` of every process under test.
pub const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The path of a built binary.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    // target/<profile>/deps/<this test> → target/<profile>/<name>
    let test = std::env::current_exe().expect("the path of this test");
    let path = test.parent().and_then(Path::parent).map(|dir| dir.join(name)).unwrap_or_default();
    assert!(path.is_file(), "{} is missing: run `cargo build --workspace` first", path.display());
    path
}

/// A command with an environment that holds nothing but `PATH` and what is given.
pub fn command<K, V>(name: &str, dir: &Path, env: impl IntoIterator<Item = (K, V)>) -> Command
where
    K: AsRef<OsStr>,
    V: AsRef<OsStr>,
{
    let mut command = Command::new(binary(name));
    command.current_dir(dir).env_clear().env("PATH", PATH).envs(env).stdin(Stdio::null());
    command
}

/// A running process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command`; what it writes goes to files in `dir` that are named after `name`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(name: &str, dir: &Path, mut command: Command) -> Self {
        let [stdout, stderr] = ["stdout", "stderr"].map(|stream| dir.join(format!("{name}.{stream}")));
        let create = |path: &Path| File::create(path).expect("a file for the output");
        command.stdout(create(&stdout)).stderr(create(&stderr));
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?} does not start: {e}"));
        Self { name: name.to_owned(), child, stdout, stderr }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to its standard output.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it wrote to its standard error, its log.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    /// When the system does not say.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the state of a child")
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it is still there after `deadline`.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        wait_until(&what, deadline, || self.ended())
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the process is no more.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a pid"));
        kill(pid, signal).unwrap_or_else(|e| panic!("{signal} to {}: {e}", self.name));
    }

    /// Kills it as the kernel would: nothing is flushed, nobody is told.
    ///
    /// # Panics
    /// When the system does not say how it ended.
    pub fn kill9(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::SIGKILL);
        }
        self.child.wait().expect("the end of a child");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let running = matches!(self.child.try_wait(), Ok(None));
        if running {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let state = if running { "ran" } else { "had ended" };
            eprintln!("--- {} ({state}); the end of its log:\n{}", self.name, tail(&self.stderr()));
        }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// The last lines of a log: enough to see what went wrong.
fn tail(log: &str) -> String {
    const LINES: usize = 40;
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
