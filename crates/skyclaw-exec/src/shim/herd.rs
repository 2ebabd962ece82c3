//! All processes of a run, as the shim or the guard sees them.

use std::collections::HashMap;

use nix::libc::pid_t;
use nix::unistd::getpid;
use rustix::io::Errno;
use rustix::process::{Signal, WaitOptions, wait};

use crate::cgroup::Group;
use crate::record::ExitStatus;
use crate::tree::{self, Stat};

/// What is below a subreaper, and what is in the run's groups.
#[derive(Debug)]
pub(super) struct Herd<'a> {
    me: pid_t,
    groups: &'a [Group],
    /// Whether the kernel was told to kill all of a group before.
    killed_by_group: bool,
}

/// What there was to reap.
#[derive(Debug, Default)]
pub(super) struct Reaped {
    /// How the process that was asked for ended, if it did just now.
    pub(super) status: Option<ExitStatus>,
    /// Whether this process has no child any more. Then nothing is below it.
    pub(super) nothing_left: bool,
}

impl<'a> Herd<'a> {
    pub(super) fn new(groups: &'a [Group]) -> Self {
        Self { me: getpid().as_raw(), groups, killed_by_group: false }
    }

    fn find(&self) -> Vec<(pid_t, Stat)> {
        let mut found: HashMap<pid_t, Stat> = tree::below(self.me).into_iter().collect();
        for pid in self.groups.iter().flat_map(Group::members) {
            if pid != self.me
                && let Some(stat) = tree::stat(pid).filter(|stat| !stat.dead)
            {
                found.insert(pid, stat);
            }
        }
        found.into_iter().collect()
    }

    /// Kills all of it that is there.
    pub(super) fn kill(&mut self) {
        let by_group = self.groups.iter().filter(|group| group.kill()).count() > 0;
        // All at once, and mostly all there is: looked for one by one only if it did not do.
        if by_group && !std::mem::replace(&mut self.killed_by_group, true) {
            return;
        }
        tree::kill(|| self.find());
    }

    /// Asks all outside of a group of processes to end.
    pub(super) fn terminate_outside(&self, group: pid_t) {
        for (pid, stat) in self.find() {
            if stat.group != group {
                tree::signal(pid, stat.start, Signal::TERM);
                tree::signal(pid, stat.start, Signal::CONT);
            }
        }
    }
}

/// Takes note of what has ended, and of how `wanted` did.
pub(super) fn reap(wanted: Option<pid_t>) -> Reaped {
    let mut reaped = Reaped::default();
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if Some(pid.as_raw_nonzero().get()) == wanted => {
                let code = status.exit_status().map(ExitStatus::Code);
                reaped.status = code.or(status.terminating_signal().map(ExitStatus::Signal));
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return reaped,
            Err(_) => {
                reaped.nothing_left = true;
                return reaped;
            }
        }
    }
}
