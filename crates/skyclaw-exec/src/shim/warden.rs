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
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::prctl;
use nix::unistd::Pid;

use super::bond::Bond;
use super::contained::Contained;
use super::peers;
use crate::BootTime;
use crate::cgroup::Group;
use crate::protocol::{Container, End, Plan};
use crate::record::Usage;

/// How soon it is killed again when it is still there.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

struct Warden<'a> {
    bond: Bond<'a>,
    held: &'a Contained<'a>,
    /// Whether the monitor is gone.
    unwatched: bool,
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
    let mut bond = Bond::open(plan, shim, to_shim, life)?;
    bond.tell_started(container.main.pid);
    let mut warden = Warden { bond, held, unwatched: false };
    warden.watch();
    warden.conclude()
}

impl Warden<'_> {
    /// Until nothing of the run is left.
    fn watch(&mut self) {
        loop {
            self.bond.thrift.look_at_clock();
            if self.held.is_gone() {
                self.bond.death.never();
                return;
            }
            if self.bond.look_at_switch() {
                self.held.terminate();
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
        let late = self.bond.limits.is_some_and(|limits| limits.guard <= now);
        self.bond.by_guard |= late && self.bond.kill_at.is_none();
        late || self.bond.orphaned || self.unwatched || self.bond.kill_at.is_some_and(|at| at <= now)
    }

    fn wait(&mut self, killing: bool) {
        let next = [
            killing.then_some(LOOK_AGAIN),
            self.bond.thrift.left(),
            self.bond.limits.map(|it| it.guard.left()).filter(|_| !killing),
            self.bond.kill_at.map(BootTime::left).filter(|_| !killing),
            self.bond.switch_left(),
        ];
        let switch = self.bond.switch();
        let mut files = [
            // In its place, where there is none, something that is looked at in any case.
            PollFd::new(switch.unwrap_or(self.held.main()), PollFlags::POLLIN),
            PollFd::new(self.held.main(), PollFlags::POLLIN),
            PollFd::new(self.held.monitor(), PollFlags::POLLIN),
            PollFd::new(self.bond.shim.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.bond.life.as_fd(), PollFlags::POLLIN),
        ];
        // What is gone is always ready, and is known by then.
        let files = match (self.unwatched, self.bond.orphaned) {
            (_, true) => &mut files[1..2],
            (true, false) => &mut files[3..],
            (false, false) => &mut files[..],
        };
        let next = next.into_iter().flatten().min();
        if !matches!(poll(files, peers::timeout(next)), Ok(1..)) {
            return;
        }
        let shown = files.len();
        let ready: Vec<bool> = files.iter().map(|file| file.any().unwrap_or(true)).collect();
        match (shown, &ready[..]) {
            (5, [switch, _, monitor, told, gone]) => {
                self.bond.switch_told |= *switch;
                self.unwatched |= *monitor;
                self.heard(*told, *gone);
            }
            (2, [told, gone]) => self.heard(*told, *gone),
            _ => {}
        }
    }

    fn heard(&mut self, told: bool, gone: bool) {
        if self.bond.take_in(told, gone) {
            self.held.terminate();
        }
    }

    /// Tells the shim that it ended, and stays until the record is written: that is done here when the
    /// shim is not there to do it.
    fn conclude(self) -> io::Result<()> {
        // As long as the counters are there.
        let spent = self.held.spent();
        let Bond { by_guard, halted, .. } = self.bond;
        let end = End { status: None, usage: Usage::default(), by_guard, halted };
        if self.bond.shim_records(end) || self.bond.is_recorded() {
            return Ok(());
        }
        let status = self.held.status(|| {});
        let mut exit = self.bond.record(status, Usage::default());
        exit.out_of_memory = self.held.ran_out_of_memory(status, true);
        exit.take_spent(&spent);
        self.bond.plan.groups.iter().for_each(Group::remove);
        exit.write(&self.bond.plan.control)?.sync()
    }
}
