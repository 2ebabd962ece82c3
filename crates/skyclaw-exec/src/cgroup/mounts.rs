//! Where the hierarchies of control groups are, and where in them a process is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Controller, Version};

/// The group a daemon moves itself to, so that version 2 lets the groups beside it be bounded.
const DAEMON: &str = "skyclaw-daemon";
/// What version 1 counts processor time by.
const ACCOUNTING: &str = "cpuacct";

/// One hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    /// Where it is mounted.
    pub(super) root: PathBuf,
    /// The group the process is in, or in whose other child it is.
    pub(super) own: PathBuf,
    /// What version 1 has here; in version 2, what there might be.
    pub(super) controllers: Vec<Controller>,
    /// Whether version 1 counts processor time here.
    pub(super) accounts: bool,
}

/// Those of this machine that are of use, with where this process is in them.
pub(super) fn hierarchies() -> Vec<Hierarchy> {
    read("/proc/self/cgroup")
}

/// The same with where another process is.
pub(super) fn hierarchies_of(pid: i32) -> Vec<Hierarchy> {
    read(&format!("/proc/{pid}/cgroup"))
}

fn read(cgroup: &str) -> Vec<Hierarchy> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    parse(&read("/proc/self/mountinfo"), &read(cgroup))
}

/// Every tree that is mounted, of either version.
pub(super) fn all_trees() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let found = table.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup").then(|| mount.split(' ').nth(4).map(PathBuf::from)).flatten()
    });
    found.collect()
}

/// A line of `/proc/self/mountinfo`: `… root mount-point options… - type source super-options`.
fn parse(mountinfo: &str, cgroup: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((mount, kind)) = line.split_once(" - ") else { continue };
        let (mount, kind): (Vec<_>, Vec<_>) = (mount.split(' ').collect(), kind.split(' ').collect());
        let (&[_, _, _, root, point, ..], &[kind, _, options, ..]) = (&mount[..], &kind[..]) else {
            continue;
        };
        let option = |name: &str| options.split(',').any(|option| option == name);
        let (version, controllers, accounts) = match kind {
            "cgroup2" => (Version::V2, Controller::ALL.to_vec(), false),
            "cgroup" => {
                let has = |it: &Controller| option(it.name());
                (Version::V1, Controller::ALL.into_iter().filter(has).collect(), option(ACCOUNTING))
            }
            _ => continue,
        };
        let Some(name) = controllers.first().map(|it| it.name()).or(accounts.then_some(ACCOUNTING)) else {
            continue;
        };
        let ours = cgroup.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, names, path) = (fields.next()?, fields.next()?, fields.next()?);
            let this = match version {
                Version::V2 => names.is_empty(),
                Version::V1 => names.split(',').any(|it| it == name),
            };
            this.then_some(path)
        });
        let Some(below) = ours.and_then(|path| Path::new(path).strip_prefix(root).ok()) else { continue };
        let root = PathBuf::from(point);
        let mut own = if below.as_os_str().is_empty() { root.clone() } else { root.join(below) };
        if own.ends_with(DAEMON) {
            own.pop();
        }
        let is_same =
            |it: &Hierarchy| (it.version, &it.controllers, it.accounts) == (version, &controllers, accounts);
        if !found.iter().any(is_same) {
            found.push(Hierarchy { version, root, own, controllers, accounts });
        }
    }
    found
}

impl Hierarchy {
    /// For people.
    pub(super) fn name(&self) -> String {
        match self.version {
            Version::V2 => "control groups, version 2".to_owned(),
            Version::V1 => {
                let names: Vec<_> = self.controllers.iter().map(|it| it.name()).collect();
                format!("control groups ({})", names.join(", "))
            }
        }
    }

    /// Whether any controller is bound to this version 2.
    pub(super) fn is_in_use(&self) -> bool {
        self.controllers.iter().any(|it| offers(&self.root, *it))
    }
}

/// Whether a group of version 2 has this to pass on.
pub(super) fn offers(dir: &Path, controller: Controller) -> bool {
    let offered = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    offered.split_whitespace().any(|name| name == controller.name())
}

/// Has what is below a group of version 2 bounded.
pub(super) fn pass_on(dir: &Path, controllers: &[Controller]) -> io::Result<()> {
    let names: Vec<_> = controllers.iter().map(|it| format!("+{}", it.name())).collect();
    let file = dir.join("cgroup.subtree_control");
    fs::write(&file, names.join(" ")).map_err(|error| super::at(&file, &error))
}

/// Has the groups below one of version 2 bounded. The kernel allows that where no process is in the group
/// itself: a daemon that has its group for itself moves into one below it.
pub(super) fn delegate(dir: &Path, controllers: &[Controller]) -> io::Result<()> {
    let Err(error) = pass_on(dir, controllers) else { return Ok(()) };
    let alone = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    if alone.trim() != std::process::id().to_string() {
        return Err(error);
    }
    let below = dir.join(DAEMON);
    super::base::make_dir(&below)?;
    fs::write(below.join("cgroup.procs"), "0").map_err(|error| super::at(&below, &error))?;
    pass_on(dir, controllers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found_where_this_process_is() {
        let mounts = "25 20 0:22 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
             26 20 0:23 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             27 20 0:24 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n\
             28 20 0:25 / /sys/fs/cgroup/unified rw shared:1 - cgroup2 cgroup2 rw\n\
             29 20 0:26 / /tmp rw - tmpfs tmpfs rw\n";
        let cgroup = "4:memory:/a/b\n2:cpu,cpuacct:/\n3:freezer:/\n0::/c/skyclaw-daemon\n";
        let found: Vec<_> =
            parse(mounts, cgroup).into_iter().map(|it| (it.version, it.own, it.accounts)).collect();
        let want = [
            (Version::V1, "/sys/fs/cgroup/memory/a/b", false),
            (Version::V1, "/sys/fs/cgroup/cpu,cpuacct", true),
            (Version::V2, "/sys/fs/cgroup/unified/c", false),
        ];
        assert_eq!(found, want.map(|(version, own, accounts)| (version, PathBuf::from(own), accounts)));
    }

    #[test]
    fn a_part_of_a_hierarchy_is_found_by_what_is_below_it() {
        let mounts = "28 20 0:25 /pod/a /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(parse(mounts, "0::/pod/a/b\n")[0].own, Path::new("/sys/fs/cgroup/b"));
        assert!(parse(mounts, "0::/elsewhere\n").is_empty());
    }

    #[test]
    fn a_tree_that_only_counts_processor_time_is_found() {
        let mounts = "33 31 0:30 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct\n";
        let found = parse(mounts, "2:cpuacct:/x\n");
        assert_eq!((found[0].accounts, found[0].controllers.len()), (true, 0));
        assert_eq!(found[0].own, Path::new("/sys/fs/cgroup/cpuacct/x"));
    }
}
