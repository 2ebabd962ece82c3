//! Replies of the state machine as the bodies of answers.

use axum::Json;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use skyclaw_core::Reply;
use skyclaw_proto::response::{ClaimedService, FreezeBody, HostBody, JobBody, ServiceBody, SubmittedBody};
use skyclaw_proto::{HostState, Payload, record};
use skyclaw_replication::Written;

use crate::aside::aside;
use crate::error::ApiError;
use crate::middleware::index;

/// What most answers to writes fit into: a buffer that grows while it is written is copied each time.
const TEXT_BYTES: usize = 1024;
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The answer to a write, and the place in the log at which it can be seen. The coordinator that answers
/// may not have come that far itself, when another one leads.
#[derive(Debug)]
pub(crate) struct At<T> {
    pub(super) index: u64,
    pub(super) body: T,
}

impl<T: Serialize> IntoResponse for At<T> {
    fn into_response(self) -> Response {
        let mut text = Vec::with_capacity(TEXT_BYTES);
        if let Err(error) = serde_json::to_writer(&mut text, &self.body) {
            tracing::error!(%error, "an answer cannot be put into JSON");
            return ApiError::internal().into_response();
        }
        let mut response = Response::new(text.into());
        response.headers_mut().insert(header::CONTENT_TYPE, JSON);
        index::tell(response.headers_mut(), self.index);
        response
    }
}

/// An answer that may be large: made and put into JSON aside.
pub(super) fn large<T: Serialize>(body: impl FnOnce() -> Result<T, ApiError>) -> Result<Response, ApiError> {
    aside(|| Ok(Json(body()?).into_response()))
}

fn at<T>(written: &Written, body: T) -> At<T> {
    At { index: written.index, body }
}

pub(super) fn host(written: &Written) -> Result<At<HostBody>, ApiError> {
    match &written.reply {
        Reply::Host(host) => {
            let mut host = record::Host::from(&**host);
            host.state.get_or_insert(HostState::Up);
            host.state_since.get_or_insert(host.registered_at);
            Ok(at(written, HostBody { host }))
        }
        other => Err(unexpected(other)),
    }
}

pub(super) fn freeze(written: &Written) -> Result<At<FreezeBody>, ApiError> {
    match &written.reply {
        Reply::Freeze(freeze) => Ok(at(written, FreezeBody { freeze: record::Freeze::from(&**freeze) })),
        other => Err(unexpected(other)),
    }
}

pub(super) fn job(written: &Written) -> Result<Response, ApiError> {
    lent_job(written).map(At::into_response)
}

/// The job that was submitted, or the one that was there before.
pub(super) fn submitted(written: &Written) -> Result<Response, ApiError> {
    lent_submission(written).map(At::into_response)
}

/// The same as whoever has a key may see it.
pub(super) fn publicly_submitted(written: &Written) -> Result<Response, ApiError> {
    let mut answer = lent_submission(written)?;
    answer.body.job.submitted_by = None;
    Ok(answer.into_response())
}

fn lent_submission(written: &Written) -> Result<At<SubmittedBody<&Payload>>, ApiError> {
    let (job, existing) = match &written.reply {
        Reply::Job(job) => (job, false),
        Reply::Existing(job) => (job, true),
        other => return Err(unexpected(other)),
    };
    Ok(at(written, SubmittedBody { job: job.lent(), existing }))
}

fn lent_job(written: &Written) -> Result<At<JobBody<&Payload>>, ApiError> {
    match &written.reply {
        Reply::Job(job) => Ok(at(written, JobBody { job: job.lent() })),
        other => Err(unexpected(other)),
    }
}

pub(super) fn claimed(written: &Written) -> Result<Vec<record::Job>, ApiError> {
    match &written.reply {
        Reply::Claimed(jobs) => Ok(jobs.iter().map(|job| record::Job::from(&**job)).collect()),
        other => Err(unexpected(other)),
    }
}

pub(super) fn service(written: &Written) -> Result<At<ServiceBody>, ApiError> {
    match &written.reply {
        Reply::Service(service) => {
            Ok(at(written, ServiceBody { service: record::Service::from(&**service) }))
        }
        other => Err(unexpected(other)),
    }
}

pub(super) fn claimed_service(written: &Written) -> Result<At<ClaimedService>, ApiError> {
    match &written.reply {
        Reply::ClaimedService(service) => {
            Ok(at(written, ClaimedService { service: service.as_deref().map(record::Service::from) }))
        }
        other => Err(unexpected(other)),
    }
}

pub(super) fn merged(written: &Written) -> Result<bool, ApiError> {
    match &written.reply {
        Reply::Merged(changed) => Ok(*changed),
        other => Err(unexpected(other)),
    }
}

/// A reply of another kind than the operation has: a fault of ours.
pub(super) fn unexpected(reply: &Reply) -> ApiError {
    tracing::error!(?reply, "the state machine gave a reply of the wrong kind");
    ApiError::internal()
}
