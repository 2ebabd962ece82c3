//! What the outside of a test says, and what only root can make.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A number from the environment of the tests, or a random one. It is printed, so that a run that
/// failed can be done again.
#[must_use]
pub fn seed(random: u64) -> u64 {
    let given = std::env::var_os("SKYCLAW_TEST_SEED");
    let seed = given.as_deref().and_then(OsStr::to_str).and_then(|text| text.parse().ok()).unwrap_or(random);
    println!("SKYCLAW_TEST_SEED={seed}");
    seed
}

/// A small file system in memory that can be filled.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts one of `bytes`. Only root can.
    ///
    /// # Panics
    /// When the system refuses.
    #[must_use]
    pub fn mount(bytes: u64) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let options = format!("size={bytes},mode=700");
        let kind = Some("tmpfs");
        mount(kind, dir.path(), kind, MsFlags::empty(), Some(options.as_str()))
            .expect("a tmpfs can be mounted; the tests of full disks need root");
        Self { path: dir.path().to_owned(), _dir: dir }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all the room there is, by a file of this name.
    ///
    /// # Panics
    /// When the file cannot be made at all.
    pub fn fill(&self, name: &str) {
        use std::io::Write as _;
        let mut file = fs::File::create(self.path.join(name)).expect("a file");
        // Page by page, so that not one is left.
        while file.write_all(&[1; 4096]).is_ok() {}
    }

    /// Gives the room back.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn free(&self, name: &str) {
        fs::remove_file(self.path.join(name)).expect("the file can be removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}

/// Every file below `dir` with its content.
///
/// # Panics
/// When one cannot be read.
#[must_use]
pub fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            let content = fs::read(&path).expect("a file");
            all.insert(path, content);
        }
    }
    all
}
