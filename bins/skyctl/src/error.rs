//! Why a command could not do what it was asked.

use std::io;
use std::path::PathBuf;

use crate::exit::Exit;

/// An error for the person at the terminal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A call to the coordinators failed.
    #[error(transparent)]
    Client(#[from] skyclaw_client::Error),
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] skyclaw_config::Error),
    /// Both streams have offsets of their own.
    #[error("--offset is of one stream: say --stream stdout or --stream stderr")]
    OffsetOfBoth,
    /// There are options and no command.
    #[error("there is no command: skyctl --help lists them")]
    NoCommand,
    /// No record has an id (or name) like this.
    #[error("there is no {kind} {wanted}{hint}")]
    NoSuch {
        /// `job`, `host` or `service`.
        kind: &'static str,
        /// What was asked for.
        wanted: String,
        /// What may help, or nothing.
        hint: String,
    },
    /// More than one record has an id that begins like this.
    #[error("{wanted} could be any of these {kind}s: {}: give more of the id", candidates.join(", "))]
    Ambiguous {
        /// `job`, `host` or `service`.
        kind: &'static str,
        /// What was asked for.
        wanted: String,
        /// The first ids that match.
        candidates: Vec<String>,
    },
    /// Stdout cannot be written to.
    #[error("cannot write the output")]
    Output(#[source] io::Error),
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file holds no submission; nothing was submitted.
    #[error("{} holds no job to submit: {fault}", path.display())]
    Submission {
        /// The file.
        path: PathBuf,
        /// Why.
        fault: String,
    },
    /// A snapshot cannot be read or is not to be trusted; nothing was changed.
    #[error(transparent)]
    Snapshot(skyclaw_store::snapshot::Error),
    /// The snapshot was taken of another cluster; nothing was changed.
    #[error(
        "the snapshot was taken of cluster {snapshot}, and this is cluster {cluster}: nothing was changed; with \
         --force this cluster takes that one's place"
    )]
    ForeignSnapshot {
        /// The cluster the snapshot was taken of.
        snapshot: String,
        /// The cluster that was asked.
        cluster: String,
    },
    /// Nobody said yes.
    #[error("nothing was changed: confirm with yes, or give --yes where nobody can be asked")]
    NotConfirmed,
    /// A coordinator said neither yes nor no.
    #[error("the coordinator does not say what came of it: ask skyctl snapshot history")]
    NoAnswer,
    /// A record cannot be shown as JSON or YAML.
    #[error("cannot show the record: {0}")]
    Encode(String),
    /// A bench cannot begin with what it was told.
    #[error("{0}")]
    Bench(String),
    /// The machine does not give what a bench needs.
    #[error("the bench could not {step}")]
    BenchFailed {
        /// What it was about to do.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The demo could not go on.
    #[error("the demo could not {step}")]
    Demo {
        /// What it was about to do.
        step: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The exit code that goes with it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        use skyclaw_client::Error as Client;
        match self {
            Self::Client(error) if error.is_not_found() => Exit::NotFound,
            Self::Client(Client::Refused { status: 401 | 403, .. }) => Exit::NotAuthorized,
            Self::Client(Client::Unavailable { .. } | Client::Unsure { .. }) => Exit::Unavailable,
            Self::Client(
                Client::NoCoordinator | Client::InvalidUrl | Client::InvalidToken | Client::InvalidKey,
            )
            | Self::Config(_)
            | Self::NoCommand
            | Self::OffsetOfBoth
            | Self::NotConfirmed
            | Self::Submission { .. }
            | Self::Bench(_)
            | Self::Ambiguous { .. } => Exit::Usage,
            Self::NoSuch { .. } => Exit::NotFound,
            _ if self.is_closed_pipe() => Exit::Success,
            Self::Client(_)
            | Self::Output(_)
            | Self::File { .. }
            | Self::Read { .. }
            | Self::Snapshot(_)
            | Self::ForeignSnapshot { .. }
            | Self::NoAnswer
            | Self::Encode(_)
            | Self::BenchFailed { .. }
            | Self::Demo { .. } => Exit::Failure,
        }
    }

    /// Whether the reader of our output went away, as `head` does: no fault, and nothing to say.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        match self {
            Self::Output(source) | Self::Client(skyclaw_client::Error::Copy { source, .. }) => {
                source.kind() == io::ErrorKind::BrokenPipe
            }
            _ => false,
        }
    }

    /// The text with all its causes.
    #[must_use]
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skyclaw_client::Error as Client;
    use skyclaw_proto::{ErrorBody, ErrorCode};

    fn refused(status: u16) -> Error {
        let body = ErrorBody::new(ErrorCode::Internal, "no");
        Client::Refused { status, body, request_id: "r".into() }.into()
    }

    #[test]
    fn every_kind_of_error_has_the_exit_code_that_is_promised() {
        assert_eq!(refused(404).exit().code(), 3);
        assert_eq!(refused(401).exit().code(), 4);
        assert_eq!(refused(403).exit().code(), 4);
        assert_eq!(refused(409).exit().code(), 1);
        assert_eq!(Error::from(Client::InvalidUrl).exit().code(), 2);
        let nobody = Client::Unavailable {
            request: "GET /".into(),
            waited: std::time::Duration::ZERO,
            failures: vec![],
            key: None,
            request_id: "r".into(),
        };
        assert_eq!(Error::from(nobody).exit().code(), 5);
        let closed = Error::Output(io::ErrorKind::BrokenPipe.into());
        assert_eq!((closed.exit().code(), closed.is_closed_pipe()), (0, true));
    }

    #[test]
    fn causes_are_told_to_the_last_one() {
        let source = io::Error::other("disk full");
        let error = Error::File { path: "/x".into(), source };
        assert_eq!(error.with_causes(), "cannot write /x: disk full");
    }
}
