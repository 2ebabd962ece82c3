//! What is said of a run that is over.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::driver::Error;
use crate::output::{STREAMS, text};
use crate::record::{Event, Exit, ExitStatus, Reason, Usage};
use crate::{Capture, Stop};

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with an exit code.
    Exited(i32),
    /// By a signal that was not the driver's.
    Killed(i32),
    /// It, or something it had started, was killed for want of memory.
    OutOfMemory,
    /// It took too long.
    TimedOut(Duration),
    /// It was stopped.
    Stopped(Stop),
    /// It was not started, or lost sight of.
    Failed,
}

/// All there is to say about a run that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it ended by itself with exit code 0.
    pub success: bool,
    /// As shells give it: 128 and the signal's number after a signal, 126 when it was not started, 127
    /// when there is no such program.
    pub exit_code: i32,
    /// From start to end.
    pub duration: Duration,
    /// What it wrote, bounded.
    pub stdout: String,
    /// What it wrote, bounded.
    pub stderr: String,
    /// Why it did not succeed.
    pub error: Option<String>,
    /// How it ended.
    pub ending: Ending,
    /// What it used.
    pub usage: Usage,
    /// What happened to it, oldest first.
    pub events: Vec<Event>,
}

impl Outcome {
    /// A run that was not started.
    #[must_use]
    pub fn not_started(error: &Error) -> Self {
        let ending = match error {
            Error::Halted { why } => Ending::Stopped(Stop::Because(why.clone())),
            _ => Ending::Failed,
        };
        Self { exit_code: error.exit_code(), error: Some(error.describe()), ending, ..Self::lost() }
    }

    /// A run that was refused, and why.
    #[must_use]
    pub fn refused(why: String) -> Self {
        Self { error: Some(why), ..Self::lost() }
    }

    /// A run that its host gave up before it had begun, for a reason that is not the run's.
    #[must_use]
    pub fn given_up(why: Stop) -> Self {
        Self { error: Some(why.to_string()), ending: Ending::Stopped(why), ..Self::lost() }
    }

    /// A run whose end nobody saw.
    pub(crate) fn lost() -> Self {
        Self {
            success: false,
            exit_code: 126,
            duration: Duration::ZERO,
            stdout: String::new(),
            stderr: String::new(),
            error: Some("its shim and its guard were killed; nothing of it is left".to_owned()),
            ending: Ending::Failed,
            usage: Usage::default(),
            events: Vec::new(),
        }
    }
}

/// The outcome that a record tells.
pub(crate) fn of(exit: Exit, control: &Path, capture: Capture, hint: Option<&str>) -> Outcome {
    let written = |at: usize| exit.written.map(|written| written[at]);
    let [stdout, stderr] = [0, 1].map(|at| text(control, STREAMS[at], capture, written(at)));
    let (exit_code, by_itself) = match exit.status {
        Some(ExitStatus::Code(0)) => (0, Ending::Exited(0)),
        Some(ExitStatus::Code(code)) if exit.out_of_memory => (code, Ending::OutOfMemory),
        Some(ExitStatus::Code(code)) => (code, Ending::Exited(code)),
        Some(ExitStatus::Signal(number)) if exit.out_of_memory => (128 + number, Ending::OutOfMemory),
        Some(ExitStatus::Signal(number)) => (128 + number, Ending::Killed(number)),
        None => (126, Ending::Failed),
    };
    let lost = match &exit.reason {
        Reason::KeeperLost(how) => Some(how.clone()),
        _ => None,
    };
    let ending = match exit.reason {
        Reason::Itself => by_itself,
        Reason::TimedOut(after) => Ending::TimedOut(after),
        Reason::Deadline(why) => Ending::Stopped(Stop::Because(why)),
        Reason::Stopped(why) => Ending::Stopped(why),
        Reason::KeeperLost(_) => Ending::Failed,
    };
    let error = match &ending {
        Ending::Exited(0) => None,
        Ending::Exited(code) => Some(format!("exited with code {code}")),
        Ending::Killed(number) => Some(format!("killed by signal {number} ({})", signal_name(*number))),
        Ending::OutOfMemory => Some(format!("out of memory: ended with code {exit_code}")),
        Ending::TimedOut(after) => Some(format!("timed out after {}ms", after.as_millis())),
        Ending::Stopped(why) => Some(why.to_string()),
        Ending::Failed => lost.or_else(|| Some("the end of the process was not seen".to_owned())),
    };
    let error = match (error, hint, &ending) {
        (Some(error), Some(hint), Ending::Exited(_)) => Some(format!("{error}; {hint}")),
        (error, ..) => error,
    };
    Outcome {
        success: error.is_none(),
        exit_code,
        duration: exit.duration,
        stdout,
        stderr,
        error,
        ending,
        usage: exit.usage,
        events: exit.events,
    }
}

fn signal_name(number: i32) -> &'static str {
    Signal::try_from(number).map_or("real-time", Signal::as_str)
}
