//! Why this host stops a run before its end: in the words that the record of a run keeps, for people and for
//! a daemon that finds it again, and in those a coordinator decides by.

use skyclaw_exec::{Ending, Stop};
use skyclaw_proto::Stopped;

/// A reason that is not the job's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Frozen,
    /// The host itself is, by an operator on its machine.
    Tripped,
    Draining,
    ShuttingDown,
    NotRenewed,
    NotHeld,
    GivenAnew,
    /// Of a service.
    NotOurs,
    /// Of a run in a container, which cannot be started.
    NoPodman,
}

impl Why {
    const ALL: [Self; 9] = [
        Self::Frozen,
        Self::Tripped,
        Self::Draining,
        Self::ShuttingDown,
        Self::NotRenewed,
        Self::NotHeld,
        Self::GivenAnew,
        Self::NotOurs,
        Self::NoPodman,
    ];

    /// As the record of a run says it.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Frozen => "it is frozen",
            Self::Tripped => "its host is frozen",
            Self::Draining => "its host is drained",
            Self::ShuttingDown => "host is shutting down",
            Self::NotRenewed => "its lease could not be renewed in time",
            Self::NotHeld => "this host no longer holds its lease",
            Self::GivenAnew => "its lease was given out anew",
            Self::NotOurs => "it is not this host's any more",
            Self::NoPodman => "the Podman service of its host does not answer",
        }
    }

    /// As a run is told.
    pub(crate) fn stop(self) -> Stop {
        Stop::Because(self.text().to_owned())
    }
}

/// What a coordinator is told of a run that was stopped; `None` when it ended by itself, by its timeout, or
/// with those who kept it.
pub(crate) fn told(ending: &Ending) -> Option<Stopped> {
    let Ending::Stopped(stop) = ending else { return None };
    let why = match stop {
        Stop::Cancelled => return Some(Stopped::Cancelled),
        Stop::Because(text) => Why::ALL.into_iter().find(|why| why.text() == text)?,
    };
    Some(match why {
        Why::Frozen | Why::Tripped => Stopped::Frozen,
        Why::Draining => Stopped::Draining,
        Why::ShuttingDown => Stopped::Shutdown,
        Why::NotRenewed | Why::NotHeld | Why::GivenAnew | Why::NotOurs | Why::NoPodman => Stopped::Lease,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_told_apart_from_an_end_of_the_jobs_own() {
        for why in Why::ALL {
            assert!(told(&Ending::Stopped(why.stop())).is_some(), "{why:?}");
        }
        assert_eq!(told(&Ending::Stopped(Why::Frozen.stop())), Some(Stopped::Frozen));
        assert_eq!(told(&Ending::Stopped(Why::Tripped.stop())), Some(Stopped::Frozen));
        assert_eq!(told(&Ending::Stopped(Stop::Cancelled)), Some(Stopped::Cancelled));
        for own in [Ending::Exited(1), Ending::OutOfMemory, Ending::Failed] {
            assert_eq!(told(&own), None, "{own:?}");
        }
    }
}
