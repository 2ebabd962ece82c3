//! What a host has of its runs on this machine: the processes that keep them, folders, control groups.
//!
//! It is looked for with the means of whoever has the machine, and a host is not asked.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::Host;
use crate::process;

/// A process, told from all others by its id and when it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its id.
    pub pid: u32,
    start: u64,
}

/// The processes of one run, as its shim wrote them down.
#[derive(Debug, Clone, Copy)]
pub struct Keepers {
    /// Keeps the run.
    pub shim: Known,
    /// Below the shim; the parent of the run's first process.
    pub guard: Known,
    /// The run's first process.
    pub leader: Known,
    /// What watches its container (conmon), of a run in one. Its first process is the launcher then.
    pub monitor: Option<Known>,
}

impl Known {
    fn read(value: &Value) -> Option<Self> {
        let pid = u32::try_from(value["pid"].as_u64()?).ok()?;
        Some(Self { pid, start: value["start"].as_u64()? })
    }

    /// The parent of a process that is there.
    fn parent_of(&self) -> Option<Self> {
        let pid = process::parent(self.pid)?;
        Some(Self { pid, start: process::started(pid)? })
    }

    /// Whether it is there, and not dead.
    #[must_use]
    pub fn lives(&self) -> bool {
        process::started(self.pid) == Some(self.start)
    }

    /// Sends it a signal, if it is still there.
    ///
    /// # Panics
    /// When its id is none.
    pub fn signal(&self, signal: Signal) {
        if self.lives() {
            let _ = kill(Pid::from_raw(i32::try_from(self.pid).expect("a pid")), signal);
        }
    }
}

impl Host {
    /// The processes of a run that has begun here.
    #[must_use]
    pub fn keepers(&self, run: &str) -> Option<Keepers> {
        let read = |name: &str| -> Option<Value> {
            let text = fs::read(self.runs_dir().join(run).join("control").join(name)).ok()?;
            serde_json::from_slice(&text).ok()
        };
        let (told, label) = (read("processes.json")?, read("label.json")?);
        let known = |who: &str| Known::read(&told[who]);
        let leader = known("leader")?;
        let monitor = if label["container"].is_string() { Some(leader.parent_of()?) } else { None };
        Some(Keepers { shim: known("shim")?, guard: known("guard")?, leader, monitor })
    }

    /// Where each run has its folder.
    #[must_use]
    pub fn runs_dir(&self) -> PathBuf {
        self.state_dir().join("runs")
    }

    /// What is there of runs: folders, outcomes that nobody has heard, control groups, and processes that
    /// have one of `marks` in their command line. What waits for the next run is none of that.
    #[must_use]
    pub fn left(&self, marks: &[impl AsRef<str>]) -> Vec<String> {
        let (runs, waiting) = self.places();
        let mut left: Vec<_> =
            runs.iter().map(|run| self.runs_dir().join(run).display().to_string()).collect();
        let completions = fs::read_dir(self.state_dir().join("completions")).into_iter().flatten().flatten();
        left.extend(completions.map(|entry| entry.path().display().to_string()));
        let is_left = |group: &PathBuf| !waiting.iter().any(|run| group.ends_with(run));
        left.extend(self.groups().into_iter().filter(is_left).map(|dir| dir.display().to_string()));
        let lines = process::command_lines();
        let of_a_run = lines.into_iter().filter(|line| marks.iter().any(|mark| line.contains(mark.as_ref())));
        left.extend(of_a_run.map(|line| line.replace('\n', " ")));
        left
    }

    /// The folders of runs, and those that wait for one: these have a label in which nothing is written yet.
    #[must_use]
    pub fn places(&self) -> (Vec<String>, Vec<String>) {
        let entries = fs::read_dir(self.runs_dir()).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.partition(|run| {
            let label = self.runs_dir().join(run).join("control/label.json");
            label.metadata().map_or(true, |label| label.len() > 0)
        })
    }

    /// The control groups that are there for its runs, in any hierarchy.
    fn groups(&self) -> Vec<PathBuf> {
        let mark = fs::read_to_string(self.state_dir().join("owner")).unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let hierarchies = mounts.lines().filter(|line| line.contains(" - cgroup"));
        let mut found = Vec::new();
        for root in hierarchies.filter_map(|line| line.split(' ').nth(4)) {
            find(Path::new(root), "run-", &mut found);
        }
        found.retain(|group| !mark.trim().is_empty() && group.to_string_lossy().contains(mark.trim()));
        found
    }
}

/// Every folder below `dir` whose name begins so.
fn find(dir: &Path, start: &str, found: &mut Vec<PathBuf>) {
    let below = fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        if entry.file_name().to_string_lossy().starts_with(start) {
            found.push(entry.path());
        } else {
            find(&entry.path(), start, found);
        }
    }
}
