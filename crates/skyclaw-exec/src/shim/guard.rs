//! The guard: starts the run, is the parent of its first process and the subreaper of all others, and
//! kills what is left of them when the first has ended, when it is told to, when the shim is gone, or when
//! the deadline has passed and the shim does nothing.
//!
//! ```text
//! running ── first process ends │ limit │ shim gone ──> killing ── nothing left ──> told, or recorded
//!    └─ told to stop ──> stopping ── all ended │ kill_at ──^
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::prctl;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, killpg};
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;

use super::bond::Bond;
use super::herd::{self, Herd};
use super::{leader, raw, tell};
use crate::BootTime;
use crate::protocol::{End, FromGuard, Plan};
use crate::record::{ExitStatus, Usage};

/// How soon it is looked again for what was killed, at first and at most.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

struct Guard<'a> {
    bond: Bond<'a>,
    signals: SignalFd,
    herd: Herd<'a>,
    leader: Pid,
    status: Option<ExitStatus>,
    killing: Option<Duration>,
}

/// Runs the guard, and ends the process.
pub(super) fn run(
    plan: &Plan,
    shim: Pid,
    to_shim: UnixDatagram,
    life: OwnedFd,
    start: impl FnOnce() -> io::Result<Pid>,
) -> ! {
    let ended = guard(plan, shim, to_shim, life, start);
    std::process::exit(i32::from(ended.is_err()));
}

fn guard(
    plan: &Plan,
    shim: Pid,
    to_shim: UnixDatagram,
    life: OwnedFd,
    start: impl FnOnce() -> io::Result<Pid>,
) -> io::Result<()> {
    prctl::set_name(c"skyclaw-guard")?;
    prctl::set_child_subreaper(true)?;
    let signals = super::signal_file()?;
    let mut bond = Bond::open(plan, shim, to_shim, life)?;
    let leader = match start() {
        Ok(leader) => leader,
        Err(error) => {
            let (errno, fault) = (error.raw_os_error(), error.to_string());
            return tell(&bond.shim, &FromGuard::NotStarted { errno, fault });
        }
    };
    // From here on a run whose shim dies is killed whatever becomes of the guard. Without it, the guard
    // still does it.
    let _ = leader::tie(leader, &bond.life);
    bond.tell_started(raw(leader));
    let herd = Herd::new(&plan.groups);
    let mut guard = Guard { bond, signals, herd, leader, status: None, killing: None };
    guard.watch();
    guard.conclude()
}

impl Guard<'_> {
    /// Until nothing of the run is left.
    fn watch(&mut self) {
        loop {
            self.look_at_clock();
            if self.bond.look_at_switch() && self.status.is_none() {
                self.terminate();
            }
            self.bond.thrift.look_at_clock();
            let reaped = herd::reap(Some(raw(self.leader)));
            self.status = self.status.or(reaped.status);
            if reaped.nothing_left {
                self.bond.death.never();
                return;
            }
            if self.status.is_some() && self.bond.kill_at.is_none() {
                self.killing.get_or_insert(LOOK_AGAIN.0);
            }
            if let Some(pause) = self.killing {
                self.herd.kill();
                self.killing = Some((pause * 2).min(LOOK_AGAIN.1));
            }
            self.wait();
        }
    }

    fn look_at_clock(&mut self) {
        let now = BootTime::now();
        let late = self.bond.limits.is_some_and(|limits| limits.guard <= now);
        if late && self.killing.is_none() {
            self.bond.by_guard = self.bond.kill_at.is_none();
        }
        if late || self.bond.orphaned || self.bond.kill_at.is_some_and(|at| at <= now) {
            self.killing.get_or_insert(LOOK_AGAIN.0);
        }
    }

    fn wait(&mut self) {
        let next = [
            self.bond.thrift.left(),
            self.killing,
            self.bond.limits.map(|it| it.guard.left()),
            self.bond.kill_at.map(BootTime::left),
            self.bond.switch_left(),
        ];
        let next = if self.killing.is_some() { self.killing } else { next.into_iter().flatten().min() };
        let switch = self.bond.switch();
        let mut files = [
            PollFd::new(self.bond.shim.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.bond.life.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            // In its place, where there is none, something that is looked at in any case.
            PollFd::new(switch.unwrap_or(self.signals.as_fd()), PollFlags::POLLIN),
        ];
        // A connection that is gone is always ready; the pipe has told of it by then.
        let files = if self.bond.orphaned { &mut files[2..] } else { &mut files[..] };
        if !matches!(poll(files, super::peers::timeout(next)), Ok(1..)) {
            return;
        }
        let ready: Vec<bool> = files.iter().map(|file| file.any().unwrap_or(true)).collect();
        while let Ok(Some(_)) = self.signals.read_signal() {}
        self.bond.switch_told |= ready.last() == Some(&true);
        if let [told, gone, _, _] = ready[..]
            && self.bond.take_in(told, gone)
            && self.status.is_none()
        {
            self.terminate();
        }
    }

    fn terminate(&self) {
        let _ = killpg(self.leader, Signal::SIGTERM);
        // A stopped process would take note only when it is continued.
        let _ = killpg(self.leader, Signal::SIGCONT);
        self.herd.terminate_outside(raw(self.leader));
    }

    /// Tells the shim how it ended, and stays until the record is written: that is done here when the shim
    /// is not there to do it.
    fn conclude(self) -> io::Result<()> {
        let Bond { by_guard, halted, .. } = self.bond;
        let end = End { status: self.status, usage: usage(), by_guard, halted };
        if self.bond.shim_records(end) || self.bond.is_recorded() {
            return Ok(());
        }
        let mut exit = self.bond.record(end.status, end.usage);
        exit.take_from_groups(&self.bond.plan.groups);
        exit.write(&self.bond.plan.control)?.sync()
    }
}

/// What all that was ever started below this process has used.
fn usage() -> Usage {
    let Ok(used) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return Usage::default() };
    let micros = |time: nix::sys::time::TimeVal| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or(0))
    };
    Usage {
        cpu: micros(used.user_time()) + micros(used.system_time()),
        peak_memory_bytes: u64::try_from(used.max_rss()).unwrap_or(0) * 1024,
    }
}
