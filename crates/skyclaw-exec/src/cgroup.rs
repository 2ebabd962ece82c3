//! Control groups: what bounds a run, and what a run cannot leave.
//!
//! ```text
//! <the daemon's own group>/skyclaw-<dev>-<inode of the runs directory>/
//!     <run id>/                        a run
//!     agent-<agent id>/<run id>/       a run of an agent, within the bound of all its runs
//! ```
//! On a machine with version 1, or with both, a run has one such group in each hierarchy that is of use,
//! and one in version 2's for killing all of it at once. Which groups are ours can be told by their name,
//! which no other daemon's directory has.

mod group;
mod mounts;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use group::{Group, OomWatch, Spent};

use crate::Resources;
use mounts::Hierarchy;

/// How often groups that vanish while others are made in them are made again.
const MAX_TRIES: u32 = 10;

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

/// The groups a daemon may make.
#[derive(Debug)]
pub(crate) struct Cgroups {
    /// Where ours begin, in each hierarchy that can be used.
    bases: Vec<Base>,
    /// What cannot be used, and why.
    pub(crate) missing: Vec<(String, String)>,
}

#[derive(Debug)]
struct Base {
    dir: PathBuf,
    version: Version,
    controllers: Vec<Controller>,
    /// Whether the kernel kills all in a group here when it is told to.
    kills: bool,
}

impl Cgroups {
    /// Finds out what can be used, by doing it.
    pub(crate) fn open(runs_dir: &Path) -> Self {
        let mut this = Self { bases: Vec::new(), missing: Vec::new() };
        let name = match runs_dir.metadata() {
            Ok(meta) => format!("skyclaw-{:x}-{:x}", meta.dev(), meta.ino()),
            Err(error) => {
                this.missing.push(("control groups".to_owned(), error.to_string()));
                return this;
            }
        };
        for hierarchy in mounts::hierarchies() {
            match Base::open(&hierarchy, &name) {
                Ok(base) => this.bases.push(base),
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

    /// Makes the groups of a run: one to kill it by, and those that bound what is asked for.
    pub(crate) fn make(
        &self,
        run: &str,
        agent: Option<&str>,
        resources: &Resources,
    ) -> io::Result<Vec<Group>> {
        let mut made = Vec::new();
        let done = self.bases.iter().try_for_each(|base| {
            let wanted = |it: &&Controller| resources.asks_for(**it);
            let bounds: Vec<_> = base.controllers.iter().filter(wanted).copied().collect();
            // Version 1 cannot kill by itself; a hierarchy that bounds nothing of this run is of no use.
            if bounds.is_empty() && base.version == Version::V1 {
                return Ok(());
            }
            let group = base.run(run, agent, &bounds, resources)?;
            let limited = group.limit(resources);
            made.push(group);
            limited
        });
        if let Err(error) = done {
            made.iter().for_each(Group::remove);
            return Err(error);
        }
        Ok(made)
    }

    /// The groups of runs that are there, by run.
    pub(crate) fn left(&self) -> Vec<(String, Group)> {
        let mut found = Vec::new();
        for base in &self.bases {
            for (name, dir) in directories(&base.dir) {
                if name.starts_with("agent-") {
                    for (run, dir) in directories(&dir) {
                        found.push((run, Group::found(dir, base.version)));
                    }
                    // Gone when it is empty, refused when not.
                    let _ = fs::remove_dir(&dir);
                } else if name.starts_with(crate::rundir::PREFIX) {
                    found.push((name, Group::found(dir, base.version)));
                }
            }
        }
        found
    }
}

impl Base {
    fn open(hierarchy: &Hierarchy, name: &str) -> io::Result<Self> {
        let dir = hierarchy.own.join(name);
        let mut controllers = hierarchy.controllers.clone();
        if hierarchy.version == Version::V2 {
            controllers.retain(|it| hierarchy.offers(*it));
            if !controllers.is_empty() {
                hierarchy.delegate(&controllers)?;
            }
        }
        make_dir(&dir)?;
        let kills = hierarchy.version == Version::V2 && dir.join("cgroup.kill").exists();
        let this = Self { dir, version: hierarchy.version, controllers, kills };
        let passed_on = this.pass_on(&this.dir);
        // There only while runs are in it: a daemon that is killed leaves nothing behind that is of no use.
        let _ = fs::remove_dir(&this.dir);
        passed_on.map(|()| this)
    }

    /// Has what is below a group of version 2 bounded as well.
    fn pass_on(&self, dir: &Path) -> io::Result<()> {
        if self.version == Version::V2 && !self.controllers.is_empty() {
            let names: Vec<_> = self.controllers.iter().map(|it| format!("+{}", it.name())).collect();
            fs::write(dir.join("cgroup.subtree_control"), names.join(" "))?;
        }
        Ok(())
    }

    /// Makes the group of a run, and those above it that are not there. The last run to end removes what is
    /// empty, so they may vanish in between.
    fn run(
        &self,
        run: &str,
        agent: Option<&str>,
        bounds: &[Controller],
        resources: &Resources,
    ) -> io::Result<Group> {
        let make = || {
            make_dir(&self.dir)?;
            self.pass_on(&self.dir)?;
            let above = match agent {
                Some(agent) => self.agent(agent, bounds, resources)?,
                None => self.dir.clone(),
            };
            Group::make(above.join(run), self.version, bounds.to_vec())
        };
        let mut made = make();
        for _ in 0..MAX_TRIES {
            if !made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                break;
            }
            made = make();
        }
        made
    }

    /// The group of all runs of an agent, bounded as its latest run asks.
    fn agent(&self, agent: &str, bounds: &[Controller], resources: &Resources) -> io::Result<PathBuf> {
        let dir = self.dir.join(format!("agent-{}", encoded(agent)));
        make_dir(&dir)?;
        self.pass_on(&dir)?;
        Group::shared(dir.clone(), self.version, bounds.to_vec()).limit(resources)?;
        Ok(dir)
    }
}

fn make_dir(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn directories(dir: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path()))).collect()
}

/// A name as a file's, different for different names.
fn encoded(name: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    name.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("={byte:02x}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_are_encoded_differently_and_name_no_other_directory() {
        assert_eq!(encoded("agent_1.a:b"), "agent_1.a:b");
        assert_eq!(encoded("../x y"), "..=2fx=20y");
        assert_ne!(encoded("=2f"), encoded("/"));
    }
}
