//! What every guard has with its shim, whatever it guards: the orders it hears, the moments that hold for it,
//! and the record it writes when the shim is not there to do it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, getppid};

use super::thrift::Thrift;
use super::timer::Death;
use super::{hear, tell};
use crate::halt::Tripwire;
use crate::protocol::{End, FromGuard, Limits, Plan, ToGuard};
use crate::record::{Event, Exit, ExitStatus, Reason, Usage, What};
use crate::{BootTime, Stop};

/// How long the shim has to end the run once its host's switch is set, before its guard asks it to end.
const SHIM_LATE: Duration = Duration::from_millis(200);

/// Why a run is over whose shim is gone.
const SHIM_KILLED: &str = "its shim was killed";

pub(super) struct Bond<'a> {
    pub(super) plan: &'a Plan,
    pub(super) shim: UnixDatagram,
    /// Readable as soon as the shim is gone.
    pub(super) life: OwnedFd,
    pub(super) death: Death,
    pub(super) limits: Option<Limits>,
    pub(super) kill_at: Option<BootTime>,
    /// Whether the run is ended by the guard, of its own.
    pub(super) by_guard: bool,
    /// Whether the shim is gone.
    pub(super) orphaned: bool,
    /// Whether it was ended because its host's switch is set, and the shim had not done it.
    pub(super) halted: bool,
    pub(super) thrift: Thrift,
    tripwire: Tripwire<'a>,
    /// Whether there may be something to see of the switch. It is not looked at otherwise: what a guard that waits
    /// does not do takes no memory.
    pub(super) switch_told: bool,
    /// When the guard saw that the switch is set.
    tripped: Option<BootTime>,
    started: Instant,
}

impl<'a> Bond<'a> {
    /// The bond of this process with the shim that has just forked it. From here on the kernel ends this process
    /// at the last moment of the plan.
    pub(super) fn open(plan: &'a Plan, shim: Pid, to_shim: UnixDatagram, life: OwnedFd) -> io::Result<Self> {
        let mut death = Death::new()?;
        let limits = plan.deadline.map(|deadline| Limits::of(deadline, plan.grace, plan.slack));
        if let Some(limits) = limits {
            death.at(limits.kernel)?;
        }
        if getppid() != shim {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(Self {
            plan,
            shim: to_shim,
            life,
            death,
            limits,
            kill_at: None,
            by_guard: false,
            orphaned: false,
            halted: false,
            thrift: Thrift::new(),
            tripwire: Tripwire::new(None),
            switch_told: false,
            tripped: None,
            started: Instant::now(),
        })
    }

    /// Tells the shim that the run is there. From here on the host's switch is looked for.
    pub(super) fn tell_started(&mut self, leader: i32) {
        self.orphaned |= tell(&self.shim, &FromGuard::Started { leader }).is_err();
        self.tripwire = Tripwire::new(self.plan.halt.as_ref());
    }

    /// Readable when there may be something to see of the switch. Once it is set, nothing more is.
    pub(super) fn switch(&self) -> Option<BorrowedFd<'_>> {
        self.tripwire.file().filter(|_| self.tripped.is_none())
    }

    /// How soon the switch must be looked at, or seen to.
    pub(super) fn switch_left(&self) -> Option<Duration> {
        match self.tripped {
            Some(_) if self.kill_at.is_some() => None,
            Some(at) => Some(at.after(SHIM_LATE).left()),
            None => self.tripwire.left(),
        }
    }

    /// Looks at the host's switch. Says whether the run must be asked to end, as the shim has not asked it.
    pub(super) fn look_at_switch(&mut self) -> bool {
        let now = BootTime::now();
        if self.tripped.is_none() {
            if std::mem::take(&mut self.switch_told) || self.tripwire.file().is_none() {
                self.tripwire.look();
            }
            self.tripped = self.tripwire.why().map(|_| now);
        }
        let late = self.tripped.is_some_and(|at| at.after(SHIM_LATE) <= now);
        let is_first = late && self.kill_at.is_none();
        if is_first {
            self.halted = true;
            self.kill_at = Some(now.after(self.plan.grace));
        }
        is_first
    }

    /// Takes in what the shim says, if its socket and its pipe are ready. Says whether the run is asked to stop
    /// for the first time.
    pub(super) fn take_in(&mut self, told: bool, gone: bool) -> bool {
        let order = told.then(|| hear(&self.shim)).flatten();
        self.orphaned |= gone;
        match order {
            Some(ToGuard::Limits(limits)) => {
                self.limits = Some(limits);
                // An error leaves the earlier moment, which is the safe one.
                let _ = self.death.at(limits.kernel);
                false
            }
            Some(ToGuard::Stop { kill_at }) => {
                let is_first = self.kill_at.is_none();
                self.kill_at = Some(self.kill_at.map_or(kill_at, |before| before.min(kill_at)));
                is_first
            }
            Some(ToGuard::Done) | None => false,
        }
    }

    /// Whether the shim hears of the end and has written it down; else it is gone.
    pub(super) fn shim_records(&self, end: End) -> bool {
        !self.orphaned && tell(&self.shim, &FromGuard::Ended(end)).is_ok() && self.shim_is_done()
    }

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

    /// Whether there is a record already.
    pub(super) fn is_recorded(&self) -> bool {
        matches!(Exit::read(&self.plan.control), Ok(Some(_)))
    }

    /// The record of a run whose shim is not there to write it.
    pub(super) fn record(&self, status: Option<ExitStatus>, usage: Usage) -> Exit {
        let halt = self.plan.halt.as_ref().filter(|_| self.halted);
        let (reason, why) = match halt {
            Some(halt) => (Reason::Stopped(Stop::Because(halt.why.clone())), halt.why.clone()),
            None if self.by_guard => (Reason::Deadline(self.plan.why.clone()), self.plan.why.clone()),
            None => (Reason::KeeperLost(SHIM_KILLED.to_owned()), SHIM_KILLED.to_owned()),
        };
        Exit {
            boot: crate::boot::boot_id(),
            reason,
            status,
            duration: self.started.elapsed(),
            usage,
            out_of_memory: false,
            written: None,
            events: vec![Event::now(What::StopAsked { by: "guard".to_owned(), why })],
        }
    }
}
