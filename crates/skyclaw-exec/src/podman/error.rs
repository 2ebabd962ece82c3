//! Why Podman did not do what was asked.

use std::io;
use std::path::PathBuf;

/// Why a run in Podman was refused, or could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The run asks for something that this host's policy or the driver does not allow.
    #[error("{field}: {fault}")]
    Refused {
        /// The field of the run, as a client knows it.
        field: &'static str,
        /// What is wrong with it and what to do.
        fault: String,
    },
    /// Nobody answers at the socket.
    #[error(
        "the Podman service does not answer at {}: start it (`systemctl start podman.socket`, or \
         `systemctl --user start podman.socket` for a user's own)",
        socket.display()
    )]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The service was asked and did not answer in time.
    #[error("the Podman service at {} did not {what} within {seconds} s", socket.display())]
    Slow {
        /// The socket.
        socket: PathBuf,
        /// What it was asked to do.
        what: String,
        /// How long it was waited.
        seconds: u64,
    },
    /// The service said no.
    #[error("Podman could not {what}: {message} ({status})")]
    Podman {
        /// What it was asked to do.
        what: String,
        /// The status of its answer.
        status: u16,
        /// Its reason.
        message: String,
    },
    /// The service gave an answer that is not of this contract.
    #[error("Podman was asked to {what} and gave an answer that cannot be understood: {fault}")]
    Answer {
        /// What it was asked to do.
        what: String,
        /// What is wrong.
        fault: String,
    },
    /// The container would not be bound as it must be. It was removed and nothing of the run was started.
    #[error("the run was refused: its container is not bound as it must be: {missing}")]
    Unbound {
        /// What is missing.
        missing: String,
    },
    /// A file or folder of the driver's own cannot be used.
    #[error("{} cannot be used", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A control group cannot be made or set.
    #[error("the control groups of the run cannot be set")]
    Cgroup {
        /// Which file, and why.
        source: io::Error,
    },
    /// The process that is to keep the run could not be started.
    #[error("the shim of the run could not be started")]
    Keeper {
        /// Why.
        source: io::Error,
    },
    /// Its deadline had passed before anything of it was started.
    #[error("its deadline passed before it was started")]
    TooLate,
    /// The host's own switch is off.
    #[error("stopped: {why}")]
    Halted {
        /// Why nothing runs.
        why: String,
    },
    /// There is no such run.
    #[error("there is no run {run} to take up again: {why}")]
    Gone {
        /// The run.
        run: String,
        /// What is missing.
        why: String,
    },
}

impl Error {
    /// A control group, where the error says which.
    pub(crate) fn from_groups(source: io::Error) -> Self {
        Self::Cgroup { source }
    }

    /// The error and what caused it, as one sentence.
    #[must_use]
    pub fn describe(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }

    /// Whether the same may go well when the service is there again.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Slow { .. })
    }

    pub(crate) fn refused(field: &'static str, fault: impl Into<String>) -> Self {
        Self::Refused { field, fault: fault.into() }
    }

    /// Whether the service says that there is no such thing.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Podman { status: 404, .. })
    }
}
