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

/// Names the directory of the binaries under test, when they are not those built beside the tests.
pub const BINARIES: &str = "SKYCLAW_TEST_BINARIES";

/// The path of a built binary.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    // Or else: target/<profile>/deps/<this test> → target/<profile>/<name>
    let given = std::env::var_os(BINARIES).map(PathBuf::from);
    let test = std::env::current_exe().expect("the path of this test");
    let built = || test.parent().and_then(Path::parent).map(Path::to_owned).unwrap_or_default();
    let path = given.unwrap_or_else(built).join(name);
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

    /// Whether it would handle this signal, as the kernel tells.
    #[must_use]
    pub fn catches(&self, signal: Signal) -> bool {
        let status = of(self.pid(), "status");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
        caught >> (signal as u32 - 1) & 1 == 1
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

/// The command lines of all processes on this machine but this one.
///
/// # Panics
/// When the kernel lists no processes.
#[must_use]
pub fn command_lines() -> Vec<String> {
    let own = std::process::id();
    pids().filter(|pid| *pid != own).map(|pid| of(pid, "cmdline")).collect()
}

/// The environment a process was started with.
#[must_use]
pub fn environment(pid: u32) -> String {
    of(pid, "environ")
}

/// The processes below `pid`, at any depth.
///
/// # Panics
/// When the kernel lists no processes.
#[must_use]
pub fn descendants(pid: u32) -> Vec<u32> {
    let children = pids().filter(|child| parent(*child) == Some(pid));
    children.flat_map(|child| [vec![child], descendants(child)].concat()).collect()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("the list of processes");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The parent of a process.
#[must_use]
pub fn parent(pid: u32) -> Option<u32> {
    stat(pid, 1)?.parse().ok()
}

/// When a process was started, in the kernel's ticks; `None` when it is dead or gone.
#[must_use]
pub fn started(pid: u32) -> Option<u64> {
    let dead = matches!(stat(pid, 0)?.as_str(), "Z" | "X");
    if dead { None } else { stat(pid, 19)?.parse().ok() }
}

/// How much memory of a process is resident, in KiB; `None` when it is gone.
#[must_use]
pub fn resident_kib(pid: u32) -> Option<u64> {
    let status = of(pid, "status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// A word of what the kernel says of a process, counted after the name, which stands in brackets and may hold
/// anything.
fn stat(pid: u32, word: usize) -> Option<String> {
    let stat = of(pid, "stat");
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(word).map(str::to_owned)
}

/// A file of a process, empty when it is gone; what is between zeros is on lines of its own.
fn of(pid: u32, file: &str) -> String {
    read(Path::new(&format!("/proc/{pid}/{file}"))).replace('\0', "\n")
}
