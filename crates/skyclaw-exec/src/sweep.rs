//! Finds what a run started and did not end.
//!
//! A process belongs to a run when it is in the session of the run's first process, or when its
//! environment carries the run's mark. The first finds what changed its group, the second what changed
//! its session.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::libc::pid_t;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::environment::RUN_ID;

/// How often it is looked again whether what was killed is gone.
const PAUSE: Duration = Duration::from_millis(5);
/// How often at most: a process that forks faster than it is found, or hangs in the kernel, is left.
const ROUNDS: u32 = 200;

/// How the processes of a run are told from others.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    entry: Vec<u8>,
    session: Option<pid_t>,
}

/// A process that belongs to a run, held so that its id cannot become another's.
pub(crate) struct Found {
    handle: OwnedFd,
    group: pid_t,
}

impl Mark {
    /// The mark of a run, and its session as long as the process that leads it is not reaped.
    pub(crate) fn new(run_id: &str, session: Option<pid_t>) -> Self {
        Self { entry: format!("{RUN_ID}={run_id}").into_bytes(), session }
    }

    /// The living processes of the run, the first one included.
    pub(crate) fn find(&self) -> Vec<Found> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.filter_map(|entry| self.look_at(entry.file_name().to_str()?.parse().ok()?)).collect()
    }

    fn look_at(&self, pid: pid_t) -> Option<Found> {
        self.group_if_ours(pid)?;
        let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        // Looked at again now that it is held: the id may have become another's in between.
        Some(Found { handle, group: self.group_if_ours(pid)? })
    }

    /// The group of the process when it belongs to the run and lives.
    fn group_if_ours(&self, pid: pid_t) -> Option<pid_t> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before it may hold anything, blanks and parentheses too.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let group = fields.nth(1)?.parse().ok()?;
        let session: pid_t = fields.next()?.parse().ok()?;
        let ours = !matches!(state, "Z" | "X") && (self.session == Some(session) || self.is_carried_by(pid));
        ours.then_some(group)
    }

    fn is_carried_by(&self, pid: pid_t) -> bool {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|&byte| byte == 0).any(|entry| entry == self.entry)
    }

    /// Asks those outside the given group to end; a group is asked as a whole.
    pub(crate) fn terminate_outside(&self, group: pid_t) {
        for process in self.find().iter().filter(|process| process.group != group) {
            let _ = pidfd_send_signal(&process.handle, Signal::TERM);
        }
    }

    /// Kills all of them and waits until they are gone. Blocks the thread.
    pub(crate) fn kill_all(&self) {
        for _ in 0..ROUNDS {
            let found = self.find();
            if found.is_empty() {
                return;
            }
            for process in &found {
                let _ = pidfd_send_signal(&process.handle, Signal::KILL);
            }
            std::thread::sleep(PAUSE);
        }
        let mark = String::from_utf8_lossy(&self.entry);
        tracing::error!(%mark, "processes of a run are still there after they were killed");
    }
}
