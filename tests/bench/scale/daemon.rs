//! The coordinator that is measured, and what the kernel says of its process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::time::ClockId;
use nix::unistd::Pid;
use skyclaw_tests::{Coordinator, Options, process};
use tempfile::TempDir;

use crate::Outcome;

/// Longer than any measurement: what is claimed stays claimed.
const LEASE_MS: &str = "86400000";
/// Longest a measurement waits for a coordinator.
const PATIENCE: Duration = Duration::from_secs(600);

/// A coordinator in a directory that is removed with it.
#[derive(Debug)]
pub(crate) struct Daemon {
    // Declared first, so that it has ended when the directory is removed.
    node: Coordinator,
    dir: TempDir,
}

impl Daemon {
    /// Starts one whose files lie below `place`.
    pub(crate) fn start(place: Option<&Path>) -> Outcome<Self> {
        Self::start_with(place, |options| options)
    }

    pub(crate) fn start_with(place: Option<&Path>, change: impl FnOnce(Options) -> Options) -> Outcome<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("skyclaw-scale-");
        let dir = place.map_or_else(|| builder.tempdir(), |place| builder.tempdir_in(place))?;
        let options = change(Options::default().env("SKYCLAW_LEASE_MS", LEASE_MS).env("SKYCLAW_LOG", "warn"));
        Ok(Self { node: options.start_in(dir.path()), dir })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.node.address()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn pid(&mut self) -> u32 {
        self.node.process().pid()
    }

    /// The time all its threads have had of all processors together.
    pub(crate) fn processor_time(&mut self) -> Duration {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a pid"));
        let clock = ClockId::pid_cpu_clock_id(pid).expect("the clock of a process that runs");
        clock.now().expect("its time").into()
    }

    /// How much of its memory is resident, in MiB.
    pub(crate) fn resident_mib(&mut self) -> f64 {
        let kib = process::resident_kib(self.pid()).expect("it runs");
        f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0
    }

    /// The same of the most it ever had.
    pub(crate) fn peak_mib(&mut self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        kib.unwrap_or(f64::NAN) / 1024.0
    }

    /// Ends it, as an operator does or as the kernel may.
    pub(crate) fn stop(&mut self, how: Stop) {
        match how {
            Stop::Clean => {
                self.node.process().signal(Signal::SIGTERM);
                let status = self.node.process().wait(PATIENCE);
                assert!(status.success(), "skyclawd ended with {status} after SIGTERM");
            }
            Stop::Kill => self.node.kill9(),
        }
    }

    /// Starts it again. How long it took until it was ready.
    pub(crate) fn restart(&mut self) -> Duration {
        let began = Instant::now();
        self.node.restart();
        let wire = self.node.wire();
        while !wire.get("/readyz").try_send().is_ok_and(|reply| reply.status == 200) {
            assert!(began.elapsed() < PATIENCE, "it does not become ready");
            std::thread::sleep(Duration::from_millis(2));
        }
        began.elapsed()
    }

    /// Waits until it has forgotten all finished jobs but this many. How long that took.
    pub(crate) fn forgotten(&mut self, but: usize) -> Duration {
        let began = Instant::now();
        let wire = self.node.wire();
        let path = format!("/v1/jobs?status=completed&limit={}", but + 1);
        while wire.get(&path).ok()["jobs"].as_array().is_none_or(|kept| kept.len() > but) {
            assert!(began.elapsed() < PATIENCE, "it does not forget");
            std::thread::sleep(Duration::from_millis(200));
        }
        began.elapsed()
    }

    /// Has the kernel forget what it remembers of its files, as after a boot of the machine.
    pub(crate) fn forget_files(&self) -> Outcome<()> {
        use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
        for path in files(self.dir())? {
            let file = std::fs::File::open(path)?;
            file.sync_all()?;
            posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        }
        Ok(())
    }

    /// How much its files take, in MiB.
    pub(crate) fn disk_mib(&self) -> Outcome<f64> {
        let lengths = files(self.dir())?.into_iter().filter_map(|path| Some(path.metadata().ok()?.len()));
        Ok(f64::from(u32::try_from(lengths.sum::<u64>() >> 10).unwrap_or(u32::MAX)) / 1024.0)
    }
}

/// How a coordinator ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stop {
    /// It is asked to.
    Clean,
    /// `kill -9`.
    Kill,
}

fn files(dir: &Path) -> Outcome<Vec<PathBuf>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            all.extend(files(&path)?);
        } else if path.is_file() {
            all.push(path);
        }
    }
    Ok(all)
}
