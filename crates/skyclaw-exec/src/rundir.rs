//! The directory of one run: its home, its working directory, its temporary files.
//!
//! ```text
//! <runs>/<run id>/{home,work,tmp}    the run's own, mode 0700
//! <runs>/<run id>/control            the shim's: socket, label, output, record of the end
//! ```
//! The name is the run's mark, so what a directory left behind belonged to can be found.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::{User, unmount};

/// What the name of a run's directory begins with, so that nothing else is ever taken for one.
pub(crate) const PREFIX: &str = "run-";

/// A run's directory.
#[derive(Debug, Clone)]
pub(crate) struct RunDir {
    path: PathBuf,
    id: String,
}

impl RunDir {
    /// A name nobody else has.
    pub(crate) fn fresh_id() -> String {
        format!("{PREFIX}{}", uuid::Uuid::new_v4().simple())
    }

    /// Makes the directory and what belongs into it.
    pub(crate) fn create(runs: &Path, id: String) -> io::Result<Self> {
        let made = Self { path: runs.join(&id), id };
        for dir in [&made.path, &made.control(), &made.home(), &made.work(), &made.tmp()] {
            DirBuilder::new().mode(0o700).create(dir)?;
        }
        Ok(made)
    }

    /// Makes the directory of a run that has nothing of its own on the host.
    pub(crate) fn create_bare(runs: &Path, id: String) -> io::Result<Self> {
        let made = Self { path: runs.join(&id), id };
        for dir in [&made.path, &made.control()] {
            DirBuilder::new().mode(0o700).create(dir)?;
        }
        Ok(made)
    }

    /// Gives what is the run's own to a user, who may pass through what is above.
    pub(crate) fn give_to(&self, user: &User) -> io::Result<()> {
        fs::set_permissions(&self.path, PermissionsExt::from_mode(0o711))?;
        for dir in [self.home(), self.work(), self.tmp()] {
            std::os::unix::fs::chown(dir, Some(user.uid), Some(user.gid))?;
        }
        Ok(())
    }

    /// The directories that are there already.
    pub(crate) fn left_behind(runs: &Path) -> io::Result<Vec<Self>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(runs)? {
            let entry = entry?;
            if let Ok(id) = entry.file_name().into_string()
                && id.starts_with(PREFIX)
                && entry.file_type()?.is_dir()
            {
                found.push(Self { path: entry.path(), id });
            }
        }
        Ok(found)
    }

    /// Removes it with all that is in it. Blocks on the file system.
    pub(crate) fn remove(self) {
        if let Err(error) = unmount::below(&self.path).and_then(|()| remove_tree(&self.path))
            && error.kind() != io::ErrorKind::NotFound
        {
            let path = self.path.display();
            tracing::warn!(%path, %error, "could not remove the directory of a run; it is tried again at the next start");
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.path.join("control")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.path.join("home")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.path.join("tmp")
    }
}

/// Removes a directory with all that is in it, whatever its owner did to it: directories that may not be
/// read or written are opened up, and a nesting deeper than a path can name is flattened step by step,
/// so neither the stack nor the file descriptors limit what can be removed. Links are not followed.
fn remove_tree(root: &Path) -> io::Result<()> {
    let mut moved = 0_u64;
    open_up(root)?;
    loop {
        let mut empty = true;
        for entry in fs::read_dir(root)? {
            let entry = entry?;
            empty = false;
            if entry.file_type()?.is_dir() {
                flatten(&entry.path(), root, &mut moved)?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        if empty {
            return fs::remove_dir(root);
        }
    }
}

/// Removes a directory right below `root`, after moving the directories in it up beside it.
fn flatten(dir: &Path, root: &Path, moved: &mut u64) -> io::Result<()> {
    open_up(dir)?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            // Moving a directory rewrites its "..", which takes the right to write to it.
            open_up(&entry.path())?;
            let mut target = root.join(format!(".removed-{moved}"));
            while target.symlink_metadata().is_ok() {
                *moved += 1;
                target = root.join(format!(".removed-{moved}"));
            }
            fs::rename(entry.path(), target)?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_dir(dir)
}

fn open_up(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, PermissionsExt::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_deep_and_linked_directories_are_removed_and_links_are_not_followed() {
        let base = tempfile::tempdir().expect("temp dir");
        let outside = base.path().join("outside");
        fs::create_dir(&outside).expect("mkdir");
        fs::write(outside.join("kept"), "x").expect("write");

        let dir = RunDir::create(base.path(), "run".into()).expect("create");
        let root = dir.path.clone();
        let mut deep = dir.work();
        for level in 0..40 {
            deep.push(format!("level-{level}"));
            fs::create_dir(&deep).expect("mkdir");
            fs::write(deep.join("file"), "x").expect("write");
        }
        fs::create_dir(dir.work().join(".removed-0")).expect("mkdir");
        std::os::unix::fs::symlink(&outside, dir.home().join("link")).expect("link");
        for closed in [deep.as_path(), dir.work().join("level-0").as_path(), dir.home().as_path()] {
            fs::set_permissions(closed, PermissionsExt::from_mode(0o000)).expect("chmod");
        }
        dir.remove();
        assert!(!root.exists());
        assert!(outside.join("kept").exists());
    }

    #[test]
    fn a_nesting_deeper_than_a_path_can_name_is_removed() {
        let base = tempfile::tempdir().expect("temp dir");
        let dir = RunDir::create(base.path(), "run".into()).expect("create");
        // Built from the inside out: each round puts what there is into a new directory.
        let name = "n".repeat(200);
        let (inner, outer) = (dir.tmp().join("inner"), dir.tmp().join("outer"));
        fs::create_dir(&inner).expect("mkdir");
        for _ in 0..60 {
            fs::create_dir(&outer).expect("mkdir");
            fs::rename(&inner, outer.join(&name)).expect("rename");
            fs::rename(&outer, &inner).expect("rename");
        }
        let root = dir.path.clone();
        dir.remove();
        assert!(!root.exists());
    }

    #[test]
    fn what_was_left_behind_is_found_by_its_name() {
        let base = tempfile::tempdir().expect("temp dir");
        RunDir::create(base.path(), "run-old".into()).expect("create");
        fs::write(base.path().join("run-file"), "x").expect("write");
        fs::create_dir(base.path().join("other")).expect("mkdir");
        let found = RunDir::left_behind(base.path()).expect("list");
        assert_eq!(found.iter().map(RunDir::id).collect::<Vec<_>>(), ["run-old"]);
        found.into_iter().for_each(RunDir::remove);
        assert!(!base.path().join("run-old").exists());
    }
}
