//! The states a job, a service and an assignment can be in.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! status {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
