//! Death at a given moment, by the kernel.
//!
//! A process that is stopped runs no code, so it cannot look at the clock. But a timer of its own that
//! sends it `SIGKILL` ends it all the same, and what hangs on its life ends with it.

use std::io;
use std::time::Duration;

use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;

use crate::BootTime;

/// A timer that kills the process it belongs to.
#[derive(Debug)]
pub(super) struct Death(Timer);

impl Death {
    /// One that is not set.
    pub(super) fn new() -> io::Result<Self> {
        let kill = SigevNotify::SigevSignal { signal: Signal::SIGKILL, si_value: 0 };
        Ok(Self(Timer::new(ClockId::CLOCK_BOOTTIME, SigEvent::new(kill))?))
    }

    /// Sets it, in place of an earlier moment.
    pub(super) fn at(&mut self, moment: BootTime) -> io::Result<()> {
        // Nothing at all would mean never.
        let moment = moment.as_duration().max(Duration::from_nanos(1));
        let at = Expiration::OneShot(TimeSpec::from(moment));
        Ok(self.0.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?)
    }

    /// Never.
    pub(super) fn never(&mut self) {
        let none = Expiration::OneShot(TimeSpec::from(Duration::ZERO));
        // It can only fail for a moment that is none.
        let _ = self.0.set(none, TimerSetTimeFlags::empty());
    }
}
