//! `POST /v1/public/jobs`: a job from outside, within what its key allows. Its place in the queue is at
//! most that of a job whose client named no priority.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use skyclaw_proto::request::{EnqueueJob, EnqueueJobBody};
use skyclaw_proto::{ErrorCode, Payload, limits, route};

use super::enqueue_job;
use super::public_caller::PublicCaller;
use super::reply;
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Body, ClientKey, RequestName};
use crate::public_keys::PublicKey;

/// What a key does not allow.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The job asks for more than the key's capabilities.
    #[error("requested capabilities are not allowed for this api key")]
    Capabilities,
    /// What reaches beyond the job itself is not for callers from outside.
    #[error("{0} is not allowed for an api key")]
    Terms(&'static str),
    /// The key's rule does not end in `:shell`.
    #[error("shell jobs are not allowed for this api key")]
    Shell,
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self::new(StatusCode::FORBIDDEN, ErrorCode::Forbidden, error.to_string())
    }
}

pub(crate) async fn handle(
    State(app): State<Shared>,
    PublicCaller(rule): PublicCaller,
    key: ClientKey,
    request: RequestName,
    body: Body<EnqueueJobBody>,
) -> Result<Response, ApiError> {
    let key = key.bind(&app, &rule.caller, route::PUBLIC_JOBS, &body)?;
    let job = allowed(body.take().check()?, &rule)?;
    let by = request.of_public(&app, rule.label().to_owned());
    let written = app.node.write_by(Some(by), key, enqueue_job::operation(&app, job)).await?;
    reply::publicly_submitted(&written)
}

/// The job as the key's rule has it.
fn allowed(job: EnqueueJob, rule: &PublicKey) -> Result<EnqueueJob, Error> {
    // Saying nothing asks for all; an empty requirement asks for none.
    let required = job.required_capabilities.unwrap_or_else(|| rule.capabilities.clone());
    if !rule.capabilities.covers(&required) {
        return Err(Error::Capabilities);
    }
    if let Some(terms) = &job.terms {
        let beyond = [
            ("agentId", terms.agent_id.is_some()),
            ("network", terms.network.is_some()),
            ("mounts", !terms.mounts.is_empty()),
        ];
        if let Some((field, _)) = beyond.into_iter().find(|(_, given)| *given) {
            return Err(Error::Terms(field));
        }
    }
    match &job.payload {
        Payload::Shell(_) if !rule.shell => return Err(Error::Shell),
        Payload::Shell(_) | Payload::OpenclawRun(_) => {}
    }
    Ok(EnqueueJob {
        required_capabilities: Some(required),
        submitted_by: Some(rule.submitter.clone()),
        priority: job.priority.min(limits::DEFAULT_PRIORITY),
        ..job
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::public_keys::PublicKeys;
    use serde_json::json;
    use skyclaw_proto::Capabilities;

    fn submit(rule: &str, body: serde_json::Value) -> Result<EnqueueJob, Error> {
        let keys = PublicKeys::parse(rule).expect("a rule");
        let body: EnqueueJobBody = serde_json::from_value(body).expect("a body");
        allowed(body.check().expect("valid"), keys.find(b"k").expect("known"))
    }

    #[test]
    fn no_requirement_asks_for_all_of_the_key_and_an_empty_one_for_none() {
        let payload = json!({"kind": "openclaw-run"});
        let job = submit("k:ann:gpu|openclaw", json!({"payload": payload})).expect("allowed");
        assert_eq!(job.required_capabilities, Some(Capabilities::new(["gpu", "openclaw"])));
        assert_eq!(job.submitted_by.as_deref(), Some("public:ann"));
        let job = submit("k:ann:gpu", json!({"payload": payload, "requirement": {}})).expect("allowed");
        assert_eq!(job.required_capabilities, Some(Capabilities::default()));
    }

    #[test]
    fn what_the_key_does_not_allow_is_refused() {
        let more =
            json!({"payload": {"kind": "openclaw-run"}, "requirement": {"requiredCapabilities": ["x"]}});
        assert_eq!(submit("k:ann:gpu:shell", more), Err(Error::Capabilities));
        let shell = json!({"payload": {"kind": "shell", "command": "true"}});
        assert_eq!(submit("k:ann:shell", shell.clone()), Err(Error::Shell));
        assert!(submit("k:ann:shell:shell", shell).is_ok());
    }

    #[test]
    fn what_reaches_beyond_the_job_is_not_for_callers_from_outside() {
        let with = |field: &str, value: serde_json::Value| {
            let mut body = json!({"payload": {"kind": "openclaw-run"}, "isolation": "podman"});
            body[field] = value;
            submit("k:ann:", body)
        };
        assert_eq!(with("agentId", json!("bot")), Err(Error::Terms("agentId")));
        assert_eq!(with("network", json!("host")), Err(Error::Terms("network")));
        assert_eq!(with("mounts", json!([{"source": "/etc"}])), Err(Error::Terms("mounts")));
        assert!(with("onLost", json!("hold")).is_ok());
    }

    #[test]
    fn nobody_outside_gets_ahead_of_those_inside() {
        let body = json!({"payload": {"kind": "openclaw-run"}, "priority": 100, "submittedBy": "root"});
        let job = submit("k:ann", body).expect("allowed");
        assert_eq!(
            (job.priority, job.submitted_by.as_deref()),
            (limits::DEFAULT_PRIORITY, Some("public:ann"))
        );
    }
}
