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
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, killpg};
use nix::sys::signalfd::SignalFd;
use nix::unistd::{Pid, getppid};

use super::herd::{self, Herd};
use super::thrift::Thrift;
use super::timer::Death;
use super::{hear, leader, raw, tell};
use crate::BootTime;
use crate::protocol::{End, FromGuard, Limits, Plan, ToGuard};
use crate::record::{Event, Exit, ExitStatus, Reason, Usage, What};

/// How soon it is looked again for what was killed, at first and at most.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

struct Guard<'a> {
    plan: &'a Plan,
    shim: UnixDatagram,
    /// Readable as soon as the shim is gone.
    life: OwnedFd,
    signals: SignalFd,
    death: Death,
    herd: Herd<'a>,
    leader: Pid,
    started: Instant,
    status: Option<ExitStatus>,
    limits: Option<Limits>,
    kill_at: Option<BootTime>,
    killing: Option<Duration>,
    by_guard: bool,
    orphaned: bool,
    thrift: Thrift,
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
    let mut death = Death::new()?;
    let limits = plan.deadline.map(|deadline| Limits::of(deadline, plan.grace, plan.slack));
    if let Some(limits) = limits {
        death.at(limits.kernel)?;
    }
    if getppid() != shim {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    let started = Instant::now();
    let leader = match start() {
        Ok(leader) => leader,
        Err(error) => {
            let (errno, fault) = (error.raw_os_error(), error.to_string());
            return tell(&to_shim, &FromGuard::NotStarted { errno, fault });
        }
    };
    let herd = Herd::new(&plan.groups);
    let mut guard = Guard {
        plan,
        shim: to_shim,
        life,
        signals,
        death,
        herd,
        leader,
        started,
        status: None,
        limits,
        kill_at: None,
        killing: None,
        by_guard: false,
        orphaned: false,
        thrift: Thrift::new(),
    };
    // From here on a run whose shim dies is killed whatever becomes of the guard. Without it, the guard
    // still does it.
    let _ = leader::tie(leader, &guard.life);
    if tell(&guard.shim, &FromGuard::Started { leader: raw(leader) }).is_err() {
        guard.orphaned = true;
    }
    guard.watch();
    guard.conclude()
}

impl Guard<'_> {
    /// Until nothing of the run is left.
    fn watch(&mut self) {
        loop {
            self.look_at_clock();
            self.thrift.look_at_clock();
            let reaped = herd::reap(Some(raw(self.leader)));
            self.status = self.status.or(reaped.status);
            if reaped.nothing_left {
                self.death.never();
                return;
            }
            if self.status.is_some() && self.kill_at.is_none() {
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
        let late = self.limits.is_some_and(|limits| limits.guard <= now);
        if late && self.killing.is_none() {
            self.by_guard = self.kill_at.is_none();
        }
        if late || self.orphaned || self.kill_at.is_some_and(|at| at <= now) {
            self.killing.get_or_insert(LOOK_AGAIN.0);
        }
    }

    fn wait(&mut self) {
        let next = [
            self.thrift.left(),
            self.killing,
            self.limits.map(|it| it.guard.left()),
            self.kill_at.map(BootTime::left),
        ];
        let next = if self.killing.is_some() { self.killing } else { next.into_iter().flatten().min() };
        let mut files = [
            PollFd::new(self.shim.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.life.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        // A connection that is gone is always ready; the pipe has told of it by then.
        let files = if self.orphaned { &mut files[2..] } else { &mut files[..] };
        if !matches!(poll(files, super::peers::timeout(next)), Ok(1..)) {
            return;
        }
        let ready: Vec<bool> = files.iter().map(|file| file.any().unwrap_or(true)).collect();
        while let Ok(Some(_)) = self.signals.read_signal() {}
        if self.orphaned {
            return;
        }
        if ready[0]
            && let Some(told) = hear(&self.shim)
        {
            self.take_in(told);
        }
        if ready[1] {
            self.orphaned = true;
        }
    }

    fn take_in(&mut self, told: ToGuard) {
        match told {
            ToGuard::Limits(limits) => {
                self.limits = Some(limits);
                // An error leaves the earlier moment, which is the safe one.
                let _ = self.death.at(limits.kernel);
            }
            ToGuard::Stop { kill_at } => {
                let first = self.kill_at.is_none();
                self.kill_at = Some(self.kill_at.map_or(kill_at, |before| before.min(kill_at)));
                if first && self.status.is_none() {
                    let _ = killpg(self.leader, Signal::SIGTERM);
                    // A stopped process would take note only when it is continued.
                    let _ = killpg(self.leader, Signal::SIGCONT);
                    self.herd.terminate_outside(raw(self.leader));
                }
            }
            ToGuard::Done => {}
        }
    }

    /// Tells the shim how it ended, and stays until the record is on disk: it is written here when the shim
    /// is not there to do it.
    fn conclude(mut self) -> io::Result<()> {
        let end = End { status: self.status, usage: usage(), by_guard: self.by_guard };
        if !self.orphaned && tell(&self.shim, &FromGuard::Ended(end)).is_ok() {
            loop {
                let mut files = [
                    PollFd::new(self.shim.as_fd(), PollFlags::POLLIN),
                    PollFd::new(self.life.as_fd(), PollFlags::POLLIN),
                ];
                if poll(&mut files, PollTimeout::NONE).is_err() {
                    continue;
                }
                let (told, gone) = (files[0].any().unwrap_or(true), files[1].any().unwrap_or(true));
                if told && matches!(hear(&self.shim), Some(ToGuard::Done)) {
                    return Ok(());
                }
                if gone {
                    break;
                }
            }
        }
        self.orphaned = true;
        self.record(end)
    }

    fn record(&self, end: End) -> io::Result<()> {
        if matches!(Exit::read(&self.plan.control), Ok(Some(_))) {
            return Ok(());
        }
        let lost = Reason::KeeperLost("its shim was killed".to_owned());
        let reason = if end.by_guard { Reason::Deadline(self.plan.why.clone()) } else { lost };
        let why = match &reason {
            Reason::Deadline(why) => why.clone(),
            _ => "its shim was killed".to_owned(),
        };
        let mut exit = Exit {
            boot: crate::boot::boot_id(),
            reason,
            status: end.status,
            duration: self.started.elapsed(),
            usage: end.usage,
            out_of_memory: false,
            written: None,
            events: vec![Event::now(What::StopAsked { by: "guard".to_owned(), why })],
        };
        exit.take_from_groups(&self.plan.groups);
        exit.write(&self.plan.control)
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
