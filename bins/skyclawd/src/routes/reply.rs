//! Replies of the state machine as the bodies of answers.

use skyclaw_core::Reply;
use skyclaw_proto::record;
use skyclaw_proto::response::{ClaimedService, HostBody, JobBody, ServiceBody};
use skyclaw_replication::Written;

use crate::error::ApiError;

pub(super) fn host(written: &Written) -> Result<HostBody, ApiError> {
    match &written.reply {
        Reply::Host(host) => Ok(HostBody { host: record::Host::from(&**host) }),
        other => Err(unexpected(other)),
    }
}

pub(super) fn job(written: &Written) -> Result<JobBody, ApiError> {
    match &written.reply {
        Reply::Job(job) => Ok(JobBody { job: record::Job::from(&**job) }),
        other => Err(unexpected(other)),
    }
}

pub(super) fn claimed(written: &Written) -> Result<Vec<record::Job>, ApiError> {
    match &written.reply {
        Reply::Claimed(jobs) => Ok(jobs.iter().map(|job| record::Job::from(&**job)).collect()),
        other => Err(unexpected(other)),
    }
}

pub(super) fn service(written: &Written) -> Result<ServiceBody, ApiError> {
    match &written.reply {
        Reply::Service(service) => Ok(ServiceBody { service: record::Service::from(&**service) }),
        other => Err(unexpected(other)),
    }
}

pub(super) fn claimed_service(written: &Written) -> Result<ClaimedService, ApiError> {
    match &written.reply {
        Reply::ClaimedService(service) => {
            Ok(ClaimedService { service: service.as_deref().map(record::Service::from) })
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
fn unexpected(reply: &Reply) -> ApiError {
    tracing::error!(?reply, "the state machine gave a reply of the wrong kind");
    ApiError::internal()
}
