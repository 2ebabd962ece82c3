//! One control group.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc::pid_t;
use serde::{Deserialize, Serialize};

use super::{AGENT, Controller, TOP, Version};
use crate::Resources;

/// The period that shares of the processors are counted in, in microseconds.
const PERIOD_US: u64 = 100_000;
/// From here on a number of bytes means that nothing is bounded: what version 1 says is the largest there is.
const UNBOUNDED: u64 = 1 << 60;

/// The group of a run in one hierarchy. What is written down of it is read by daemons and shims of other
/// versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Group {
    pub(crate) dir: PathBuf,
    pub(super) version: Version,
    pub(super) bounds: Vec<Controller>,
}

/// What a group has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) cpu: Option<Duration>,
    pub(crate) peak_memory_bytes: Option<u64>,
    /// How many of its processes were killed for want of memory.
    pub(crate) oom_kills: u64,
}

impl Spent {
    /// What the groups of a run say together: each has some of it.
    pub(crate) fn of(groups: &[Group]) -> Self {
        groups.iter().map(Group::spent).fold(Self::default(), |all, one| Self {
            cpu: one.cpu.or(all.cpu),
            peak_memory_bytes: one.peak_memory_bytes.or(all.peak_memory_bytes),
            oom_kills: all.oom_kills + one.oom_kills,
        })
    }
}

impl Group {
    /// One that is there, or is to be made, and bounds this.
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

    /// Whether a process can be born in it, and need not move. Version 1 has no such thing.
    pub(crate) fn can_be_born_in(&self) -> bool {
        self.version == Version::V2
    }

    /// Sets what is asked for, memory by `slack` more on version 1.
    pub(crate) fn limit(&self, resources: &Resources, slack: u64) -> io::Result<()> {
        self.bounds.iter().try_for_each(|controller| match asked(*controller, resources) {
            Some(value) => self.set(*controller, value, slack),
            None => Ok(()),
        })
    }

    /// Sets what is asked for where it is more than what is there: what runs already must not be cut short.
    pub(super) fn raise(&self, resources: &Resources) -> io::Result<()> {
        self.bounds.iter().try_for_each(|controller| match asked(*controller, resources) {
            Some(value) if self.bound(*controller)?.is_none_or(|bound| bound < value) => {
                self.set(*controller, value, 0)
            }
            _ => Ok(()),
        })
    }

    fn set(&self, controller: Controller, value: u64, slack: u64) -> io::Result<()> {
        let v2 = self.version == Version::V2;
        match controller {
            Controller::Memory if v2 => {
                self.write("memory.max", value)?;
                self.write_if_there("memory.swap.max", 0)
            }
            Controller::Memory => self.limit_memory_v1(value.saturating_add(slack)),
            Controller::Cpu if v2 => self.write("cpu.max", format_args!("{value} {PERIOD_US}")),
            Controller::Cpu => {
                self.write("cpu.cfs_period_us", PERIOD_US)?;
                self.write("cpu.cfs_quota_us", value)
            }
            Controller::Pids => self.write("pids.max", value),
        }
    }

    /// What bounds it now, in the controller's own unit.
    fn bound(&self, controller: Controller) -> io::Result<Option<u64>> {
        let file = match (controller, self.version) {
            (Controller::Memory, Version::V2) => "memory.max",
            (Controller::Memory, Version::V1) => "memory.limit_in_bytes",
            (Controller::Cpu, Version::V2) => "cpu.max",
            (Controller::Cpu, Version::V1) => "cpu.cfs_quota_us",
            (Controller::Pids, _) => "pids.max",
        };
        let path = self.dir.join(file);
        let text = fs::read_to_string(&path).map_err(|error| super::at(&path, &error))?;
        // `max`, or -1, or more than any machine has.
        let number = text.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
        Ok(number.filter(|number| *number < UNBOUNDED))
    }

    /// Has all of a run end when the kernel must kill one of its processes for want of memory, where it can.
    pub(super) fn end_as_one(&self) -> io::Result<()> {
        match self.version {
            Version::V2 if self.bounds.contains(&Controller::Memory) => {
                self.write_if_there("memory.oom.group", 1)
            }
            _ => Ok(()),
        }
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

    fn write(&self, file: &str, value: impl std::fmt::Display) -> io::Result<()> {
        let path = self.dir.join(file);
        fs::write(&path, value.to_string()).map_err(|error| super::at(&path, &error))
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
        if self.version == Version::V2 {
            Spent {
                cpu: self.field("cpu.stat", "usage_usec").map(Duration::from_micros),
                peak_memory_bytes: self.number("memory.peak"),
                oom_kills: self.field("memory.events", "oom_kill").unwrap_or(0),
            }
        } else {
            Spent {
                cpu: self.number("cpuacct.usage").map(Duration::from_nanos),
                peak_memory_bytes: self.number("memory.max_usage_in_bytes"),
                oom_kills: self.field("memory.oom_control", "oom_kill").unwrap_or(0),
            }
        }
    }

    /// Has the peak begin now, where the kernel can.
    pub(crate) fn reset_peak(&self) {
        let _ = self.write_if_there("memory.max_usage_in_bytes", 0);
    }

    /// Whether a group of version 1 was ever at its bound: all that is left to see when nobody watched.
    pub(crate) fn was_full(&self) -> bool {
        self.number("memory.failcnt").is_some_and(|times| times > 0)
    }

    fn number(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.dir.join(file)).ok()?.trim().parse().ok()
    }

    fn field(&self, file: &str, name: &str) -> Option<u64> {
        let text = fs::read_to_string(self.dir.join(file)).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    }

    /// Removes it, and what is above it and ours when that is empty now. It must be empty itself.
    pub(crate) fn remove(&self) {
        remove_with_above(&self.dir);
    }
}

/// What is asked of a controller, in its own unit.
fn asked(controller: Controller, resources: &Resources) -> Option<u64> {
    match controller {
        Controller::Memory => resources.memory_bytes,
        Controller::Cpu => resources.cpu_millis.map(|millis| millis.saturating_mul(PERIOD_US / 1000)),
        Controller::Pids => resources.pids,
    }
}

/// Removes a group with those in it, and what is above it and ours when that is empty now.
pub(super) fn remove_with_above(dir: &Path) {
    remove_tree(dir, 0);
    if let Some(above) = dir.parent() {
        remove_empty_above(above);
    }
}

/// Removes a group and those above it, as far as they are ours and empty.
pub(super) fn remove_empty_above(dir: &Path) {
    for above in dir.ancestors() {
        // Refused as long as another run is in it; what is not there may still have something above it.
        let gone = match fs::remove_dir(above) {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(()) => true,
        };
        if !gone || !above.parent().is_some_and(is_ours) {
            return;
        }
    }
}

/// Whether a group is one that we make above those of runs.
fn is_ours(dir: &Path) -> bool {
    let name =
        |dir: &Path| dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let this = name(dir);
    let below_top = dir.parent().is_some_and(|above| name(above) == TOP);
    this == TOP || below_top || this.starts_with(AGENT) || is_of_older_daemon(&this)
}

/// What an older daemon called its folder: after the device and inode of the directory of its runs.
fn is_of_older_daemon(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let numbers = name.strip_prefix("skyclaw-").and_then(|rest| rest.split_once('-'));
    numbers.is_some_and(|(device, inode)| number(device) && number(inode))
}

/// Removes a group and those that were made in it, which are few and not deep.
fn remove_tree(dir: &Path, depth: usize) {
    if depth < 8 {
        for (_, below) in super::directories(dir) {
            remove_tree(&below, depth + 1);
        }
    }
    let _ = fs::remove_dir(dir);
}
