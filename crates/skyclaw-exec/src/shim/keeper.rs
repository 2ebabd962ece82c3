//! The shim at work: holds the deadline, keeps the output, does as daemons say, and writes the record.
//!
//! ```text
//! running ── timeout │ deadline │ told to stop ──> stopping ── grace over ──> killed
//!    └── guard says that all has ended ──────────────┴──────────────────────────┴──> record ──> told, over
//! ```
//! One thing comes first whenever the shim runs, however long it did not: the guard's word that the run has
//! ended, and then the clock. Only then it hears what daemons want, so no order that waited while the shim
//! was frozen makes a run go on that should have ended.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpid};
use rustix::pipe::{SpliceFlags, splice};

use super::herd::{self, Herd};
use super::peers::{Peers, timeout};
use super::thrift::Thrift;
use super::timer::Death;
use super::{hear, note, raw, tell};
use crate::halt::Tripwire;
use crate::output::{STREAMS, Stream};
use crate::protocol::{End, FromGuard, Limits, Order, Plan, Process, Said, Status, ToGuard};
use crate::record::{Event, Exit, Reason, Usage, What};
use crate::{BootTime, Stop};

/// How much of the output is read at once, in bytes: what a pipe holds.
const BUFFER: usize = 64 * 1024;
/// How long output is still read after all of a run is gone. Only a process outside of it that was handed
/// the pipe can hold it open.
const LAST_OUTPUT: Duration = Duration::from_secs(1);
/// How long after the end of the grace the shim kills what the guard should have killed, at least.
const GUARD_LATE: Duration = Duration::from_millis(100);
/// How soon it is looked again for what was killed.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How long a daemon may take to hear the last word.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What a shim is connected to.
pub(super) struct Ends {
    pub(super) daemon: UnixStream,
    pub(super) listener: UnixListener,
    pub(super) guard: UnixDatagram,
    pub(super) output: [OwnedFd; 2],
}

/// One of the run's two streams: the pipe until its end, and what is kept.
struct Output {
    pipe: Option<std::fs::File>,
    stream: Stream,
}

struct Stopping {
    reason: Reason,
    kill_at: BootTime,
}

struct Keeper<'a> {
    plan: &'a Plan,
    guard_pid: Pid,
    guard: UnixDatagram,
    guard_gone: bool,
    peers: Peers,
    output: [Output; 2],
    buffer: Vec<u8>,
    nowhere: std::fs::File,
    signals: SignalFd,
    death: Death,
    herd: Herd<'a>,
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
pub(super) fn run(plan: &Plan, guard: Pid, ends: Ends) -> io::Result<()> {
    let mut death = Death::new()?;
    if let Some(deadline) = plan.deadline {
        death.at(Limits::of(deadline, plan.grace, plan.slack).kernel)?;
    }
    ends.guard.set_nonblocking(true)?;
    let mut streams = STREAMS.map(|name| Stream::new(&plan.control, name, plan.capture)).into_iter();
    let output = ends.output.map(|pipe| Output {
        pipe: Some(pipe.into()),
        stream: streams.next().unwrap_or_else(|| Stream::new(&plan.control, STREAMS[0], plan.capture)),
    });
    let mut keeper = Keeper {
        plan,
        guard_pid: guard,
        guard: ends.guard,
        guard_gone: false,
        peers: Peers::new(ends.listener, ends.daemon)?,
        output,
        buffer: vec![0; BUFFER],
        nowhere: std::fs::OpenOptions::new().write(true).open("/dev/null")?,
        signals: super::signal_file()?,
        death,
        herd: Herd::new(&plan.groups),
        tripwire: Tripwire::new(plan.halt.as_ref()),
        deadline: plan.deadline,
        started: Instant::now(),
        leader: None,
        thrift: Thrift::new(),
        stopping: None,
        killed: false,
        end: None,
        not_started: None,
        events: vec![Event::now(What::Prepared), Event::now(What::InForce(plan.in_force.clone()))],
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
                self.herd.kill();
                if herd::reap(None).nothing_left {
                    let lost = Reason::KeeperLost("its guard was killed".to_owned());
                    self.stopping.get_or_insert(Stopping { reason: lost, kill_at: BootTime::now() });
                    self.end = Some(End { status: None, usage: Usage::default(), by_guard: false });
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
                    self.events.push(Event::now(What::Started { pid: leader }));
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
            shim: Process::of(getpid().as_raw()),
            guard: Process::of(raw(self.guard_pid)),
            leader,
            deadline: self.deadline,
            grace: self.plan.grace,
            slack: self.plan.slack,
            stopping: self.stopping.is_some(),
        }
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
            self.herd.kill();
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
        let pipes: Vec<usize> = (0..self.output.len()).filter(|&at| self.output[at].pipe.is_some()).collect();
        for &at in &pipes {
            files.extend(self.output[at].pipe.as_ref().map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN)));
        }
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
            self.read_output(at);
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

    /// Reads what is there. What nobody will see is not even copied.
    fn read_output(&mut self, at: usize) {
        let Output { pipe, stream } = &mut self.output[at];
        let Some(file) = pipe else { return };
        let read = if stream.is_full() {
            let flags = SpliceFlags::NONBLOCK;
            match splice(&*file, None, &self.nowhere, None, 1 << 20, flags) {
                Ok(n) => {
                    stream.passed_over(n as u64);
                    Ok(n)
                }
                Err(error) => Err(io::Error::from(error)),
            }
        } else {
            file.read(&mut self.buffer).inspect(|&n| stream.write(&self.buffer[..n]))
        };
        let ended = match read {
            Ok(n) => n == 0,
            // A stream that breaks has ended.
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        };
        if ended {
            *pipe = None;
        }
    }

    fn conclude(mut self) -> io::Result<()> {
        if let Some(fault) = self.not_started.take() {
            for group in &self.plan.groups {
                group.remove();
            }
            self.peers.be_patient(LAST_WORD);
            self.peers.say(None, &fault);
            return Ok(());
        }
        let duration = self.started.elapsed();
        self.read_to_the_end();
        let end = self.end.take();
        let by_guard = end.as_ref().is_some_and(|end| end.by_guard);
        let reason = match self.stopping.take() {
            Some(stopping) => stopping.reason,
            None if by_guard => Reason::Deadline(self.plan.why.clone()),
            None => Reason::Itself,
        };
        let mut exit = Exit {
            boot: crate::boot::boot_id(),
            reason,
            status: end.as_ref().and_then(|end| end.status),
            duration,
            usage: end.map(|end| end.usage).unwrap_or_default(),
            out_of_memory: false,
            written: Some([self.output[0].stream.total(), self.output[1].stream.total()]),
            events: std::mem::take(&mut self.events),
        };
        exit.take_from_groups(&self.plan.groups);
        let unwritten = exit.write(&self.plan.control).is_err().then(|| Box::new(exit));
        if !self.guard_gone && tell(&self.guard, &ToGuard::Done).is_ok() {
            let _ = waitpid(self.guard_pid, None);
        }
        self.peers.accept(None);
        self.peers.be_patient(LAST_WORD);
        self.peers.say(None, &Said::Ended { unwritten });
        Ok(())
    }

    /// Nobody of the run is left to write, so this ends, unless somebody else was given the pipe.
    fn read_to_the_end(&mut self) {
        let until = Instant::now() + LAST_OUTPUT;
        while self.output.iter().any(|output| output.pipe.is_some()) {
            let left = until.saturating_duration_since(Instant::now());
            let open: Vec<usize> =
                (0..self.output.len()).filter(|&at| self.output[at].pipe.is_some()).collect();
            let mut files: Vec<PollFd> = open
                .iter()
                .filter_map(|&at| self.output[at].pipe.as_ref())
                .map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN))
                .collect();
            let Ok(1..) = poll(&mut files, timeout(Some(left))) else { return };
            let ready: Vec<bool> = files.iter().map(|file| file.any().unwrap_or(true)).collect();
            drop(files);
            for (&at, _) in open.iter().zip(ready).filter(|(_, ready)| *ready) {
                self.read_output(at);
            }
            if left.is_zero() {
                return;
            }
        }
    }
}

/// Kills the guard, which is a child and not reaped, so that its id is still its own.
fn tree_kill(guard: Pid) {
    let _ = nix::sys::signal::kill(guard, Signal::SIGKILL);
}
