//! A switch for all runs of a host: a file, of which only that it is there counts.
//!
//! Each shim looks at it as well as the daemon does, so it needs neither a daemon that runs nor one that is not
//! frozen. The kernel tells of what happens in the file's directory; a look from time to time is for where
//! it does not (a file system of the network, too many watches).

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How often it is looked whether the file is there, besides being told.
const LOOK: Duration = Duration::from_secs(1);

/// A file that ends all runs as soon as it is there, and lets none begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Halt {
    /// The file.
    pub file: PathBuf,
    /// Why runs are stopped by it, as their records say it.
    pub why: String,
}

impl Halt {
    /// Whether it is set. What cannot be looked at counts as set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !matches!(self.file.symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// Begins to be told of changes.
    ///
    /// # Errors
    /// When the kernel takes no more watches.
    pub fn watch(&self) -> io::Result<HaltWatch> {
        let watch = Told::new(self)?;
        #[expect(unsafe_code, reason = "registering has no safe form")]
        // SAFETY: what is registered owns its descriptor, which is open and stays the same as long as it lives.
        let watch = unsafe { AsyncFd::register_with_interest(watch, Interest::READABLE) };
        Ok(HaltWatch(watch?))
    }
}

/// Tells of changes.
#[derive(Debug)]
pub struct HaltWatch(AsyncFd<Told>);

impl HaltWatch {
    /// Waits until the file may have come or gone. Cancel-safe.
    pub async fn changed(&mut self) {
        let told = async {
            loop {
                let Ok(mut ready) = self.0.readable().await else { return std::future::pending().await };
                let is_it = self.0.get_ref().take().is_some();
                ready.clear_ready();
                if is_it {
                    return;
                }
            }
        };
        // Looking in any case costs next to nothing.
        let _ = tokio::time::timeout(LOOK, told).await;
    }
}

/// What the kernel tells of the file's directory.
#[derive(Debug)]
struct Told {
    inotify: Inotify,
    name: OsString,
}

impl Told {
    fn new(halt: &Halt) -> io::Result<Self> {
        let (Some(dir), Some(name)) = (halt.file.parent(), halt.file.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let came = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        let went = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM;
        // What is written into it by hand comes after it is there.
        let written = AddWatchFlags::IN_CLOSE_WRITE;
        inotify.add_watch(dir, came | went | written | AddWatchFlags::IN_ONLYDIR)?;
        Ok(Self { inotify, name: name.to_owned() })
    }

    /// What has happened to the file since this was last asked: whether it came, if anything did.
    fn take(&self) -> Option<bool> {
        let came = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        let mut happened = None;
        while let Ok(events) = self.inotify.read_events() {
            for event in events.iter().filter(|event| event.name.as_ref() == Some(&self.name)) {
                happened = Some(happened.unwrap_or(false) || event.mask.intersects(came));
            }
        }
        happened
    }
}

impl AsRawFd for Told {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify.as_fd().as_raw_fd()
    }
}

/// The switch as a shim sees it. Once set, it is set for this run.
#[derive(Debug)]
pub(crate) struct Tripwire<'a> {
    halt: Option<&'a Halt>,
    told: Option<Told>,
    is_set: bool,
}

impl<'a> Tripwire<'a> {
    pub(crate) fn new(halt: Option<&'a Halt>) -> Self {
        let told = halt.and_then(|halt| Told::new(halt).ok());
        // Looked at only now, so that nothing can happen between the look and the watch.
        let is_set = halt.is_some_and(Halt::is_set);
        Self { halt, told, is_set }
    }

    /// Readable when there may be something to look at.
    pub(crate) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.told.as_ref().map(|told| told.inotify.as_fd())
    }

    /// How soon it must be looked at although nobody tells.
    pub(crate) fn left(&self) -> Option<Duration> {
        (self.halt.is_some() && self.told.is_none()).then_some(LOOK)
    }

    /// Takes in what was told. It counts also if the file is gone again by now.
    pub(crate) fn look(&mut self) {
        let came = self.told.as_ref().and_then(Told::take).unwrap_or(false);
        self.is_set |= came || (self.told.is_none() && self.halt.is_some_and(Halt::is_set));
    }

    /// Why the run must end, if it must.
    pub(crate) fn why(&self) -> Option<&'a str> {
        self.halt.filter(|_| self.is_set).map(|halt| halt.why.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_comes_is_noticed_even_when_it_is_gone_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let halt = Halt { file: dir.path().join("frozen"), why: "it is frozen".to_owned() };
        let mut wire = Tripwire::new(Some(&halt));
        assert!(wire.file().is_some() && wire.left().is_none());
        std::fs::write(dir.path().join("other"), "").expect("write");
        wire.look();
        assert_eq!(wire.why(), None, "another file is nothing");
        std::fs::write(&halt.file, "").expect("write");
        assert!(halt.is_set());
        std::fs::remove_file(&halt.file).expect("remove");
        wire.look();
        assert_eq!(wire.why(), Some("it is frozen"));
    }

    #[test]
    fn a_file_that_is_there_already_counts_and_so_does_one_that_cannot_be_looked_at() {
        let dir = tempfile::tempdir().expect("a folder");
        let halt = Halt { file: dir.path().join("frozen"), why: "why".to_owned() };
        assert!(!halt.is_set());
        std::os::unix::fs::symlink("/nowhere/at-all", &halt.file).expect("a link");
        assert_eq!(Tripwire::new(Some(&halt)).why(), Some("why"));
        std::fs::write(dir.path().join("file"), "").expect("write");
        assert!(Halt { file: dir.path().join("file/frozen"), ..halt }.is_set());
        assert_eq!(Tripwire::new(None).why(), None);
    }

    #[tokio::test]
    async fn a_daemon_is_told_of_both_ways() {
        let dir = tempfile::tempdir().expect("a folder");
        let halt = Halt { file: dir.path().join("frozen"), why: String::new() };
        let mut watch = halt.watch().expect("a watch");
        std::fs::write(&halt.file, "").expect("write");
        while !halt.is_set() {
            watch.changed().await;
        }
        std::fs::remove_file(&halt.file).expect("remove");
        watch.changed().await;
        assert!(!halt.is_set());
    }
}
