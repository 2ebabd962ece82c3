//! A container as its keepers see it: its first process and its monitor, held so that neither can come to
//! be another; where its output comes from; and what tells how it ended.
//!
//! Neither shim nor guard speak to the engine, and neither needs it. The first process is that of a PID
//! namespace: its end is the end of everything in the container. It ends by itself as soon as nobody has
//! its pipe open, which both keepers have for as long as they live.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use rustix::process::{Signal, pidfd_send_signal};

use crate::cgroup::{Group, Spent, Watch};
use crate::protocol::{Container, Process};
use crate::record::ExitStatus;
use crate::tree;

/// The monitor's socket in the directory of its container.
const ATTACH: &str = "attach";
/// How long the exit code is waited for after the first process is gone. The monitor writes it within
/// milliseconds, unless it hangs or was stopped. Less than a daemon waits for a shim that was told to stop.
const CODE_PATIENCE: Duration = Duration::from_secs(4);
/// How often it is looked for.
const STEP: Duration = Duration::from_millis(1);
/// As shells give it after SIGKILL.
const KILLED: i32 = 137;

/// What keeps a container.
#[derive(Debug)]
pub(super) struct Contained<'a> {
    plan: &'a Container,
    groups: &'a [Group],
    main: OwnedFd,
    monitor: OwnedFd,
    /// The first process ends when nobody has this open.
    _life: File,
    oom: Option<Watch>,
}

impl<'a> Contained<'a> {
    /// Takes hold of a container that was made and not started yet.
    pub(super) fn take(plan: &'a Container, groups: &'a [Group]) -> io::Result<Self> {
        let hold = |process: Process, whose: &str| {
            let gone = || io::Error::other(format!("the container's {whose} is gone"));
            tree::hold(process.pid, process.start).ok_or_else(gone)
        };
        let life =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&plan.life)?;
        let oom = Watch::new(groups).ok();
        Ok(Self {
            plan,
            groups,
            main: hold(plan.main, "first process")?,
            monitor: hold(plan.monitor, "monitor")?,
            _life: life,
            oom,
        })
    }

    /// Connects to what its monitor hands out of its output: packets that begin with the number of a stream.
    pub(super) fn attach(&self) -> io::Result<OwnedFd> {
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
        // The way through an open directory has room for any path.
        let bundle = File::open(&self.plan.bundle)?;
        let path = format!("/proc/self/fd/{}/{ATTACH}", bundle.as_raw_fd());
        connect(socket.as_raw_fd(), &UnixAddr::new(path.as_str())?)?;
        Ok(socket)
    }

    /// Readable as soon as its first process is gone, and with it all the others.
    pub(super) fn main(&self) -> BorrowedFd<'_> {
        self.main.as_fd()
    }

    /// Readable as soon as its monitor is gone.
    pub(super) fn monitor(&self) -> BorrowedFd<'_> {
        self.monitor.as_fd()
    }

    /// Whether nothing of it is left.
    pub(super) fn is_gone(&self) -> bool {
        is_readable(self.main.as_fd())
    }

    /// Asks it to end. Its first process hands that on to all the others.
    pub(super) fn terminate(&self) {
        let _ = pidfd_send_signal(&self.main, Signal::TERM);
    }

    /// Kills all of it.
    pub(super) fn kill(&self) {
        let _ = pidfd_send_signal(&self.main, Signal::KILL);
        // A frozen group of version 2 lets what is killed go.
        for group in self.groups {
            group.kill();
        }
    }

    /// What it used. To be asked as soon as it is gone, as the counters go as well.
    pub(super) fn spent(&self) -> Vec<Spent> {
        let mut all: Vec<_> = self.groups.iter().map(Group::spent).collect();
        for spent in &mut all {
            spent.cpu = spent.cpu.map(|cpu| cpu.saturating_sub(self.plan.cpu_before));
        }
        all
    }

    /// Whether memory ran out, as far as counters do not say.
    pub(super) fn ran_out_of_memory(&self, status: Option<ExitStatus>, killed: bool) -> bool {
        let by_the_kernel = status == Some(ExitStatus::Code(KILLED)) && !killed;
        let told = self.oom.as_ref().is_some_and(|watch| watch.times() > 0);
        told || (by_the_kernel && self.groups.iter().any(Group::was_full))
    }

    /// The exit code, as its monitor writes it down; `None` when that ended without doing so, or hangs. What
    /// is done `meanwhile` is what the monitor may have to wait for.
    pub(super) fn status(&self, mut meanwhile: impl FnMut()) -> Option<ExitStatus> {
        let until = Instant::now() + CODE_PATIENCE;
        loop {
            // Asked for first, so that what it wrote last is found.
            let over = is_readable(self.monitor.as_fd()) || Instant::now() >= until;
            let written = fs::read_to_string(&self.plan.exit_file).ok();
            match written.and_then(|text| text.trim().parse().ok()) {
                None if !over => {
                    meanwhile();
                    std::thread::sleep(STEP);
                }
                found => return found.map(ExitStatus::Code),
            }
        }
    }
}

/// Whether there is something to read, or an end, at this moment.
fn is_readable(file: BorrowedFd<'_>) -> bool {
    let mut files = [PollFd::new(file, PollFlags::POLLIN)];
    matches!(poll(&mut files, PollTimeout::ZERO), Ok(1..))
}
