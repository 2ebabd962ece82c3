//! Control groups: what bounds a run, and what a run cannot leave.
//!
//! ```text
//! skyclaw/HOST/                        nothing in it but groups
//!     agent-ID/                        the bound that all runs of the agent share
//!         RUN/                         a run: its processes, and its bound
//!         RUN/libpod-…/                a run in a container: made and removed by the engine
//!     RUN/                             a run of no agent
//! ```
//! Processes and containers are in the same tree, so an agent has one bound for all it runs. The group of a
//! container's run is around the container's own, which is gone as soon as the container ends, and with it
//! what it counted.
//!
//! Version 2 has one tree, and ours begins in the daemon's own group where that may be divided (a unit with
//! `Delegate=`), as whoever manages the machine's groups leaves that part alone. Version 1 has a tree for each
//! controller, and an engine takes one path for all of them, so ours begins at the root of each. Beside
//! version 1 there may be an empty version 2, which bounds nothing and kills all of a run at once.
//!
//! Groups are there only while runs are in them: a daemon that is killed leaves none that is of no use. Those
//! above a run are made when the run needs them, and removed by the last one to end.

mod base;
mod group;
mod mounts;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use base::Base;
pub(crate) use group::{Group, Spent};
pub(crate) use watch::Watch;

use crate::Resources;

/// The folder all our groups are in.
const TOP: &str = "skyclaw";
/// What the group of an agent's runs begins with.
const AGENT: &str = "agent-";
/// Longest part of a path that is made from a name, in bytes.
const MAX_NAME: usize = 200;

/// What can be bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Controller {
    Memory,
    Cpu,
    Pids,
}

impl Controller {
    pub(crate) const ALL: [Self; 3] = [Self::Memory, Self::Cpu, Self::Pids];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }
}

/// Which of the two versions a machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Version {
    /// Version 2 alone.
    V2,
    /// Version 1, perhaps with an empty version 2 beside it.
    V1,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V2 => "version 2",
            Self::V1 => "version 1",
        })
    }
}

/// What is in a run's group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Member {
    /// Processes.
    Processes,
    /// The group of a container.
    Container,
}

/// A run whose groups are to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) run: &'a str,
    pub(crate) member: Member,
    pub(crate) resources: Resources,
    /// Its agent, and what all runs of that may use together.
    pub(crate) agent: Option<(&'a str, Resources)>,
}

/// The groups that one host may make.
#[derive(Debug, Default)]
pub(crate) struct Cgroups {
    /// Where ours begin, in each hierarchy that can be used.
    bases: Vec<Base>,
    /// Folders of an earlier layout, in which runs of an older daemon may still be.
    earlier: Vec<(PathBuf, Version)>,
    /// What cannot be used, and why.
    pub(crate) missing: Vec<(String, String)>,
}

impl Cgroups {
    /// Finds out what the host `owner` can use, by doing it. Groups that an older daemon named after
    /// `runs_dir` are found as well.
    pub(crate) fn open(owner: &str, runs_dir: Option<&Path>) -> Self {
        let mut this = Self::default();
        let earlier = runs_dir.and_then(|dir| dir.metadata().ok());
        let earlier = earlier.map(|meta| format!("{TOP}-{:x}-{:x}", meta.dev(), meta.ino()));
        for hierarchy in mounts::hierarchies() {
            if let Some(name) = &earlier {
                this.earlier.push((hierarchy.own.join(name), hierarchy.version));
            }
            match Base::open(&hierarchy, owner) {
                Ok(base) => this.bases.push(base),
                Err(error) if hierarchy.controllers.is_empty() => {
                    tracing::debug!(%error, "processor time is not counted for groups");
                }
                Err(error) => this.missing.push((hierarchy.name(), error.to_string())),
            }
        }
        let missing: Vec<_> = Controller::ALL.into_iter().filter(|it| !this.has(*it)).collect();
        for controller in missing {
            if !this.missing.iter().any(|(what, _)| what.contains(controller.name())) {
                let why = "no control group with it can be made here".to_owned();
                this.missing.push((format!("control groups ({})", controller.name()), why));
            }
        }
        this
    }

    /// Whether this can be bounded.
    pub(crate) fn has(&self, controller: Controller) -> bool {
        self.bases.iter().any(|base| base.controllers.contains(&controller))
    }

    /// The version that bounds, or that kills where nothing bounds.
    pub(crate) fn version(&self) -> Option<Version> {
        let bounds = self.bases.iter().find(|base| !base.controllers.is_empty());
        bounds.or(self.bases.first()).map(|base| base.version)
    }

    /// Whether all of a run can be killed at once.
    pub(crate) fn can_kill(&self) -> bool {
        self.bases.iter().any(|base| base.kills)
    }

    /// Whether containers can be put into groups of ours, and if not, why.
    pub(crate) fn takes_containers(&self) -> Result<(), String> {
        let named = |(what, why): &(String, String)| format!("{what}: {why}");
        if let Some(missing) = Controller::ALL.into_iter().find(|it| !self.has(*it)) {
            let why = self.missing.iter().find(|(what, _)| what.contains(missing.name()));
            let why = why.or(self.missing.first()).map_or_else(String::new, named);
            return Err(format!("no group with {} can be made ({why})", missing.name()));
        }
        let mut places = self.for_containers().map(Base::place);
        let first = places.next().flatten();
        if first.is_none() || places.any(|place| place != first) {
            return Err("the daemon's groups are not at one path in all hierarchies".to_owned());
        }
        Ok(())
    }

    fn for_containers(&self) -> impl Iterator<Item = &Base> {
        // An empty version 2 beside version 1 is not where an engine puts containers.
        self.bases.iter().filter(|base| base.version == Version::V1 || !base.controllers.is_empty())
    }

    /// Makes the groups of a run, and those above them that are not there: to kill it by, where nothing bounds
    /// it, and those that bound what is asked for. A run of an agent is in all there are, as what bounds the
    /// agent may be asked for by another.
    pub(crate) fn make(&self, wanted: &Wanted<'_>) -> io::Result<Vec<Group>> {
        let mut made = Vec::new();
        let done = match wanted.member {
            Member::Container => self.for_containers().try_for_each(|base| base.make(wanted, &mut made)),
            Member::Processes => {
                // Version 1 cannot kill by itself; a hierarchy that bounds nothing of this run is of no use.
                let all = wanted.agent.is_some();
                let asked =
                    |base: &&Base| base.controllers.iter().any(|it| all || wanted.resources.asks_for(*it));
                let of_use = |base: &&Base| base.version == Version::V2 || asked(base);
                self.bases.iter().filter(of_use).try_for_each(|base| base.make(wanted, &mut made))
            }
        };
        match done {
            Ok(()) => Ok(made),
            Err(error) => {
                made.iter().for_each(Group::remove);
                Err(error)
            }
        }
    }

    /// The groups of runs that are there, by run, in the layout of today and the one before.
    pub(crate) fn left(&self) -> BTreeMap<String, Vec<Group>> {
        let mut found: BTreeMap<String, Vec<Group>> = BTreeMap::new();
        let here = self.bases.iter().map(|base| (&base.dir, base.version));
        for (dir, version) in here.chain(self.earlier.iter().map(|(dir, version)| (dir, *version))) {
            for (name, child) in directories(dir) {
                if !name.starts_with(AGENT) {
                    found.entry(name).or_default().push(Group::found(child, version));
                    continue;
                }
                for (run, of_agent) in directories(&child) {
                    found.entry(run).or_default().push(Group::found(of_agent, version));
                }
                // Gone when it is empty, refused when not.
                let _ = fs::remove_dir(&child);
            }
            group::remove_empty_above(dir);
        }
        found
    }

    /// As an engine wants the parent of a container's group.
    pub(crate) fn parent(&self, groups: &[Group]) -> Option<String> {
        Some(format!("/{}", self.place(groups)?.display()))
    }

    /// Removes the groups of a container's run from all trees, with what the engine left in them: it makes
    /// groups in those as well that bound nothing. Only what is ours is touched: groups may come from a file.
    pub(crate) fn remove_container(&self, groups: &[Group]) {
        let Some(place) = self.place(groups) else { return };
        for tree in mounts::all_trees() {
            group::remove_with_above(&tree.join(&place));
        }
    }

    /// The same by the name of the run, also when only an engine's groups are left of it.
    pub(crate) fn remove_run(&self, run: &str) {
        let places: BTreeSet<_> = self.for_containers().filter_map(Base::place).collect();
        for tree in mounts::all_trees() {
            for place in places.iter().map(|place| tree.join(place)) {
                let agents = directories(&place).into_iter().filter(|(name, _)| name.starts_with(AGENT));
                let parents = agents.map(|(_, dir)| dir).chain([place]);
                for dir in parents.map(|parent| parent.join(run)).filter(|dir| dir.is_dir()) {
                    group::remove_with_above(&dir);
                }
            }
        }
    }

    /// Where the groups of a container's run are, within each tree.
    fn place(&self, groups: &[Group]) -> Option<PathBuf> {
        let dir = &groups.first()?.dir;
        let base = self.for_containers().find(|base| dir.starts_with(&base.dir) && *dir != base.dir)?;
        let place = dir.strip_prefix(&base.root).ok()?;
        let plain = place.components().all(|part| matches!(part, Component::Normal(_)));
        plain.then(|| place.to_owned())
    }

    /// The groups a process is in, which need not be ours.
    pub(crate) fn of_process(pid: i32) -> Vec<Group> {
        mounts::hierarchies_of(pid)
            .into_iter()
            .filter(|it| it.version == Version::V1 || it.is_in_use())
            .map(|it| Group::shared(it.own, it.version, it.controllers))
            .collect()
    }
}

/// An error that says where.
fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn directories(dir: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path()))).collect()
}

/// A name that is one part of a path, whatever it was made from, and no other's.
fn encoded(name: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    let mut encoded: String = name
        .bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") })
        .collect();
    if encoded.len() > MAX_NAME {
        // The same in one daemon at all times, which is all that counts.
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        encoded.truncate(MAX_NAME - 17);
        encoded.push_str(&format!("+{:016x}", hasher.finish()));
    }
    encoded
}
