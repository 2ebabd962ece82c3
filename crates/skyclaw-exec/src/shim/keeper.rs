//! The shim at work: holds the deadline, keeps the output, does as daemons say, and writes the record.
//!
//! ```text
//! running ── timeout │ deadline │ told to stop ──> stopping ── grace over ──> killed
//!    └── guard says that all has ended ──────────────┴──────────────────────────┴──> record ──> told, over
//! ```
//! One thing comes first whenever the shim runs, however long it did not: the guard's word that the run has
//! ended, and then the clock. Only then it hears what daemons want, so no order that waited while the shim
//! was frozen makes a run go on that should have ended.

mod conclusion;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpid};

use super::contained::Contained;
use super::herd::{self, Herd};
use super::peers::{Peers, timeout};
use super::streams::{Source, Streams};
use super::thrift::Thrift;
use super::timer::Death;
use super::{hear, note, raw, tell};
use crate::halt::Tripwire;
use crate::protocol::{End, FromGuard, Limits, Order, Plan, Process, Said, Status, ToGuard};
use crate::record::{Event, Reason, Usage, What};
use crate::{BootTime, Stop};

/// How long after the end of the grace the shim kills what the guard should have killed, at least.
const GUARD_LATE: Duration = Duration::from_millis(100);
/// How soon it is looked again for what was killed.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What a shim is connected to.
pub(super) struct Ends {
    pub(super) daemon: UnixStream,
    pub(super) listener: UnixListener,
    pub(super) guard: UnixDatagram,
    pub(super) output: Source,
}

/// What is kept.
pub(super) enum Prey<'a> {
    /// All that is below the guard.
    Tree(Herd<'a>),
    /// A container, which is below nobody here.
    Container(&'a Contained<'a>),
}

impl Prey<'_> {
    /// Kills all of it that is there.
    fn kill(&mut self) {
        match self {
            Self::Tree(herd) => herd.kill(),
            Self::Container(held) => held.kill(),
        }
    }

    /// Whether nothing of it is left, when there is no guard any more.
    fn is_gone(&self) -> bool {
        match self {
            Self::Tree(_) => herd::reap(None).nothing_left,
            Self::Container(held) => held.is_gone(),
        }
    }
}

struct Stopping {
    reason: Reason,
    kill_at: BootTime,
}

struct Keeper<'a> {
    plan: &'a Plan,
    /// This process.
    own: Process,
    guard_pid: Pid,
    guard_process: Process,
    guard: UnixDatagram,
    guard_gone: bool,
    peers: Peers,
    output: Streams,
    signals: SignalFd,
    death: Death,
    prey: Prey<'a>,
    tripwire: Tripwire<'a>,
    deadline: Option<BootTime>,
    started: Instant,
    leader: Option<Process>,
    thrift: Thrift,
    stopping: Option<Stopping>,
    killed: bool,
    end: Option<End>,
    not_started: Option<Said>,
    events: Vec<Event>,
}

/// Keeps the run until its record is written and told.
pub(super) fn run<'a>(plan: &'a Plan, prey: Prey<'a>, guard: Pid, ends: Ends) -> io::Result<()> {
    let mut death = Death::new()?;
    if let Some(deadline) = plan.deadline {
        death.at(Limits::of(deadline, plan.grace, plan.slack).kernel)?;
    }
    ends.guard.set_nonblocking(true)?;
    let mut keeper = Keeper {
        plan,
        // Looked at while the guard has its own to do.
        own: Process::of(getpid().as_raw()),
        guard_pid: guard,
        guard_process: Process::of(raw(guard)),
        guard: ends.guard,
        guard_gone: false,
        peers: Peers::new(ends.listener, ends.daemon)?,
        output: Streams::new(plan, ends.output)?,
        signals: super::signal_file()?,
        death,
        prey,
        tripwire: Tripwire::new(plan.halt.as_ref()),
        deadline: plan.deadline,
        started: Instant::now(),
        leader: None,
        thrift: Thrift::new(),
        stopping: None,
        killed: false,
        end: None,
        not_started: None,
        events: plan.beginning(),
    };
    keeper.keep();
    keeper.death.never();
    keeper.conclude()
}

impl Keeper<'_> {
    fn keep(&mut self) {
        loop {
            self.hear_guard();
            if self.end.is_some() || self.not_started.is_some() {
                return;
            }
            self.look_at_clock();
            self.thrift.look_at_clock();
            if self.guard_gone {
                // All that was below the guard is below the shim now.
                self.prey.kill();
                if self.prey.is_gone() {
                    let lost = Reason::KeeperLost("its guard was killed".to_owned());
                    self.stopping.get_or_insert(Stopping { reason: lost, kill_at: BootTime::now() });
                    self.end =
                        Some(End { status: None, usage: Usage::default(), by_guard: false, halted: false });
                    return;
                }
            }
            self.wait();
        }
    }

    fn hear_guard(&mut self) {
        while let Some(said) = hear(&self.guard) {
            match said {
                FromGuard::Started { leader } => {
                    // A container is started by the daemon, once all are ready to keep it.
                    if matches!(self.prey, Prey::Tree(_)) {
                        self.events.push(Event::now(What::Started { pid: leader }));
                    }
                    let leader = Process::of(leader);
                    self.leader = Some(leader);
                    let status = self.status(leader);
                    // Without it a daemon that finds both dead goes by the run's marks and groups.
                    let _ = note(&self.plan.control, &status);
                    self.peers.say(None, &Said::Status(status));
                }
                FromGuard::NotStarted { errno, fault } => {
                    self.not_started = Some(Said::NotStarted { errno, fault });
                }
                FromGuard::Ended(end) => self.end = Some(end),
            }
        }
    }

    fn status(&self, leader: Process) -> Status {
        Status {
            shim: self.own,
            guard: self.guard_process,
            leader,
            deadline: self.deadline,
            grace: self.plan.grace,
            slack: self.plan.slack,
            stopping: self.stopping.is_some(),
            began: self.has_begun(),
        }
    }

    fn has_begun(&self) -> bool {
        self.events.iter().any(|event| matches!(event.what, What::Started { .. }))
    }

    fn look_at_clock(&mut self) {
        let now = BootTime::now();
        if self.stopping.is_none() {
            if let Some(why) = self.tripwire.why() {
                let reason = Reason::Stopped(Stop::Because(why.to_owned()));
                self.stop(reason, now.after(self.plan.grace), why, "shim");
            } else if let Some(deadline) = self.deadline.filter(|deadline| *deadline <= now) {
                let why = &self.plan.why;
                self.stop(Reason::Deadline(why.clone()), deadline.after(self.plan.grace), why, "shim");
            } else if let Some(timeout) = self.plan.timeout.filter(|it| *it <= self.started.elapsed()) {
                self.stop(Reason::TimedOut(timeout), now.after(self.plan.grace), "timed out", "shim");
            }
        }
        let Some(stopping) = &self.stopping else { return };
        if !self.killed && stopping.kill_at <= now {
            self.killed = true;
            self.events.push(Event::now(What::Killed { by: "guard".to_owned() }));
        }
        if stopping.kill_at.after(self.guard_late()) <= now && !self.guard_gone {
            self.events.push(Event::now(What::Killed { by: "shim".to_owned() }));
            // The guard with the rest: it did nothing, so it is frozen, or hangs.
            self.prey.kill();
            tree_kill(self.guard_pid);
        }
    }

    /// How long the guard may take to kill what is left after the grace: the kernel must not be quicker
    /// than the shim.
    fn guard_late(&self) -> Duration {
        if self.deadline.is_some() { GUARD_LATE.min(self.plan.slack / 4) } else { GUARD_LATE }
    }

    fn stop(&mut self, reason: Reason, kill_at: BootTime, why: &str, by: &str) {
        let kill_at = match &mut self.stopping {
            Some(stopping) => {
                // The first reason counts, and the shortest time.
                stopping.kill_at = stopping.kill_at.min(kill_at);
                stopping.kill_at
            }
            None => {
                self.stopping = Some(Stopping { reason, kill_at });
                let what = What::StopAsked { by: by.to_owned(), why: why.to_owned() };
                self.events.push(Event::now(what));
                kill_at
            }
        };
        // Without an answer the shim kills by itself.
        let _ = tell(&self.guard, &ToGuard::Stop { kill_at });
    }

    fn next_moment(&self) -> Option<Duration> {
        if self.guard_gone {
            return Some(LOOK_AGAIN);
        }
        if let Some(stopping) = &self.stopping {
            let late = stopping.kill_at.after(self.guard_late());
            let next = if self.killed { late } else { stopping.kill_at };
            return Some(next.left().max(LOOK_AGAIN));
        }
        let timeout = self.plan.timeout.map(|it| it.saturating_sub(self.started.elapsed()));
        [self.deadline.map(BootTime::left), timeout].into_iter().flatten().min()
    }

    fn wait(&mut self) {
        let next = [self.next_moment(), self.thrift.left(), self.tripwire.left()].into_iter().flatten().min();
        let next = timeout(next);
        let mut files = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.guard.as_fd(), PollFlags::POLLIN),
        ];
        let output = self.output.files();
        files.extend(output.iter().map(|(_, file)| PollFd::new(*file, PollFlags::POLLIN)));
        let pipes: Vec<usize> = output.iter().map(|(at, _)| *at).collect();
        files.extend(self.peers.files().map(|file| PollFd::new(file, PollFlags::POLLIN)));
        files.extend(self.tripwire.file().map(|file| PollFd::new(file, PollFlags::POLLIN)));
        if poll(&mut files, next).is_err() {
            return;
        }
        let mut ready: Vec<bool> = files.iter().map(|file| file.any().unwrap_or(true)).collect();
        drop(files);
        if self.tripwire.file().is_none() || ready.pop() == Some(true) {
            self.tripwire.look();
        }
        let (pipes_ready, peers_ready) = ready[2..].split_at(pipes.len());
        if ready[0] {
            self.take_signals();
        }
        for (&at, _) in pipes.iter().zip(pipes_ready).filter(|(_, ready)| **ready) {
            self.output.read(at);
        }
        self.hear_guard();
        if self.end.is_some() || self.not_started.is_some() {
            return;
        }
        // The shim may have been frozen for hours in between.
        self.look_at_clock();
        let places: Vec<usize> =
            (0..peers_ready.len().saturating_sub(1)).filter(|at| peers_ready[at + 1]).collect();
        for (place, order) in self.peers.orders(&places) {
            self.obey(place, order);
        }
        self.peers.prune();
        if peers_ready.first() == Some(&true) {
            let greeting = self.leader.map(|leader| Said::Status(self.status(leader)));
            self.peers.accept(greeting.as_ref());
        }
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if signal.ssi_signo != Signal::SIGCHLD as u32 {
                let why = "its shim was told to end";
                let reason = Reason::Stopped(Stop::Because(why.to_owned()));
                self.stop(reason, BootTime::now().after(self.plan.grace), why, "shim");
            }
        }
        let gone = waitpid(self.guard_pid, Some(WaitPidFlag::WNOHANG));
        if matches!(gone, Ok(status) if status.pid().is_some()) {
            self.guard_gone = true;
        }
    }

    fn obey(&mut self, place: usize, order: Order) {
        match order {
            Order::Extend { deadline } => {
                if self.stopping.is_none() && self.deadline.is_some_and(|before| before < deadline) {
                    let limits = Limits::of(deadline, self.plan.grace, self.plan.slack);
                    // In this order: what could kill too early is moved first, and the receipt comes last.
                    let known = tell(&self.guard, &ToGuard::Limits(limits));
                    if known.is_ok() && self.death.at(limits.kernel).is_ok() {
                        self.deadline = Some(deadline);
                    }
                }
            }
            Order::Started => {
                if let Some(leader) = self.leader.filter(|_| !self.has_begun()) {
                    self.events.push(Event::now(What::Started { pid: leader.pid }));
                }
            }
            Order::Stop { why, grace } => {
                let kill_at = BootTime::now().after(grace.unwrap_or(self.plan.grace));
                let text = why.to_string();
                self.stop(Reason::Stopped(why), kill_at, &text, "host");
            }
        }
        if let Some(leader) = self.leader {
            let status = Said::Status(self.status(leader));
            self.peers.say(Some(place), &status);
        }
    }
}

/// Kills the guard, which is a child and not reaped, so that its id is still its own.
fn tree_kill(guard: Pid) {
    let _ = nix::sys::signal::kill(guard, Signal::SIGKILL);
}
