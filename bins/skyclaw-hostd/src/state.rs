//! The directory of what the daemon keeps between starts.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use skyclaw_proto::HostId;

const LOCK: &str = "lock";
/// The lock of an open file, as it lasts as long as that and can be asked for without being taken: it is on the whole file
/// and for one alone.
#[expect(clippy::cast_possible_truncation, reason = "constants that the kernel has in 16 bits as well")]
const WHOLE: libc::flock = libc::flock {
    l_type: libc::F_WRLCK as i16,
    l_whence: libc::SEEK_SET as i16,
    l_start: 0,
    l_len: 0,
    l_pid: 0,
};
/// Where runs have their directories.
pub(crate) const RUNS: &str = "runs";
const HOST_ID: &str = "host-id";
const OWNER: &str = "owner";
/// What the name of a file ends with that is not yet there as a whole.
pub(crate) const HALF_WRITTEN: &str = "new";

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something in it cannot be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another daemon has it.
    #[error(
        "another host daemon uses {}: stop it, or give this one a directory of its own (SKYCLAW_STATE_DIR)",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The id in it is none.
    #[error("{} holds no host id: repair it, or remove it to become a new host", path.display())]
    HostId {
        /// The file.
        path: PathBuf,
        /// What an id is.
        source: skyclaw_proto::InvalidId,
    },
}

/// An open state directory, locked as long as the value lives.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Opens and locks it; makes it when it is not there.
    ///
    /// Runs that have a user of their own must be able to pass through it; what is in it is still not theirs
    /// to read.
    pub(crate) fn open(path: &Path, passable: bool) -> Result<Self, Error> {
        let fault = |source| Error::Io { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fault)?;
        let mode = if passable { 0o711 } else { 0o700 };
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(fault)?;
        let lock_path = path.join(LOCK);
        // Who could open it could hold it, and no daemon would start.
        let made = File::create(&lock_path).and_then(|lock| {
            lock.set_permissions(Permissions::from_mode(0o600))?;
            Ok(lock)
        });
        let lock = made.map_err(|source| Error::Io { path: lock_path, source })?;
        match fcntl(&lock, FcntlArg::F_OFD_SETLK(&WHOLE)) {
            Ok(_) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(Errno::EAGAIN | Errno::EACCES) => Err(Error::Locked { path: path.to_owned() }),
            Err(source) => Err(fault(source.into())),
        }
    }

    /// Whether a daemon has it.
    ///
    /// # Errors
    /// When whoever asks may not know.
    pub(crate) fn is_in_use(path: &Path) -> io::Result<bool> {
        // Not by taking it for a moment: a daemon that starts just then would find it taken.
        let file = match File::open(path.join(LOCK)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        let mut found = WHOLE;
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut found))?;
        Ok(i32::from(found.l_type) != libc::F_UNLCK)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whose what this daemon makes outside of this directory is: the host's, as the one that has this directory.
    /// By the host's id alone, two daemons that were given the same would end each other's runs.
    pub(crate) fn owner(&self, host: &HostId, fresh: impl FnOnce() -> String) -> Result<String, Error> {
        let path = self.path.join(OWNER);
        let fault = |source| Error::Io { path: path.clone(), source };
        let mark = match fs::read_to_string(&path) {
            Ok(mark) if !mark.trim().is_empty() => mark.trim().to_owned(),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault(error)),
            _ => {
                let mark = fresh();
                write_durably(&path, mark.as_bytes()).map_err(fault)?;
                mark
            }
        };
        Ok(format!("{host}.{mark}"))
    }

    /// The id this host had at its last start, or `fresh`, which it has from now on.
    pub(crate) fn host_id(&self, fresh: impl FnOnce() -> HostId) -> Result<HostId, Error> {
        let path = self.path.join(HOST_ID);
        match fs::read_to_string(&path) {
            Ok(text) => HostId::parse(&text).map_err(|source| Error::HostId { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let id = fresh();
                write_durably(&path, id.as_str().as_bytes()).map_err(|source| Error::Io { path, source })?;
                Ok(id)
            }
            Err(source) => Err(Error::Io { path, source }),
        }
    }
}

/// Whether a daemon has ever had this directory.
pub(crate) fn is_state_dir(path: &Path) -> bool {
    path.join(LOCK).is_file()
}

/// Writes a file that is there as a whole or not at all, whatever happens, and stays there.
pub(crate) fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension(HALF_WRITTEN);
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    if let Err(error) = write() {
        // A full disk is not to be fuller by what could not be written.
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn an_id_is_kept_and_a_damaged_one_is_refused() {
        let dir = tempfile::tempdir().expect("temp dir");
        let id = |text: &str| HostId::parse(text).expect("an id");
        let state = StateDir::open(dir.path(), false).expect("open");
        assert_eq!(state.host_id(|| id("first")).expect("id"), id("first"));
        assert_eq!(state.host_id(|| id("second")).expect("id"), id("first"));
        let owner = |mark: &str| state.owner(&id("first"), || mark.to_owned()).expect("an owner");
        assert_eq!((owner("a"), owner("b")), ("first.a".to_owned(), "first.a".to_owned()));
        fs::write(dir.path().join(HOST_ID), "").expect("write");
        assert!(matches!(state.host_id(|| id("third")), Err(Error::HostId { .. })));
    }

    #[test]
    fn a_directory_has_one_daemon() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("a/b");
        let first = StateDir::open(&path, false).expect("open");
        assert!(matches!(StateDir::open(&path, false), Err(Error::Locked { .. })));
        let is_in_use = || StateDir::is_in_use(&path).expect("it is known");
        assert!(is_in_use() && is_state_dir(&path) && !is_state_dir(dir.path()));
        let mode = path.join(LOCK).metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "no run holds it");
        drop(first);
        assert!(!is_in_use());
        assert!(StateDir::open(&path, false).is_ok());
    }

    #[test]
    fn a_daemon_is_seen_however_many_locks_come_and_go_beside_its_own() {
        let dir = tempfile::tempdir().expect("temp dir");
        let others: Vec<_> =
            (0..300).map(|n| File::create(dir.path().join(format!("other-{n}"))).expect("a file")).collect();
        let take = || others.iter().for_each(|other| other.lock().expect("nobody has it"));
        let leave = || others.iter().for_each(|other| other.unlock().expect("it is ours"));
        take();
        let _state = StateDir::open(dir.path(), false).expect("open");
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    leave();
                    take();
                }
            });
            let seen = (0..2000).filter(|_| StateDir::is_in_use(dir.path()).expect("it is known")).count();
            is_over.store(true, Ordering::Relaxed);
            assert_eq!(seen, 2000);
        });
    }
}
