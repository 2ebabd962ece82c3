//! Finds what is left of a run whose shim and guard are both gone.
//!
//! It is in the run's control groups, where there are some; in the session of the run's first process; or
//! carries the run's mark in its environment. The first cannot be left without rights that few runs have,
//! the second finds what changed its group, the third what changed its session.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::libc::pid_t;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::Signal;

use crate::cgroup::Group;
use crate::environment::RUN_ID;
use crate::protocol::{Process, Status};
use crate::tree::{self, Stat};

/// How often it is looked again whether what was killed is gone.
const PAUSE: Duration = Duration::from_millis(5);
/// How often at most: a process that hangs in the kernel is left.
const ROUNDS: u32 = 400;
/// How long a guard may take to kill what it guards.
const GUARD: Duration = Duration::from_secs(5);

/// Ends all of a run, whoever of its keepers still lives. What is left of a guard's work is done by it first,
/// as it sees how the run ended and writes the record. Blocks the thread.
pub(crate) fn end(run: &str, status: Option<&Status>, groups: &[Group]) {
    // What may be another's job by now comes first.
    strike(status, groups);
    if let Some(status) = status {
        kill(status.shim);
        if let Some(guard) = tree::hold(status.guard.pid, status.guard.start)
            && !is_gone_within(&guard, GUARD)
        {
            kill(status.guard);
        }
    }
    // As long as its leader is there, a session cannot become another's.
    let is_there = |leader: &Process| tree::stat(leader.pid).is_some_and(|it| it.start == leader.start);
    let leader = status.map(|status| status.leader).filter(is_there).map(|leader| leader.pid);
    let mark = Mark { entry: format!("{RUN_ID}={run}").into_bytes(), session: leader, groups };
    for _ in 0..ROUNDS {
        let by_group = groups.iter().filter(|group| group.kill()).count() > 0;
        if mark.find().is_empty() {
            groups.iter().for_each(Group::remove);
            return;
        }
        if !by_group {
            tree::kill(|| mark.find());
        }
        std::thread::sleep(PAUSE);
        tree::kill(|| mark.find());
    }
    tracing::error!(run, "processes of a run are still there after they were killed");
}

/// Kills the processes of a run that can be found at once, and none of its keepers. Blocks the thread.
pub(crate) fn strike(status: Option<&Status>, groups: &[Group]) {
    for group in groups {
        group.kill();
    }
    let Some((guard, leader)) = status.map(|status| (status.guard, status.leader)) else { return };
    // That of a container is below nobody here, and all of it ends with this.
    tree::signal(leader.pid, leader.start, Signal::KILL);
    if tree::stat(guard.pid).is_some_and(|it| it.start == guard.start) {
        tree::kill(|| tree::below(guard.pid));
    }
}

/// Kills a process, and waits until it is gone.
pub(crate) fn kill(process: Process) {
    if let Some(handle) = tree::hold(process.pid, process.start) {
        tree::signal(process.pid, process.start, Signal::KILL);
        is_gone_within(&handle, GUARD);
    }
}

/// Waits until a process is gone.
pub(crate) fn is_gone_within(process: &OwnedFd, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let millis = u16::try_from(left.as_millis().min(1000)).unwrap_or(1000);
        let mut files = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        match poll(&mut files, PollTimeout::from(millis)) {
            Ok(1..) => return true,
            _ if left.is_zero() => return false,
            _ => {}
        }
    }
}

/// How the processes of a run are told from others.
struct Mark<'a> {
    entry: Vec<u8>,
    session: Option<pid_t>,
    groups: &'a [Group],
}

impl Mark<'_> {
    /// The living processes of the run.
    fn find(&self) -> Vec<(pid_t, Stat)> {
        let members: Vec<pid_t> = self.groups.iter().flat_map(Group::members).collect();
        tree::all()
            .filter_map(|pid| {
                let stat = tree::stat(pid).filter(|stat| !stat.dead)?;
                let ours =
                    members.contains(&pid) || self.session == Some(stat.session) || self.is_carried_by(pid);
                ours.then_some((pid, stat))
            })
            .collect()
    }

    fn is_carried_by(&self, pid: pid_t) -> bool {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|&byte| byte == 0).any(|entry| entry == self.entry)
    }
}
