//! Where a host's groups begin in one hierarchy, and how they are made there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::mounts::{self, Hierarchy};
use super::{AGENT, Controller, Group, Member, TOP, Version, Wanted, at, encoded, group};

/// How often groups that vanish while others are made in them are made again.
const MAX_TRIES: u32 = 16;

/// One hierarchy's.
#[derive(Debug)]
pub(super) struct Base {
    /// Where the hierarchy is mounted.
    pub(super) root: PathBuf,
    /// The folder of the host.
    pub(super) dir: PathBuf,
    pub(super) version: Version,
    pub(super) controllers: Vec<Controller>,
    /// Whether the kernel kills all in a group here when it is told to.
    pub(super) kills: bool,
}

impl Base {
    pub(super) fn open(hierarchy: &Hierarchy, owner: &str) -> io::Result<Self> {
        let (own, root) = (&hierarchy.own, &hierarchy.root);
        let (first, second) = match hierarchy.version {
            Version::V2 => (own, root),
            Version::V1 => (root, own),
        };
        Self::open_in(hierarchy, first, owner).or_else(|error| match first == second {
            true => Err(error),
            // The first place is the one that should work, so it is its fault that is told.
            false => Self::open_in(hierarchy, second, owner).map_err(|_| error),
        })
    }

    fn open_in(hierarchy: &Hierarchy, parent: &Path, owner: &str) -> io::Result<Self> {
        let mut controllers = hierarchy.controllers.clone();
        if hierarchy.version == Version::V2 {
            controllers.retain(|it| mounts::offers(parent, *it));
            if !controllers.is_empty() {
                mounts::delegate(parent, &controllers)?;
            }
        }
        let dir = parent.join(TOP).join(encoded(owner));
        let (root, version) = (hierarchy.root.clone(), hierarchy.version);
        let mut this = Self { root, dir, version, controllers, kills: false };
        // Another host may end its last run just now, and remove what is empty.
        let tried = while_it_vanishes(this.make_above(None), || this.make_above(None));
        this.kills = version == Version::V2 && this.dir.join("cgroup.kill").exists();
        group::remove_empty_above(&this.dir);
        tried.map(|()| this)
    }

    /// The folder of the host within its tree.
    pub(super) fn place(&self) -> Option<&Path> {
        self.dir.strip_prefix(&self.root).ok()
    }

    fn agent(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{AGENT}{}", encoded(id)))
    }

    /// Makes what is above the group of a run.
    fn make_above(&self, agent: Option<&str>) -> io::Result<()> {
        let top = self.dir.parent().unwrap_or(&self.dir);
        let agent = agent.map(|id| self.agent(id));
        for dir in [Some(top), Some(&self.dir), agent.as_deref()].into_iter().flatten() {
            make_dir(dir)?;
            self.pass_on(dir)?;
        }
        Ok(())
    }

    /// Has what is below a group of version 2 bounded as well.
    fn pass_on(&self, dir: &Path) -> io::Result<()> {
        match self.version {
            Version::V2 if !self.controllers.is_empty() => mounts::pass_on(dir, &self.controllers),
            _ => Ok(()),
        }
    }

    /// Makes the group of a run. The last run to end removes what is empty, so what is above may not be
    /// there, and may vanish in between.
    pub(super) fn make(&self, wanted: &Wanted<'_>, made: &mut Vec<Group>) -> io::Result<()> {
        let above = wanted.agent.map_or_else(|| self.dir.clone(), |(id, _)| self.agent(id));
        let group = Group::shared(above.join(wanted.run), self.version, self.controllers.clone());
        let tried = while_it_vanishes(self.try_make(&group, &above, wanted), || {
            self.make_above(wanted.agent.map(|(id, _)| id))?;
            self.try_make(&group, &above, wanted)
        });
        // Half made as well: it is removed with the others then.
        made.push(group);
        tried
    }

    fn try_make(&self, group: &Group, above: &Path, wanted: &Wanted<'_>) -> io::Result<()> {
        if let Some((_, bound)) = wanted.agent {
            // Two runs that begin at once must not undo what the other asks for.
            let held = fs::File::open(above).map_err(|error| at(above, &error))?;
            let _held =
                Flock::lock(held, FlockArg::LockExclusive).map_err(|(_, error)| at(above, &error.into()))?;
            Group::shared(above.to_owned(), self.version, self.controllers.clone()).raise(&bound)?;
        }
        make_dir(&group.dir)?;
        if wanted.member == Member::Container {
            self.pass_on(&group.dir)?;
        }
        group.limit(&wanted.resources, 0)?;
        group.end_as_one()
    }
}

/// Tries again as long as what it needed was not there, or vanished in between.
fn while_it_vanishes(first: io::Result<()>, again: impl Fn() -> io::Result<()>) -> io::Result<()> {
    let vanished =
        |tried: &io::Result<()>| tried.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    let mut tried = first;
    for _ in 0..MAX_TRIES {
        if !vanished(&tried) {
            break;
        }
        tried = again();
    }
    tried
}

pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(at(dir, &error)),
        _ => Ok(()),
    }
}
