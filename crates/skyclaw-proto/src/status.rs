//! The states a job, a service and an assignment can be in.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! status {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// All of them, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// From the word on the wire.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|status| status.as_str() == text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

pub(crate) use status;

status!(
    /// Where a job is in its life: `queued` → `leased` → one of the others, or back to `queued`.
    JobStatus {
        /// Waits for a host.
        Queued = "queued",
        /// A host has it.
        Leased = "leased",
        /// Ran and succeeded.
        Completed = "completed",
        /// Ran and did not succeed.
        Failed = "failed",
        /// An operator or client called it off.
        Cancelled = "cancelled",
        /// Waited longer than it was allowed to.
        Expired = "expired",
        /// Its host was lost and it must not be run again without a decision.
        Lost = "lost",
    }
);

status!(
    /// What a run writes to.
    LogStream {
        /// Its standard output.
        Stdout = "stdout",
        /// Its standard error.
        Stderr = "stderr",
    }
);

status!(
    /// How a service does as a whole.
    ServiceStatus {
        /// No replica runs yet.
        Pending = "pending",
        /// At least one replica runs.
        Running = "running",
        /// Every replica failed.
        Failed = "failed",
        /// Stopped by an operator.
        Stopped = "stopped",
        /// Runs with fewer replicas than asked for.
        Degraded = "degraded",
    }
);

status!(
    /// How one replica of a service does.
    AssignmentStatus {
        /// Claimed by a host, not reported yet.
        Pending = "pending",
        /// Runs.
        Running = "running",
        /// Ended or could not be started.
        Failed = "failed",
    }
);

status!(
    /// What happens to a job whose host was lost, or had to stop it.
    #[derive(Default)]
    OnLost {
        /// It is queued again.
        #[default]
        Retry = "retry",
        /// It has failed.
        Fail = "fail",
        /// It is `lost` until an operator decides: for work that must never be done twice.
        Hold = "hold",
    }
);

status!(
    /// What becomes of a job when one that it depends on does not complete.
    #[derive(Default)]
    OnDependencyFailure {
        /// It has failed.
        #[default]
        Fail = "fail",
        /// It is cancelled: there is nothing for it to do.
        Skip = "skip",
    }
);

status!(
    /// What keeps a run apart from the rest of its host.
    Isolation {
        /// A process of its own.
        Process = "process",
        /// A container.
        Podman = "podman",
    }
);

status!(
    /// How a host does.
    HostState {
        /// It is heard of, and takes work.
        Up = "up",
        /// It has not been heard of for some time.
        Down = "down",
        /// It takes no more work.
        Draining = "draining",
        /// An operator on its machine has frozen it.
        Frozen = "frozen",
    }
);

status!(
    /// Why a host stopped a run before its end.
    Stopped {
        /// The job was called off.
        Cancelled = "cancelled",
        /// The job, or the host itself, was frozen.
        Frozen = "frozen",
        /// The host is drained, and the time for that is over.
        Draining = "draining",
        /// The host's daemon was stopped.
        Shutdown = "shutdown",
        /// The lease could not be renewed in time.
        Lease = "lease",
    }
);

status!(
    /// What an operator decides about a lost job.
    Resolution {
        /// It is queued again.
        Requeue = "requeue",
        /// It has failed.
        Fail = "fail",
        /// It was done.
        Complete = "complete",
    }
);

status!(
    /// What becomes of a time at which a schedule is due while the last job it made has not ended.
    #[derive(Default)]
    Overlap {
        /// Nothing is submitted at that time.
        #[default]
        Skip = "skip",
        /// A job is submitted as soon as the last one has ended; one such time waits at most.
        Queue = "queue",
        /// The last job is called off, and another submitted as soon as it has ended.
        Replace = "replace",
    }
);

impl JobStatus {
    /// Whether nothing more will happen to a job in this state by itself.
    #[must_use]
    pub fn is_finished(self) -> bool {
        match self {
            Self::Queued | Self::Leased | Self::Lost => false,
            Self::Completed | Self::Failed | Self::Cancelled | Self::Expired => true,
        }
    }
}
