//! The processes below one, as `/proc` tells them.
//!
//! A subreaper is the ancestor of all that was ever started below it, whatever left its group, its
//! session or its parent: so looking through the tree finds all of it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::OwnedFd;

use nix::libc::pid_t;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// How often it is looked for what was started while what starts it was being stopped.
const STOP_ROUNDS: usize = 32;

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) parent: pid_t,
    pub(crate) group: pid_t,
    pub(crate) session: pid_t,
    /// When it was started, in ticks: with its id, this names one process for ever.
    pub(crate) start: u64,
    /// Dead, whether reaped or not.
    pub(crate) dead: bool,
}

/// A process, told from all others with its id, in a form that can be written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) start: u64,
}

impl Process {
    pub(crate) fn of(pid: i32) -> Self {
        Self { pid, start: stat(pid).map_or(0, |stat| stat.start) }
    }
}

/// Looks at a process.
pub(crate) fn stat(pid: pid_t) -> Option<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    // The name before it may hold anything, blanks and parentheses too.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let dead = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    let start = fields.nth(15)?.parse().ok()?;
    Some(Stat { parent, group, session, start, dead })
}

/// All processes there are.
pub(crate) fn all() -> impl Iterator<Item = pid_t> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The living processes below `root`, without it.
pub(crate) fn below(root: pid_t) -> Vec<(pid_t, Stat)> {
    let mut children: HashMap<pid_t, Vec<(pid_t, Stat)>> = HashMap::new();
    for pid in all() {
        if let Some(stat) = stat(pid) {
            children.entry(stat.parent).or_default().push((pid, stat));
        }
    }
    let (mut found, mut next) = (Vec::new(), vec![root]);
    while let Some(parent) = next.pop() {
        for (pid, stat) in children.remove(&parent).unwrap_or_default() {
            next.push(pid);
            if !stat.dead {
                found.push((pid, stat));
            }
        }
    }
    found
}

/// Whether `pid` is below `root`, or is it.
pub(crate) fn is_below(mut pid: pid_t, root: pid_t) -> bool {
    // A process cannot be deeper than there are processes; a loop could only come of ids that changed
    // hands meanwhile.
    for _ in 0..4096 {
        if pid == root {
            return true;
        }
        match stat(pid) {
            Some(stat) if stat.parent > 1 => pid = stat.parent,
            _ => return false,
        }
    }
    true
}

/// Holds a process, if it is still the one that was looked at, so that its id cannot become another's.
pub(crate) fn hold(pid: pid_t, start: u64) -> Option<OwnedFd> {
    let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    stat(pid).is_some_and(|stat| stat.start == start && !stat.dead).then_some(handle)
}

/// Sends a signal to a process that was looked at, if it is still there.
pub(crate) fn signal(pid: pid_t, start: u64, signal: Signal) {
    if let Some(handle) = hold(pid, start) {
        let _ = pidfd_send_signal(&handle, signal);
    }
}

/// Kills what `find` finds. What forks is stopped first: what cannot run cannot start anything, so a
/// process that starts others faster than they are found does not get away.
pub(crate) fn kill(find: impl Fn() -> Vec<(pid_t, Stat)>) {
    let mut stopped = HashSet::new();
    for _ in 0..STOP_ROUNDS {
        let mut more = false;
        for (pid, stat) in find() {
            if stopped.insert((pid, stat.start)) {
                signal(pid, stat.start, Signal::STOP);
                more = true;
            }
        }
        if !more {
            break;
        }
    }
    for (pid, stat) in find() {
        signal(pid, stat.start, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_found_below_its_parent_and_not_elsewhere() {
        let me = nix::unistd::getpid().as_raw();
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep");
        let pid = child.id().cast_signed();
        assert!(below(me).iter().any(|(found, _)| *found == pid));
        assert!(is_below(pid, me) && !is_below(me, pid) && below(pid).is_empty());
        let seen = stat(pid).expect("stat");
        assert_eq!(seen.parent, me);
        signal(pid, seen.start + 1, Signal::KILL);
        assert!(child.try_wait().expect("wait").is_none(), "another process with its id is not taken for it");
        signal(pid, seen.start, Signal::KILL);
        assert!(!child.wait().expect("wait").success());
    }
}
