//! A process of somebody else, held so that its id cannot come to mean another.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use nix::sys::signal::Signal;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::tree::{Process, stat};

/// Watches and signals a process.
#[derive(Debug)]
pub(crate) struct Proc {
    id: Process,
    handle: AsyncFd<OwnedFd>,
}

impl Proc {
    /// A process that is there now.
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let raw = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).ok_or_else(gone)?;
        let handle = pidfd_open(raw, PidfdFlags::empty())?;
        // Asked after the handle is there: if the process has ended by now, the handle tells.
        let start = stat(raw.as_raw_nonzero().get()).map_or(0, |stat| stat.start);
        #[expect(unsafe_code, reason = "registering has no safe form")]
        // SAFETY: an owned descriptor is open, and stays the same, as long as its owner.
        let handle = unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) }?;
        Ok(Self { id: Process { pid: raw.as_raw_nonzero().get(), start }, handle })
    }

    /// The process that was written down, if it is still there.
    pub(crate) fn reopen(id: Process) -> Option<Self> {
        Self::open(id.pid.unsigned_abs()).ok().filter(|found| found.id == id && found.is_alive())
    }

    /// Whether it is another's child: ids are given again, and what is signalled must be what was meant.
    pub(crate) fn is_child_of(&self, parent: &Self) -> bool {
        stat(self.id.pid).is_some_and(|stat| stat.parent == parent.id.pid) && self.is_alive()
    }

    pub(crate) fn id(&self) -> Process {
        self.id
    }

    /// Waits for its end. Cancel-safe.
    pub(crate) async fn ended(&self) {
        // What cannot be watched is asked for.
        match self.handle.readable().await {
            Ok(mut guard) => guard.retain_ready(),
            Err(_) => {
                while self.is_alive() {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// Whether it runs; one that has ended and was not reaped does not.
    pub(crate) fn is_alive(&self) -> bool {
        let mut fds = [rustix::event::PollFd::new(self.handle.get_ref(), rustix::event::PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(0))
    }

    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let number = match signal {
            Signal::SIGTERM => rustix::process::Signal::TERM,
            _ => rustix::process::Signal::KILL,
        };
        Ok(pidfd_send_signal(self.handle.get_ref(), number)?)
    }
}

/// The argument that follows `option` in the command line of a process.
pub(crate) fn argument(pid: u32, option: &str) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = line.split(|byte| *byte == 0);
    words.find(|word| *word == option.as_bytes())?;
    words.next().and_then(|word| String::from_utf8(word.to_vec()).ok())
}

/// Whether a process can still gain privileges by what it executes; `None` when it is gone.
pub(crate) fn can_gain_privileges(pid: u32) -> Option<bool> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix("NoNewPrivs:"))?;
    Some(value.trim() != "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> std::process::Child {
        std::process::Command::new("sleep").arg("1000").spawn().expect("sleep")
    }

    #[tokio::test]
    async fn a_process_is_known_again_and_no_other_is_taken_for_it() {
        let mut child = sleeper();
        let proc = Proc::open(child.id()).expect("a handle");
        assert!(proc.is_alive());
        assert!(Proc::reopen(proc.id()).is_some());
        let parent = Proc::open(std::process::id()).expect("a handle");
        assert!(proc.is_child_of(&parent) && !parent.is_child_of(&proc));
        let other = Process { start: proc.id().start + 1, ..proc.id() };
        assert!(Proc::reopen(other).is_none(), "the id was given to another process since");
        proc.signal(Signal::SIGKILL).expect("signal");
        proc.ended().await;
        assert!(!proc.is_alive());
        let _ = child.wait();
        assert!(Proc::reopen(proc.id()).is_none());
    }

    #[test]
    fn a_process_that_could_gain_privileges_is_seen() {
        let mut child = sleeper();
        assert_eq!(can_gain_privileges(child.id()), Some(true));
        let _ = child.kill();
        let _ = child.wait();
        assert_eq!(can_gain_privileges(child.id()), None);
    }
}
