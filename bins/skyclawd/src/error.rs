//! How everything that can go wrong becomes an answer: the one place that knows statuses.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use skyclaw_core::Refusal;
use skyclaw_proto::{ErrorBody, ErrorCode, Invalid};
use skyclaw_replication::{ReadError, WriteError};

/// What a client that came at a bad time is told to wait, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// An error as a client sees it. A 503 carries `retry-after`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    body: ErrorBody,
}

/// Goes with an answer of 503, for whoever counts them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unavailable(pub(crate) ErrorCode);

impl ApiError {
    /// An error with a sentence and a word.
    #[must_use]
    pub fn new(status: StatusCode, code: ErrorCode, sentence: impl Into<String>) -> Self {
        Self { status, body: ErrorBody::new(code, sentence) }
    }

    /// A request that is not as it must be.
    #[must_use]
    pub fn bad_request(sentence: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorCode::InvalidRequest, sentence)
    }

    /// Something that is not there.
    #[must_use]
    pub fn not_found(sentence: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, ErrorCode::NotFound, sentence)
    }

    /// Too much is going on.
    #[must_use]
    pub fn overloaded(sentence: impl Into<String>) -> Self {
        Self::unavailable(ErrorCode::Overloaded, sentence)
    }

    /// Something that may work later.
    #[must_use]
    pub fn unavailable(code: ErrorCode, sentence: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, sentence)
    }

    /// A fault of ours. What it was is for the log.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Internal, "internal error")
    }

    /// The same error with what else helps.
    #[must_use]
    pub fn with_details(mut self, details: serde_json::Value) -> Self {
        self.body.details = Some(details);
        self
    }

    /// What is sent.
    #[must_use]
    pub fn body(&self) -> &ErrorBody {
        &self.body
    }

    /// With which status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = self.body.code;
        let mut response = (self.status, Json(self.body)).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.extensions_mut().insert(Unavailable(code.unwrap_or(ErrorCode::Unknown)));
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        Self::bad_request(invalid.to_string()).with_details(json!({ "field": invalid.field }))
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        use {ErrorCode as Code, StatusCode as Status};
        let (status, code) = match &refusal {
            Refusal::UnknownHost(_)
            | Refusal::UnknownJob(_)
            | Refusal::UnknownService(_)
            | Refusal::UnknownFreeze(_)
            | Refusal::UnknownSchedule(_) => (Status::NOT_FOUND, Code::NotFound),
            Refusal::ScheduleExists { .. } => (Status::CONFLICT, Code::ScheduleExists),
            Refusal::TooManySchedules => (Status::CONFLICT, Code::TooManySchedules),
            Refusal::ScheduleBusy { .. } => (Status::CONFLICT, Code::ScheduleBusy),
            Refusal::NotLost { .. } => (Status::CONFLICT, Code::NotLost),
            Refusal::UnknownDependency(_) => (Status::CONFLICT, Code::UnknownDependency),
            Refusal::NotToRetry { .. } | Refusal::UniqueKeyTaken { .. } => {
                (Status::CONFLICT, Code::NotRetryable)
            }
            Refusal::HostBusy { .. } => (Status::CONFLICT, Code::HostBusy),
            Refusal::TooManyFreezes => (Status::CONFLICT, Code::TooManyFreezes),
            Refusal::AssignedElsewhere { .. } | Refusal::NotAssigned { .. } => {
                (Status::CONFLICT, Code::NotAssigned)
            }
            Refusal::NotLeased(_) => (Status::CONFLICT, Code::NotLeased),
            Refusal::StaleFence { .. } => (Status::CONFLICT, Code::StaleFence),
            Refusal::JobEnded { .. } => (Status::CONFLICT, Code::JobFinished),
            Refusal::KeyReused(_) => (Status::CONFLICT, Code::IdempotencyConflict),
            Refusal::JobsLeased { .. } => (Status::CONFLICT, Code::JobsLeased),
            Refusal::ForeignSnapshot { .. } => (Status::CONFLICT, Code::ForeignSnapshot),
            Refusal::SnapshotUnusable(_) => (Status::CONFLICT, Code::SnapshotUnusable),
            Refusal::NotStaged(_) | Refusal::RestoreIncomplete { .. } | Refusal::RestoreNotAlone(_) => {
                (Status::CONFLICT, Code::RestoreIncomplete)
            }
        };
        Self::new(status, code, refusal.to_string())
    }
}

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        let sentence = error.to_string();
        match error {
            WriteError::Refused(refusal) => refusal.into(),
            WriteError::InsufficientPeers { .. } => Self::unavailable(ErrorCode::InsufficientPeers, sentence),
            WriteError::PeersUnreachable { .. } => Self::unavailable(ErrorCode::PeersUnreachable, sentence),
            WriteError::OutcomeUnknown | WriteError::TargetNotMet { .. } => {
                Self::unavailable(ErrorCode::OutcomeUnknown, sentence)
            }
            WriteError::NoLeader => Self::unavailable(ErrorCode::NoLeader, sentence),
            WriteError::NotServing(_) => Self::unavailable(ErrorCode::NotReady, sentence),
            WriteError::Overloaded => Self::overloaded(sentence),
            // What exactly is wrong with the disk was logged by who noticed.
            WriteError::Storage(_) => Self::unavailable(
                ErrorCode::StorageUnavailable,
                "the disk cannot be written at the moment; nothing was written",
            ),
            WriteError::ShuttingDown => Self::unavailable(ErrorCode::ShuttingDown, sentence),
            error => {
                tracing::error!(%error, "a write failed");
                Self::internal()
            }
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match &error {
            ReadError::ShuttingDown | ReadError::Store(skyclaw_store::ReadError::Closed) => {
                Self::unavailable(ErrorCode::ShuttingDown, "the coordinator is going down")
            }
            ReadError::Store(skyclaw_store::ReadError::Busy) => {
                Self::overloaded("too many reads are under way; try again later")
            }
            _ => {
                tracing::error!(error = &error as &dyn std::error::Error, "a read failed");
                Self::internal()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skyclaw_proto::{HostId, JobId};

    #[test]
    fn a_refusal_keeps_its_sentence_and_gets_its_status() {
        let job = JobId::parse("j").expect("an id");
        let error = ApiError::from(Refusal::UnknownJob(job.clone()));
        assert_eq!((error.status(), error.body().error.as_str()), (StatusCode::NOT_FOUND, "unknown job: j"));
        let holder = HostId::parse("h").ok();
        let error = ApiError::from(WriteError::from(Refusal::AssignedElsewhere { job, holder }));
        assert_eq!(error.body().error, "job j is assigned to h");
        assert_eq!((error.status(), error.body().code), (StatusCode::CONFLICT, Some(ErrorCode::NotAssigned)));
    }

    #[test]
    fn a_target_that_is_not_met_is_a_503_that_says_when_to_come_back() {
        let error = ApiError::from(WriteError::InsufficientPeers { needed: 1, known: 0 });
        assert_eq!(error.body().error, "insufficient peers: requires at least 1 known peers, got 0");
        let response = error.into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers().get(header::RETRY_AFTER), Some(&RETRY_AFTER));
    }

    #[test]
    fn what_is_wrong_with_the_disk_is_not_told() {
        let error = ApiError::from(WriteError::Storage("/var/lib/secret: no space".into()));
        assert!(!error.body().error.contains("/var"));
    }
}
