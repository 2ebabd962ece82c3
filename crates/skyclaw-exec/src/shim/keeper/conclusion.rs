//! The shim at the end: the record, the last word, and what it leaves behind.
//!
//! ```text
//! all has ended ──> record ──> daemons, guard told ──> groups removed ──> on the disk for good ──> over
//! ```
//! What a daemon waits for comes first. It puts the end on its own disk before it tells it to anybody, so it need
//! not wait until the shim has.

use std::io;
use std::time::Duration;

use nix::sys::wait::waitpid;

use super::{Keeper, Prey};
use crate::Stop;
use crate::cgroup::Group;
use crate::protocol::{Said, ToGuard};
use crate::record::{Event, Exit, Reason, What, Written};
use crate::shim::tell;

/// Why a container's end has no code.
const NO_MONITOR: &str =
    "the process that watched its container (conmon) ended or hung, so the container was killed";
/// How long a daemon may take to hear the last word.
const LAST_WORD: Duration = Duration::from_secs(1);
/// How often it is tried to write a record that the disk did not take.
const WRITE_AGAIN: Duration = Duration::from_millis(250);

impl Keeper<'_> {
    pub(super) fn conclude(mut self) -> io::Result<()> {
        if let Some(fault) = self.not_started.take() {
            self.plan.groups.iter().for_each(Group::remove);
            self.peers.be_patient(LAST_WORD);
            self.peers.say(None, &fault);
            return Ok(());
        }
        let exit = self.record();
        let plan = self.plan;
        let Ok(written) = exit.write(&plan.control) else {
            plan.groups.iter().for_each(Group::remove);
            self.hold_on_to(&exit);
            return Ok(());
        };
        self.peers.accept(None);
        self.peers.be_patient(LAST_WORD);
        self.peers.say(None, &Said::Ended { unwritten: None });
        let guard_knows = !self.guard_gone && tell(&self.guard, &ToGuard::Done).is_ok();
        plan.groups.iter().for_each(Group::remove);
        // Who was told has it; who was not finds it, unless the power fails.
        if written.sync().is_err() {
            self.hold_on_to(&exit);
        }
        if guard_knows {
            let _ = waitpid(self.guard_pid, None);
        }
        Ok(())
    }

    /// Keeps a record that the disk does not take until it does, or until a daemon has done with the run and
    /// removed its directory; tells it to every daemon that asks meanwhile.
    fn hold_on_to(&mut self, exit: &Exit) {
        let said = Said::Ended { unwritten: Some(Box::new(exit.clone())) };
        let greeting = self.leader.map(|leader| Said::Status(self.status(leader)));
        let control = &self.plan.control;
        let is_kept = || exit.write(control).and_then(Written::sync).is_ok();
        self.peers.be_patient(LAST_WORD);
        self.peers.say(None, &said);
        while control.symlink_metadata().is_ok() && !is_kept() {
            self.peers.wait(WRITE_AGAIN);
            self.peers.prune_ended();
            for place in self.peers.accept(greeting.as_ref()) {
                self.peers.say(Some(place), &said);
            }
        }
    }

    /// How it ended, with the last of its output.
    fn record(&mut self) -> Exit {
        let duration = self.started.elapsed();
        let end = self.end.take();
        let by_guard = end.as_ref().is_some_and(|end| end.by_guard);
        let halt = self.plan.halt.as_ref().filter(|_| end.as_ref().is_some_and(|end| end.halted));
        let mut status = end.as_ref().and_then(|end| end.status);
        let spent = match &self.prey {
            Prey::Tree(_) => None,
            Prey::Container(held) => {
                let spent = held.spent();
                status = held.status(|| self.output.read_to_the_end());
                Some(spent)
            }
        };
        self.output.read_to_the_end();
        let reason = match (self.stopping.take(), halt.map(|halt| halt.why.clone())) {
            (Some(stopping), _) => stopping.reason,
            (None, Some(why)) => {
                self.events.push(Event::now(What::StopAsked { by: "guard".to_owned(), why: why.clone() }));
                Reason::Stopped(Stop::Because(why))
            }
            (None, None) if by_guard => Reason::Deadline(self.plan.why.clone()),
            (None, None) if status.is_none() && spent.is_some() => Reason::KeeperLost(NO_MONITOR.to_owned()),
            (None, None) => Reason::Itself,
        };
        // It was over before the daemon had said that it was started.
        if let Some(leader) = self.leader.filter(|_| !self.has_begun() && reason == Reason::Itself) {
            self.events.push(Event::now(What::Started { pid: leader.pid }));
        }
        let mut exit = Exit {
            boot: crate::boot::boot_id(),
            reason,
            status,
            duration,
            usage: end.map(|end| end.usage).unwrap_or_default(),
            out_of_memory: false,
            written: Some(self.output.totals()),
            events: std::mem::take(&mut self.events),
        };
        if let Prey::Container(held) = &self.prey {
            exit.out_of_memory = held.ran_out_of_memory(status, self.killed);
        }
        exit.take_spent(&spent.unwrap_or_else(|| self.plan.groups.iter().map(Group::spent).collect()));
        exit
    }
}
