//! The host's own switch: a file in the state directory that stops everything here, needs no cluster, and stays
//! over restarts of daemon and machine.
//!
//! ```text
//! skyclaw-hostd freeze, or touch ──> STATE/frozen ──┬─ every shim: ends its run
//!                                                   ├─ driver: starts nothing
//!                                                   └─ daemon: claims nothing, ends what shims did not, tells the cluster
//! skyclaw-hostd thaw, or rm      ──> gone
//! ```
//! That the file is there is all that counts; what is in it is for people.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::unistd::{Uid, User};
use serde::{Deserialize, Serialize};
use skyclaw_exec::Halt;
use skyclaw_proto::record::HostFreeze;
use skyclaw_proto::request::HostSwitch;
use skyclaw_proto::{Timestamp, limits};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::state::write_durably;
use crate::stopping::Why;

/// That everything is stopped.
const FROZEN: &str = "frozen";
/// Who ended that last.
const THAWED: &str = "thawed";
/// How much of a file that somebody wrote by hand is read, in bytes.
const MAX_TEXT: u64 = 4096;

/// Who thawed what.
#[derive(Debug, Serialize, Deserialize)]
struct Thawed {
    /// The freeze, by its time.
    since: Timestamp,
    at: Timestamp,
    by: Option<String>,
}

/// The switch in a state directory.
#[derive(Debug, Clone)]
pub(crate) struct SwitchFile {
    dir: PathBuf,
}

impl SwitchFile {
    pub(crate) fn in_dir(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// What ends runs.
    pub(crate) fn halt(&self) -> Halt {
        Halt { file: self.dir.join(FROZEN), why: Why::Tripped.text().to_owned() }
    }

    /// How it is; `None` when it is not frozen.
    pub(crate) fn read(&self) -> Option<HostFreeze> {
        let halt = self.halt();
        if !halt.is_set() {
            return None;
        }
        let meta = halt.file.symlink_metadata().ok();
        let mut text = Vec::new();
        // Nothing else is opened: reading a pipe would wait for ever.
        if meta.as_ref().is_some_and(fs::Metadata::is_file)
            && let Ok(file) = File::open(&halt.file)
        {
            let _read = file.take(MAX_TEXT).read_to_end(&mut text);
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        if let Ok(written) = serde_json::from_str(&text) {
            return Some(written);
        }
        // Made by hand: what is in it, if anything, says why.
        let changed =
            meta.as_ref().map_or(0, |meta| meta.mtime().saturating_mul(1000) + meta.mtime_nsec() / 1_000_000);
        let mut reason = text.lines().next().unwrap_or_default().trim().replace('\0', "");
        reason.truncate(reason.floor_char_boundary(limits::MAX_REASON_LEN));
        Some(HostFreeze {
            since: Timestamp::from_millis(changed),
            reason: Some(reason).filter(|reason| !reason.is_empty()),
            by: meta.and_then(|meta| user_name(Uid::from_raw(meta.uid()))),
        })
    }

    /// How it is, and who thawed it, as the cluster is told.
    fn told(&self, before: &HostSwitch) -> HostSwitch {
        let frozen = self.read();
        let thawed_by = match (&frozen, &before.frozen) {
            (Some(_), _) => None,
            (None, was) => match self.thawed() {
                // One that was removed by hand leaves no word of who it was.
                Some(thawed) if was.as_ref().is_none_or(|was| was.since == thawed.since) => thawed.by,
                _ => None,
            },
        };
        HostSwitch { frozen, thawed_by }
    }

    fn thawed(&self) -> Option<Thawed> {
        serde_json::from_slice(&fs::read(self.dir.join(THAWED)).ok()?).ok()
    }

    /// Stops everything. Says how it is then, and whether it was not so before: the first of two counts.
    pub(crate) fn freeze(&self, freeze: &HostFreeze) -> io::Result<(HostFreeze, bool)> {
        let file = self.halt().file;
        // A name of its own: two may do this at once.
        let beside = self.dir.join(format!("{FROZEN}.{}", skyclaw_config::ids::uuid()));
        let mut written = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        let done = written
            .write_all(&serde_json::to_vec(freeze)?)
            .and_then(|()| written.sync_all())
            .and_then(|()| Ok(renameat2(AT_FDCWD, &beside, AT_FDCWD, &file, RenameFlags::RENAME_NOREPLACE)?));
        let is_new = match done {
            Ok(()) => true,
            Err(error) => {
                let _ = fs::remove_file(&beside);
                if error.kind() != io::ErrorKind::AlreadyExists {
                    return Err(error);
                }
                false
            }
        };
        File::open(&self.dir)?.sync_all()?;
        Ok((self.read().unwrap_or_else(|| freeze.clone()), is_new))
    }

    /// Ends it. Says what it was; `None` when it was not frozen.
    pub(crate) fn thaw(&self, at: Timestamp, by: Option<String>) -> io::Result<Option<HostFreeze>> {
        let Some(frozen) = self.read() else { return Ok(None) };
        let thawed = Thawed { since: frozen.since, at, by };
        write_durably(&self.dir.join(THAWED), &serde_json::to_vec(&thawed)?)?;
        match fs::remove_file(self.halt().file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            done => done?,
        }
        File::open(&self.dir)?.sync_all()?;
        Ok(Some(frozen))
    }
}

/// The name of a user of this machine, or the number of one it does not know.
pub(crate) fn user_name(uid: Uid) -> Option<String> {
    let name = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    (name.len() <= limits::MAX_NAME_LEN).then_some(name)
}

/// How the switch is, for all who go by it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Switch(watch::Receiver<HostSwitch>);

impl Switch {
    /// Starts the task that looks at the file; it ends with the last handle.
    pub(crate) fn start(tracker: &TaskTracker, file: SwitchFile) -> Self {
        let first = file.told(&HostSwitch::default());
        if let Some(frozen) = &first.frozen {
            tracing::warn!(since = %frozen.since, by = frozen.by, reason = frozen.reason, "this host is frozen: nothing runs here");
        }
        let (send, receive) = watch::channel(first);
        tracker.spawn(look(send, file));
        Self(receive)
    }

    /// How it is. Nothing older is news after this.
    pub(crate) fn now(&mut self) -> HostSwitch {
        self.0.borrow_and_update().clone()
    }

    /// Whether it is frozen.
    pub(crate) fn is_frozen(&self) -> bool {
        self.0.borrow().frozen.is_some()
    }

    /// Waits until it is frozen. Cancel-safe.
    pub(crate) async fn frozen(&mut self) {
        self.wait(true).await;
    }

    /// Waits until it is not frozen. Cancel-safe.
    pub(crate) async fn thawed(&mut self) {
        self.wait(false).await;
    }

    async fn wait(&mut self, frozen: bool) {
        if self.0.wait_for(|switch| switch.frozen.is_some() == frozen).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until it is otherwise than at the last [`Switch::now`], which it leaves to be asked. Cancel-safe.
    pub(crate) async fn is_news(&self) {
        if self.0.clone().changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn look(send: watch::Sender<HostSwitch>, file: SwitchFile) {
    let halt = file.halt();
    let mut watch = halt.watch().inspect_err(|error| {
        tracing::warn!(%error, "the kernel does not tell of the freeze file; it is looked for every second");
    });
    loop {
        let changed = async {
            match &mut watch {
                Ok(watch) => watch.changed().await,
                Err(_) => tokio::time::sleep(std::time::Duration::from_secs(1)).await,
            }
        };
        tokio::select! {
            () = changed => {}
            () = send.closed() => return,
        }
        let now = file.told(&send.borrow());
        send.send_if_modified(|before| {
            // Who has thawed it is said once with that.
            let is_news = before.frozen != now.frozen;
            if is_news {
                match &now.frozen {
                    Some(frozen) => tracing::warn!(
                        by = frozen.by,
                        reason = frozen.reason,
                        "frozen: everything is stopped"
                    ),
                    None => tracing::warn!(by = now.thawed_by, "thawed"),
                }
                *before = now;
            }
            is_news
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn freeze(at: i64, by: &str) -> HostFreeze {
        HostFreeze {
            since: Timestamp::from_millis(at),
            reason: Some("odd".to_owned()),
            by: Some(by.to_owned()),
        }
    }

    #[test]
    fn of_two_that_freeze_the_first_counts_and_nothing_half_written_is_left() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = SwitchFile::in_dir(dir.path());
        assert_eq!(file.read(), None);
        assert_eq!(file.freeze(&freeze(1, "ann")).expect("frozen"), (freeze(1, "ann"), true));
        assert_eq!(file.freeze(&freeze(2, "bob")).expect("frozen"), (freeze(1, "ann"), false));
        let names: Vec<_> =
            fs::read_dir(dir.path()).expect("list").flatten().map(|it| it.file_name()).collect();
        assert_eq!(names, ["frozen"]);
        let was = file.told(&HostSwitch::default());
        let thawed = file.thaw(Timestamp::from_millis(3), Some("eve".to_owned())).expect("thawed");
        assert_eq!(thawed, Some(freeze(1, "ann")));
        assert_eq!(file.told(&was), HostSwitch { frozen: None, thawed_by: Some("eve".to_owned()) });
        assert_eq!(file.thaw(Timestamp::from_millis(4), None).expect("nothing to thaw"), None);
    }

    #[test]
    fn a_file_made_by_hand_freezes_and_its_first_line_says_why() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = SwitchFile::in_dir(dir.path());
        fs::write(dir.path().join(FROZEN), "").expect("touch");
        let empty = file.read().expect("frozen");
        assert_eq!((empty.reason, empty.by), (None, user_name(nix::unistd::geteuid())));
        assert!(empty.since.as_millis() > 0);
        fs::write(dir.path().join(FROZEN), " keys leaked \nmore\n").expect("write");
        assert_eq!(file.read().and_then(|frozen| frozen.reason).as_deref(), Some("keys leaked"));
        fs::write(dir.path().join(FROZEN), "ü".repeat(3000)).expect("write");
        let reason = file.read().and_then(|frozen| frozen.reason).expect("a reason");
        assert!(reason.len() <= limits::MAX_REASON_LEN);
        fs::remove_file(dir.path().join(FROZEN)).expect("rm");
        nix::unistd::mkfifo(&dir.path().join(FROZEN), nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
        assert!(file.read().is_some(), "and nobody waits for what is in it");
        fs::remove_file(dir.path().join(FROZEN)).expect("rm");
        fs::create_dir(dir.path().join(FROZEN)).expect("mkdir");
        assert!(file.read().is_some(), "whatever is there counts");
    }

    #[tokio::test]
    async fn who_goes_by_it_hears_of_both_at_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let (file, tracker) = (SwitchFile::in_dir(dir.path()), TaskTracker::new());
        let mut switch = Switch::start(&tracker, file.clone());
        switch.thawed().await;
        file.freeze(&freeze(1, "ann")).expect("frozen");
        switch.is_news().await;
        switch.frozen().await;
        assert_eq!(switch.now().frozen, Some(freeze(1, "ann")));
        file.thaw(Timestamp::from_millis(2), None).expect("thawed");
        switch.thawed().await;
        assert_eq!(switch.now().frozen, None);
        drop(switch);
        tracker.close();
        tracker.wait().await;
    }
}
