//! Where the hierarchies of control groups are, and where in them this daemon is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Controller, Version};

/// The group a daemon moves itself to, so that version 2 lets the groups beside it be bounded.
const DAEMON: &str = "skyclaw-daemon";

/// One hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    /// The group this process is in, or in whose other child it is.
    pub(super) own: PathBuf,
    /// What version 1 has here; in version 2, what there might be.
    pub(super) controllers: Vec<Controller>,
}

/// Those of this machine that are of use.
pub(super) fn hierarchies() -> Vec<Hierarchy> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
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
        let (version, controllers) = match kind {
            "cgroup2" => (Version::V2, Controller::ALL.to_vec()),
            "cgroup" => {
                let has = |it: &Controller| options.split(',').any(|option| option == it.name());
                (Version::V1, Controller::ALL.into_iter().filter(has).collect())
            }
            _ => continue,
        };
        if controllers.is_empty() {
            continue;
        }
        let ours = cgroup.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, names, path) = (fields.next()?, fields.next()?, fields.next()?);
            let this = match version {
                Version::V2 => names.is_empty(),
                Version::V1 => names.split(',').any(|name| name == controllers[0].name()),
            };
            this.then_some(path)
        });
        let Some(below) = ours.and_then(|path| Path::new(path).strip_prefix(root).ok()) else { continue };
        let mut own = Path::new(point).join(below);
        if own.ends_with(DAEMON) {
            own.pop();
        }
        if !found.iter().any(|it| it.version == version && it.controllers == controllers) {
            found.push(Hierarchy { version, own, controllers });
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

    /// Whether a group of version 2 has this to pass on.
    pub(super) fn offers(&self, controller: Controller) -> bool {
        let offered = fs::read_to_string(self.own.join("cgroup.controllers")).unwrap_or_default();
        offered.split_whitespace().any(|name| name == controller.name())
    }

    /// Has the groups below the daemon's own bounded. Version 2 allows that where no process is in the
    /// group itself: a daemon that has its group for itself moves into one below it.
    pub(super) fn delegate(&self, controllers: &[Controller]) -> io::Result<()> {
        let names: Vec<_> = controllers.iter().map(|it| format!("+{}", it.name())).collect();
        let enable = || fs::write(self.own.join("cgroup.subtree_control"), names.join(" "));
        let Err(error) = enable() else { return Ok(()) };
        let alone = fs::read_to_string(self.own.join("cgroup.procs"))?;
        if alone.trim() != std::process::id().to_string() {
            return Err(error);
        }
        let below = self.own.join(DAEMON);
        super::make_dir(&below)?;
        fs::write(below.join("cgroup.procs"), "0")?;
        enable()
    }
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
        let found: Vec<_> = parse(mounts, cgroup).into_iter().map(|it| (it.version, it.own)).collect();
        let want = [
            (Version::V1, "/sys/fs/cgroup/memory/a/b"),
            (Version::V1, "/sys/fs/cgroup/cpu,cpuacct/"),
            (Version::V2, "/sys/fs/cgroup/unified/c"),
        ];
        assert_eq!(found, want.map(|(version, own)| (version, PathBuf::from(own))));
    }

    #[test]
    fn a_part_of_a_hierarchy_is_found_by_what_is_below_it() {
        let mounts = "28 20 0:25 /pod/a /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(parse(mounts, "0::/pod/a/b\n")[0].own, Path::new("/sys/fs/cgroup/b"));
        assert!(parse(mounts, "0::/elsewhere\n").is_empty());
    }
}
