//! Control groups of runs: one for each, and one around all runs of an agent.
//!
//! ```text
//! skyclaw/HOST/                       nothing in it but groups
//!    agent-ID/                        the bound that all runs of the agent share
//!       RUN/                          the bound of the run; what it used, and whether memory ran out
//!          libpod-…/                  the container: made and removed by Podman
//!    RUN/                             a run of no agent
//! ```
//!
//! The run's group is not the container's own, because that is gone as soon as the container ends, and what
//! it counted with it. A limit is set on the run's group. Version 1 has such a tree for each controller,
//! version 2 one for all.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{Agent, Error, Limits, Usage};

/// The period over which a share of CPU is counted, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;
/// How much more a container's own group may have on version 1 than its run's: so it is the run's that runs
/// out first, which is where that is told after the container is gone.
const SLACK_BYTES: u64 = 64 << 10;
/// What is needed of version 1. The rest Podman does for itself.
const CONTROLLERS: [&str; 4] = ["memory", "cpu", "cpuacct", "pids"];

/// The trees of control groups on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Trees {
    v2: bool,
    /// Controllers and where their tree is; of version 2 one without a name.
    trees: Vec<(String, PathBuf)>,
    /// Where all groups of this host are, within each tree.
    base: PathBuf,
}

impl Trees {
    /// Those of this machine, from its table of mounts.
    pub(crate) fn find(v2: bool, owner: &str) -> io::Result<Self> {
        let table = fs::read_to_string("/proc/self/mountinfo")?;
        Ok(Self { v2, trees: trees(&table, v2), base: Path::new("skyclaw").join(name(owner)) })
    }

    /// Whether groups can be made, by making one.
    pub(crate) fn probe(&self) -> Result<(), Error> {
        let group = Group { path: self.base.join("probe") };
        let made = self.make_all(&group.path).and_then(|()| match self.v2 {
            true => self.has_all(&group.path),
            false => Ok(()),
        });
        self.remove(&group);
        made
    }

    /// Whether all controllers were handed down to a group of version 2.
    fn has_all(&self, path: &Path) -> Result<(), Error> {
        let tree = self.tree("").ok_or_else(|| absent("cgroup2"))?;
        let file = tree.join(path).join("cgroup.controllers");
        let found = fs::read_to_string(&file).map_err(|e| broken(&file, e))?;
        let missing = |name: &&&str| !found.split_whitespace().any(|found| found == **name);
        ["memory", "cpu", "pids"].iter().find(missing).map_or(Ok(()), |name| Err(absent(name)))
    }

    /// Makes the group of a run, and that of its agent.
    pub(crate) fn make(&self, agent: Option<&Agent>, run: &str) -> Result<Group, Error> {
        let parent = agent
            .map_or_else(|| self.base.clone(), |agent| self.base.join(format!("agent-{}", name(&agent.id))));
        let group = Group { path: parent.join(run) };
        // An agent's group may be removed by the end of its last run just as it is wanted again.
        let mut made = Ok(());
        for _ in 0..16 {
            made = self.make_all(&group.path);
            if made.is_ok() {
                break;
            }
        }
        made?;
        if let Some(agent) = agent {
            self.limit(&parent, agent.limits, 0)?;
        }
        Ok(group)
    }

    fn make_all(&self, path: &Path) -> Result<(), Error> {
        if self.v2 {
            return Self::make_v2(self.tree("").ok_or_else(|| absent("cgroup2"))?, path);
        }
        for controller in CONTROLLERS {
            let dir = self.tree(controller).ok_or_else(|| absent(controller))?.join(path);
            fs::create_dir_all(&dir).map_err(|e| broken(&dir, e))?;
        }
        Ok(())
    }

    /// On version 2 each group on the way must hand the controllers down.
    fn make_v2(tree: &Path, path: &Path) -> Result<(), Error> {
        let mut at = tree.to_owned();
        for part in path.components() {
            hand_down(&at)?;
            at.push(part);
            match fs::create_dir(&at) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(broken(&at, error)),
                _ => {}
            }
        }
        hand_down(&at)
    }

    /// Sets the bounds of a run's group.
    pub(crate) fn limit_run(&self, group: &Group, limits: Limits) -> Result<(), Error> {
        self.limit(&group.path, limits, 0)
    }

    /// Sets the bounds in a container's own group as well, where what runs in it can read them.
    pub(crate) fn show_limits(&self, pid: u32, limits: Limits) -> Result<(), Error> {
        let Some(path) = self.group_of(pid, "memory") else { return Ok(()) };
        self.limit(&path, Limits { pids: None, ..limits }, if self.v2 { 0 } else { SLACK_BYTES })
    }

    fn limit(&self, path: &Path, limits: Limits, slack: u64) -> Result<(), Error> {
        let memory = limits.memory_bytes.map(|bytes| bytes.saturating_add(slack));
        let text = |given: Option<u64>, none: &str| given.map_or_else(|| none.to_owned(), |n| n.to_string());
        let quota = limits.cpu_millis.map(|millis| millis.saturating_mul(CPU_PERIOD_US / 1000));
        if self.v2 {
            let dir = self.tree("").map(|tree| tree.join(path)).ok_or_else(|| absent("cgroup2"))?;
            set(&dir, "memory.max", &text(memory, "max"))?;
            // A machine without swap has no such files, and needs none.
            set_if_there(&dir, "memory.swap.max", if memory.is_some() { "0" } else { "max" })?;
            set(&dir, "cpu.max", &format!("{} {CPU_PERIOD_US}", text(quota, "max")))?;
            return set(&dir, "pids.max", &text(limits.pids, "max"));
        }
        let dir =
            |controller| self.tree(controller).map(|tree| tree.join(path)).ok_or_else(|| absent(controller));
        let (at, memory) = (dir("memory")?, text(memory, "-1"));
        // Memory may never exceed memory and swap, so which of them goes first depends on what was there.
        let first = set(&at, "memory.limit_in_bytes", &memory);
        set_if_there(&at, "memory.memsw.limit_in_bytes", &memory)?;
        if first.is_err() {
            set(&at, "memory.limit_in_bytes", &memory)?;
        }
        let at = dir("cpu")?;
        set(&at, "cpu.cfs_period_us", &CPU_PERIOD_US.to_string())?;
        set(&at, "cpu.cfs_quota_us", &text(quota, "-1"))?;
        set(&dir("pids")?, "pids.max", &text(limits.pids, "max"))
    }

    /// Has the kernel tell when a group runs out of memory. Version 2 counts by itself.
    pub(crate) fn watch(&self, group: &Group) -> Result<Watch, Error> {
        if self.v2 {
            return Ok(Watch(None));
        }
        let dir = self.tree("memory").map(|tree| tree.join(&group.path)).ok_or_else(|| absent("memory"))?;
        let path = dir.join("memory.oom_control");
        let told = (|| {
            let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
            let control = fs::File::open(&path)?;
            let line = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
            fs::write(dir.join("cgroup.event_control"), line)?;
            Ok(event)
        })();
        told.map(|event| Watch(Some(event))).map_err(|e| broken(&path, e))
    }

    /// What a group has used so far.
    pub(crate) fn usage(&self, path: &Path) -> Usage {
        if self.v2 {
            let Some(dir) = self.tree("").map(|tree| tree.join(path)) else { return Usage::default() };
            let stat = fs::read_to_string(dir.join("cpu.stat")).ok();
            return Usage {
                cpu: stat.and_then(|stat| field(&stat, "usage_usec")).map(Duration::from_micros),
                peak_memory_bytes: number(&dir.join("memory.peak")),
            };
        }
        let read = |controller, file| number(&self.tree(controller)?.join(path).join(file));
        Usage {
            cpu: read("cpuacct", "cpuacct.usage").map(Duration::from_nanos),
            peak_memory_bytes: read("memory", "memory.max_usage_in_bytes"),
        }
    }

    /// Has the peak begin now, where the kernel can.
    pub(crate) fn reset_peak(&self, path: &Path) {
        if let Some(tree) = self.tree("memory") {
            let _ = fs::write(tree.join(path).join("memory.max_usage_in_bytes"), "0");
        }
    }

    /// How often a process in this group was killed for want of memory.
    pub(crate) fn kills(&self, path: &Path) -> u64 {
        let (tree, file) = if self.v2 { ("", "memory.events") } else { ("memory", "memory.oom_control") };
        let text = self.tree(tree).and_then(|tree| fs::read_to_string(tree.join(path).join(file)).ok());
        text.and_then(|text| field(&text, "oom_kill")).unwrap_or_default()
    }

    /// Whether a group of version 1 was ever at its limit: all that is left to see when nobody watched.
    pub(crate) fn was_full(&self, path: &Path) -> bool {
        let file = self.tree("memory").map(|tree| tree.join(path).join("memory.failcnt"));
        file.and_then(|file| number(&file)).is_some_and(|times| times > 0)
    }

    /// The group that a process is in.
    pub(crate) fn group_of(&self, pid: u32, controller: &str) -> Option<PathBuf> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let path = text.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let wanted = if self.v2 {
                controllers.is_empty()
            } else {
                controllers.split(',').any(|c| c == controller)
            };
            wanted.then(|| path.trim_start_matches('/').to_owned())
        })?;
        Some(path.into())
    }

    /// Removes a group from all trees, with what Podman left in it, and its agent's when that is empty now.
    pub(crate) fn remove(&self, group: &Group) {
        if !group.is_plain() || !group.path.starts_with(&self.base) || group.path == self.base {
            return;
        }
        for tree in all_trees() {
            remove_tree(&tree.join(&group.path), 0);
            // Those above, as far as nothing else is in them: another run keeps them by being there.
            for above in group.path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
                let _ = fs::remove_dir(tree.join(above));
            }
        }
    }

    /// The groups of runs that are there.
    pub(crate) fn found(&self) -> Vec<Group> {
        let mut found = Vec::new();
        let here: Vec<_> = self.trees.iter().map(|(_, tree)| tree).collect();
        let directories = |dir: &Path| -> Vec<PathBuf> {
            let all = fs::read_dir(dir).into_iter().flatten().flatten();
            all.filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()))
                .map(|entry| entry.path())
                .collect()
        };
        let last = |path: &Path| {
            path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
        };
        for tree in here {
            for child in directories(&tree.join(&self.base)) {
                let groups =
                    if last(&child).starts_with("agent-") { directories(&child) } else { vec![child] };
                for dir in groups {
                    let Ok(path) = dir.strip_prefix(tree) else { continue };
                    let group = Group { path: path.to_owned() };
                    if !found.contains(&group) {
                        found.push(group);
                    }
                }
            }
        }
        found
    }

    fn tree(&self, controller: &str) -> Option<&Path> {
        self.trees.iter().find(|(name, _)| name == controller).map(|(_, tree)| tree.as_path())
    }
}

/// The group of a run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Group {
    /// Within each tree.
    pub(crate) path: PathBuf,
}

impl Group {
    /// As Podman wants the parent of a container's group.
    pub(crate) fn as_parent(&self) -> String {
        format!("/{}", self.path.display())
    }

    /// The run whose it is.
    pub(crate) fn run(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Whether the path is one that this driver could have made: it may come from a file.
    pub(crate) fn is_plain(&self) -> bool {
        self.path.components().all(|part| matches!(part, Component::Normal(_)))
    }
}

/// Hears of memory that ran out. Counts also while nobody looks.
#[derive(Debug)]
pub(crate) struct Watch(Option<EventFd>);

impl Watch {
    /// How often since it was last asked.
    pub(crate) fn times(&self) -> u64 {
        // Not ready means that it never happened.
        self.0.as_ref().and_then(|event| event.read().ok()).unwrap_or_default()
    }
}

/// A name that is one part of a path, whatever it was made from, and no other's.
pub(crate) fn name(id: &str) -> String {
    use std::fmt::Write as _;
    id.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => out.push(byte.into()),
            // Writing to a text cannot fail.
            _ => drop(write!(out, "%{byte:02x}")),
        }
        out
    })
}

fn trees(table: &str, v2: bool) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for line in table.lines() {
        let Some((mount, kind)) = line.split_once(" - ") else { continue };
        let Some(at) = mount.split(' ').nth(4) else { continue };
        let mut kind = kind.split(' ');
        match (kind.next(), kind.nth(1)) {
            (Some("cgroup2"), _) if v2 => return vec![(String::new(), at.into())],
            (Some("cgroup"), Some(options)) if !v2 => {
                let names = options.split(',').filter(|name| CONTROLLERS.contains(name));
                found.extend(names.map(|name| (name.to_owned(), PathBuf::from(at))));
            }
            _ => {}
        }
    }
    found
}

/// Every tree that is mounted, of either version: the runtime makes groups in all of them.
fn all_trees() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let found = table.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup").then(|| mount.split(' ').nth(4).map(PathBuf::from)).flatten()
    });
    found.collect()
}

/// Removes a group and those within it, which are few and not deep.
fn remove_tree(dir: &Path, depth: usize) {
    if depth < 8 {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_tree(&entry.path(), depth + 1);
            }
        }
    }
    let _ = fs::remove_dir(dir);
}

fn hand_down(dir: &Path) -> Result<(), Error> {
    set(dir, "cgroup.subtree_control", "+memory +cpu +pids")
}

fn set(dir: &Path, file: &str, value: &str) -> Result<(), Error> {
    let path = dir.join(file);
    fs::write(&path, value).map_err(|e| broken(&path, e))
}

fn set_if_there(dir: &Path, file: &str, value: &str) -> Result<(), Error> {
    if dir.join(file).exists() { set(dir, file, value) } else { Ok(()) }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn broken(path: &Path, source: io::Error) -> Error {
    Error::Cgroup { path: path.to_owned(), source }
}

fn absent(controller: &str) -> Error {
    Error::Cgroup { path: controller.into(), source: io::ErrorKind::NotFound.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
        24 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        25 24 0:23 / /sys/fs/cgroup/cpu,cpuacct rw shared:3 - cgroup cgroup rw,cpu,cpuacct\n\
        26 24 0:24 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        27 24 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_trees_of_either_version_are_found() {
        let found = |v2| trees(HYBRID, v2).into_iter().map(|(name, at)| format!("{name}={}", at.display()));
        assert_eq!(
            found(false).collect::<Vec<_>>(),
            [
                "cpu=/sys/fs/cgroup/cpu,cpuacct",
                "cpuacct=/sys/fs/cgroup/cpu,cpuacct",
                "memory=/sys/fs/cgroup/memory"
            ]
        );
        assert_eq!(found(true).collect::<Vec<_>>(), ["=/sys/fs/cgroup/unified"]);
    }

    #[test]
    fn a_name_is_one_part_of_a_path_and_no_other_id_has_it() {
        for (id, want) in [
            ("agent-7_A", "agent-7_A"),
            ("..", "%2e%2e"),
            ("a/b", "a%2fb"),
            ("a%2fb", "a%252fb"),
            ("é", "%c3%a9"),
        ] {
            assert_eq!(name(id), want);
        }
    }

    #[test]
    fn version_2_is_told_and_asked_in_its_own_files() {
        let dir = tempfile::tempdir().expect("a folder");
        let trees = Trees {
            v2: true,
            trees: vec![(String::new(), dir.path().to_owned())],
            base: "skyclaw/host".into(),
        };
        let limits = Limits { memory_bytes: Some(1 << 20), cpu_millis: Some(250), ..Limits::default() };
        let agent = Agent { id: "a".to_owned(), limits };
        let group = trees.make(Some(&agent), "skyclaw-1").expect("it is made");
        assert_eq!(group.as_parent(), "/skyclaw/host/agent-a/skyclaw-1");
        let read =
            |file: &str| fs::read_to_string(dir.path().join("skyclaw/host").join(file)).expect("a file");
        assert_eq!(read("cgroup.subtree_control"), "+memory +cpu +pids");
        assert_eq!(read("agent-a/memory.max"), "1048576");
        assert_eq!(read("agent-a/cpu.max"), "25000 100000");
        assert_eq!(read("agent-a/pids.max"), "max");
        let at = dir.path().join(&group.path);
        fs::write(at.join("memory.swap.max"), "max").expect("a file");
        trees.limit_run(&group, Limits { pids: Some(9), ..limits }).expect("it is set");
        assert_eq!(read("agent-a/skyclaw-1/memory.swap.max"), "0");
        assert_eq!(read("agent-a/skyclaw-1/pids.max"), "9");
        for (file, text) in [
            ("cpu.stat", "usage_usec 1500\nuser_usec 1000\n"),
            ("memory.peak", "4096\n"),
            ("memory.events", "low 0\noom 2\noom_kill 1\n"),
        ] {
            fs::write(at.join(file), text).expect("a file");
        }
        let usage = trees.usage(&group.path);
        assert_eq!((usage.cpu, usage.peak_memory_bytes), (Some(Duration::from_micros(1500)), Some(4096)));
        assert_eq!(trees.kills(&group.path), 1);
        assert_eq!(trees.found(), [group]);
    }
}
