//! One control group.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc::pid_t;
use nix::sys::eventfd::{EfdFlags, EventFd};
use serde::{Deserialize, Serialize};

use super::{Controller, Version};
use crate::Resources;

/// The period that shares of the processors are counted in, in microseconds.
const PERIOD_US: u64 = 100_000;

/// The group of a run in one hierarchy.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Group {
    pub(crate) dir: PathBuf,
    version: Version,
    bounds: Vec<Controller>,
}

/// What a group has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) cpu: Option<Duration>,
    pub(crate) peak_memory_bytes: Option<u64>,
    /// How many of its processes were killed for want of memory.
    pub(crate) oom_kills: u64,
}

/// Hears of memory that ran out. Counts also while nobody looks.
#[derive(Debug)]
pub(crate) struct OomWatch(EventFd);

impl OomWatch {
    /// How often since it was last asked.
    pub(crate) fn times(&self) -> u64 {
        // Not ready means that it never happened.
        self.0.read().unwrap_or_default()
    }
}

impl Group {
    pub(super) fn make(dir: PathBuf, version: Version, bounds: Vec<Controller>) -> io::Result<Self> {
        fs::create_dir(&dir)?;
        Ok(Self { dir, version, bounds })
    }

    /// One that others are in.
    pub(super) fn shared(dir: PathBuf, version: Version, bounds: Vec<Controller>) -> Self {
        Self { dir, version, bounds }
    }

    /// One of a run that nobody knows.
    pub(crate) fn found(dir: PathBuf, version: Version) -> Self {
        Self { dir, version, bounds: Vec::new() }
    }

    /// The file that a process with one thread moves itself by writing `0` to. Version 1's `tasks` takes
    /// no lock of the whole machine for that.
    pub(crate) fn door(&self) -> PathBuf {
        self.dir.join(if self.version == Version::V1 { "tasks" } else { "cgroup.procs" })
    }

    pub(super) fn limit(&self, resources: &Resources) -> io::Result<()> {
        let v2 = self.version == Version::V2;
        for controller in &self.bounds {
            match controller {
                Controller::Memory => {
                    let Some(bytes) = resources.memory_bytes else { continue };
                    if v2 {
                        self.write("memory.max", bytes)?;
                        // A run that is over its bound is over as a whole.
                        self.write_if_there("memory.oom.group", 1)?;
                        self.write_if_there("memory.swap.max", 0)?;
                    } else {
                        self.limit_memory_v1(bytes)?;
                    }
                }
                Controller::Cpu => {
                    let Some(millis) = resources.cpu_millis else { continue };
                    let quota = u64::from(millis) * PERIOD_US / 1000;
                    if v2 {
                        fs::write(self.dir.join("cpu.max"), format!("{quota} {PERIOD_US}"))?;
                    } else {
                        self.write("cpu.cfs_period_us", PERIOD_US)?;
                        self.write("cpu.cfs_quota_us", quota)?;
                    }
                }
                Controller::Pids => {
                    if let Some(pids) = resources.pids {
                        self.write("pids.max", pids)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Memory, and memory with swap, which may never be less: so whether the bound grows or shrinks
    /// decides which comes first.
    fn limit_memory_v1(&self, bytes: u64) -> io::Result<()> {
        let first = self.write("memory.limit_in_bytes", bytes);
        self.write_if_there("memory.memsw.limit_in_bytes", bytes)?;
        if first.is_err() {
            self.write("memory.limit_in_bytes", bytes)?;
        }
        Ok(())
    }

    fn write(&self, file: &str, value: u64) -> io::Result<()> {
        fs::write(self.dir.join(file), value.to_string())
    }

    fn write_if_there(&self, file: &str, value: u64) -> io::Result<()> {
        if self.dir.join(file).exists() { self.write(file, value) } else { Ok(()) }
    }

    /// Kills all in it at once, where the kernel can.
    pub(crate) fn kill(&self) -> bool {
        self.version == Version::V2 && fs::write(self.dir.join("cgroup.kill"), "1").is_ok()
    }

    /// The processes in it.
    pub(crate) fn members(&self) -> Vec<pid_t> {
        let members = fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
        members.lines().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// What was used by all that was ever in it.
    pub(crate) fn spent(&self) -> Spent {
        let read = |file: &str| fs::read_to_string(self.dir.join(file)).unwrap_or_default();
        let number = |file: &str| read(file).trim().parse::<u64>().ok();
        let field = |file: &str, name: &str| {
            let text = read(file);
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            value.and_then(|value| value.trim().parse::<u64>().ok())
        };
        if self.version == Version::V2 {
            Spent {
                cpu: field("cpu.stat", "usage_usec").map(Duration::from_micros),
                peak_memory_bytes: number("memory.peak"),
                oom_kills: field("memory.events", "oom_kill").unwrap_or(0),
            }
        } else {
            Spent {
                cpu: number("cpuacct.usage").map(Duration::from_nanos),
                peak_memory_bytes: number("memory.max_usage_in_bytes"),
                oom_kills: field("memory.oom_control", "oom_kill").unwrap_or(0),
            }
        }
    }

    /// Has the kernel tell when it runs out of memory, where that is not counted for all below it: in
    /// version 1, as far as it is of use here.
    pub(crate) fn watch_memory(&self) -> io::Result<Option<OomWatch>> {
        let control = self.dir.join("memory.oom_control");
        if self.version == Version::V2 || !control.exists() {
            return Ok(None);
        }
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let control = fs::File::open(control)?;
        let line = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
        fs::write(self.dir.join("cgroup.event_control"), line)?;
        Ok(Some(OomWatch(event)))
    }

    /// Whether a group of version 1 was ever at its limit: all that is left to see when nobody watched.
    pub(crate) fn was_full(&self) -> bool {
        let times = fs::read_to_string(self.dir.join("memory.failcnt")).ok();
        times.and_then(|times| times.trim().parse::<u64>().ok()).is_some_and(|times| times > 0)
    }

    /// Removes it, and what is above it and ours when that is empty now. It must be empty itself.
    pub(crate) fn remove(&self) {
        remove_tree(&self.dir);
        for above in self.dir.ancestors().skip(1) {
            let name = above.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let ours = name.starts_with("agent-") || name.starts_with("skyclaw-");
            // Refused as long as another run is in it.
            if !ours || fs::remove_dir(above).is_err() {
                return;
            }
        }
    }
}

/// Removes a group and those that a run made in it.
fn remove_tree(dir: &Path) {
    for (_, below) in super::directories(dir) {
        remove_tree(&below);
    }
    let _ = fs::remove_dir(dir);
}
