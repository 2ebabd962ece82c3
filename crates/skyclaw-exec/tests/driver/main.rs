//! The driver against real processes.

#![expect(clippy::expect_used, reason = "helpers of tests fail by panicking")]

mod berths;
mod bounds;
mod ending;
mod environment;
mod groups;
mod keepers;
mod no_room;
mod nursery;
mod refusal;
mod switched;

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use skyclaw_exec::{Allowlist, Config, Driver, Openclaw, Outcome, RunSpec, Shim, stop_channel};

/// Far more than any run here takes.
const LONG: Duration = Duration::from_secs(60);

struct Bench {
    dir: tempfile::TempDir,
    driver: Driver,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// A driver whose configuration is not the usual one.
    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut config = config(dir.path());
        change(&mut config);
        let driver = Driver::new(config).expect("driver");
        Self { dir, driver }
    }

    /// A file scripts may write to, which outlives their run.
    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// A run beside which others may go on.
    async fn run_beside(&self, spec: RunSpec) -> Outcome {
        let (_stopper, stop) = stop_channel();
        tokio::time::timeout(LONG, self.driver.run(spec, stop)).await.expect("the run must end")
    }

    async fn run(&self, spec: RunSpec) -> Outcome {
        let outcome = self.run_beside(spec).await;
        assert_eq!(
            std::fs::read_dir(self.dir.path().join("runs")).expect("runs").count(),
            0,
            "nothing stays"
        );
        outcome
    }

    async fn sh(&self, script: &str) -> Outcome {
        self.run(sh(script)).await
    }
}

fn config(dir: &Path) -> Config {
    let path = std::env::var_os("PATH").expect("a PATH");
    Config {
        // Control groups are the machine's, so a host of a test is named by its folder.
        owner: format!("host-of-the-test.{}", dir.display()),
        allowlist: Allowlist::new(["sh", "missing-program"], &path),
        openclaw: Openclaw { command: "sh".into(), args: vec!["-c".into(), "exit 3".into()] },
        runs_dir: dir.join("runs"),
        base_dir: dir.to_owned(),
        default_timeout: LONG,
        stop_grace: Duration::from_secs(20),
        max_output_bytes: 10_000,
        shim: Shim { program: env!("CARGO_BIN_EXE_skyclaw-shim-under-test").into(), args: vec![] },
        user: None,
        writable: None,
        max_file_bytes: None,
        best_effort: false,
        halt: None,
    }
}

fn sh(script: &str) -> RunSpec {
    RunSpec::plain("sh", vec!["-c".into(), script.into()], &config(Path::new("/")))
}

/// The process whose id a script wrote to a file.
fn pid_in(file: &str) -> u32 {
    std::fs::read_to_string(file).expect("the script wrote its id").trim().parse().expect("an id")
}

fn parent(pid: u32) -> u32 {
    skyclaw_tests::process::parent(pid).expect("a parent")
}

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).expect("kill");
}

/// Whether a process lives; one that nobody reaped does not.
fn lives(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

async fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let patience = tokio::time::timeout(LONG, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(patience.await.is_ok(), "must come true: {what}");
}

async fn wait_for_file(path: &str) {
    wait_until(path, || Path::new(path).metadata().is_ok_and(|meta| meta.len() > 0)).await;
}
