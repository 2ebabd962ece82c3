//! The guard of a container: kills it when it is told to, when the shim is gone, when its monitor is gone,
//! or when the deadline has passed and the shim does nothing. The same part as that of the
//! [guard](super::guard) of a process, for what is not below it.
//!
//! ```text
//! running ── limit │ shim gone │ monitor gone ──> killing ── first process gone ──> told, or recorded
//!    └─ told to stop ──> stopping ── ended │ kill_at ──^
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::unistd::{Pid, getppid};

use super::contained::Contained;
use super::thrift::Thrift;
use super::timer::Death;
use super::{hear, peers, tell};
use crate::BootTime;
use crate::cgroup::Group;
use crate::protocol::{Container, End, FromGuard, Limits, Plan, ToGuard};
use crate::record::{Event, Exit, Reason, Usage, What};

/// How soon it is killed again when it is still there.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

struct Warden<'a> {
    plan: &'a Plan,
    held: &'a Contained<'a>,
    shim: UnixDatagram,
    /// Readable as soon as the shim is gone.
    life: OwnedFd,
    death: Death,
    started: Instant,
    limits: Option<Limits>,
    kill_at: Option<BootTime>,
    by_guard: bool,
    orphaned: bool,
    unwatched: bool,
    thrift: Thrift,
}

/// Runs the guard, and ends the process.
pub(super) fn run(
    plan: &Plan,
    container: &Container,
    held: &Contained<'_>,
    shim: Pid,
    to_shim: UnixDatagram,
    life: OwnedFd,
) -> ! {
    let ended = guard(plan, container, held, shim, to_shim, life);
    std::process::exit(i32::from(ended.is_err()));
}

fn guard(
    plan: &Plan,
    container: &Container,
    held: &Contained<'_>,
    shim: Pid,
    to_shim: UnixDatagram,
    life: OwnedFd,
) -> io::Result<()> {
    prctl::set_name(c"skyclaw-guard")?;
    let mut death = Death::new()?;
    let limits = plan.deadline.map(|deadline| Limits::of(deadline, plan.grace, plan.slack));
    if let Some(limits) = limits {
        death.at(limits.kernel)?;
    }
    if getppid() != shim {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    let mut warden = Warden {
        plan,
        held,
        shim: to_shim,
        life,
        death,
        started: Instant::now(),
        limits,
        kill_at: None,
        by_guard: false,
        orphaned: false,
        unwatched: false,
        thrift: Thrift::new(),
    };
    if tell(&warden.shim, &FromGuard::Started { leader: container.main.pid }).is_err() {
        warden.orphaned = true;
    }
    warden.watch();
    warden.conclude()
}

impl Warden<'_> {
    /// Until nothing of the run is left.
    fn watch(&mut self) {
        loop {
            self.thrift.look_at_clock();
            if self.held.is_gone() {
                self.death.never();
                return;
            }
            let killing = self.must_end();
            if killing {
                self.held.kill();
            }
            self.wait(killing);
        }
    }

    /// Whether it is to be killed now.
    fn must_end(&mut self) -> bool {
        let now = BootTime::now();
        let late = self.limits.is_some_and(|limits| limits.guard <= now);
        self.by_guard |= late && self.kill_at.is_none();
        late || self.orphaned || self.unwatched || self.kill_at.is_some_and(|at| at <= now)
    }

    fn wait(&mut self, killing: bool) {
        let next = [
            killing.then_some(LOOK_AGAIN),
            self.thrift.left(),
            self.limits.map(|it| it.guard.left()).filter(|_| !killing),
            self.kill_at.map(BootTime::left).filter(|_| !killing),
        ];
        let mut files = [
            PollFd::new(self.held.main(), PollFlags::POLLIN),
            PollFd::new(self.held.monitor(), PollFlags::POLLIN),
            PollFd::new(self.shim.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.life.as_fd(), PollFlags::POLLIN),
        ];
        // What is gone is always ready, and is known by then.
        let files = match (self.unwatched, self.orphaned) {
            (_, true) => &mut files[..1],
            (true, false) => &mut files[2..],
            (false, false) => &mut files[..],
        };
        let next = next.into_iter().flatten().min();
        if !matches!(poll(files, peers::timeout(next)), Ok(1..)) {
            return;
        }
        let shown = files.len();
        let ready: Vec<bool> = files.iter().map(|file| file.any().unwrap_or(true)).collect();
        match (shown, &ready[..]) {
            (4, [_, monitor, told, gone]) => {
                self.unwatched |= *monitor;
                self.heard(*told, *gone);
            }
            (2, [told, gone]) => self.heard(*told, *gone),
            _ => {}
        }
    }

    fn heard(&mut self, told: bool, gone: bool) {
        if told && let Some(told) = hear(&self.shim) {
            self.take_in(told);
        }
        self.orphaned |= gone;
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
                if first {
                    self.held.terminate();
                }
            }
            ToGuard::Done => {}
        }
    }

    /// Tells the shim that it ended, and stays until the record is on disk: it is written here when the
    /// shim is not there to do it.
    fn conclude(mut self) -> io::Result<()> {
        // As long as the counters are there.
        let spent = self.held.spent();
        let end = End { status: None, usage: Usage::default(), by_guard: self.by_guard };
        if !self.orphaned && tell(&self.shim, &FromGuard::Ended(end)).is_ok() && self.shim_is_done() {
            return Ok(());
        }
        self.orphaned = true;
        if matches!(Exit::read(&self.plan.control), Ok(Some(_))) {
            return Ok(());
        }
        let (reason, why) = if self.by_guard {
            (Reason::Deadline(self.plan.why.clone()), self.plan.why.as_str())
        } else {
            let why = "its shim was killed";
            (Reason::KeeperLost(why.to_owned()), why)
        };
        let status = self.held.status(|| {});
        let mut exit = Exit {
            boot: crate::boot::boot_id(),
            reason,
            status,
            duration: self.started.elapsed(),
            usage: Usage::default(),
            out_of_memory: self.held.ran_out_of_memory(status, true),
            written: None,
            events: vec![Event::now(What::StopAsked { by: "guard".to_owned(), why: why.to_owned() })],
        };
        exit.take_spent(&spent);
        self.plan.groups.iter().for_each(Group::remove);
        exit.write(&self.plan.control)
    }

    /// Whether the shim has written the record; else it is gone.
    fn shim_is_done(&self) -> bool {
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
                return true;
            }
            if gone {
                return false;
            }
        }
    }
}
