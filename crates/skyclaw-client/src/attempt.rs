//! One request to one coordinator, and what its answer means.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Method};
use reqwest::Response;
use skyclaw_proto::route::{
    ACTOR_HEADER, IDEMPOTENCY_HEADER, INDEX_HEADER, MIN_INDEX_HEADER, REQUEST_ID_HEADER, TOKEN_HEADER,
    TRACE_PARENT_HEADER,
};
use skyclaw_proto::{ErrorBody, ErrorCode};
use tokio::time::timeout;

use crate::Client;
use crate::call::Call;
use crate::config::Coordinator;
use crate::error::{Error, Reason};

/// Longest text of an error that is no [`ErrorBody`], in characters.
const MAX_ERROR_TEXT: usize = 200;
/// Longest `retry-after` that is honoured.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// Why one try was no success.
#[derive(Debug)]
pub(crate) enum Miss {
    /// Refused for good, with the status.
    Refused(u16, ErrorBody),
    /// Worth another try, here or elsewhere.
    Failed {
        reason: Reason,
        /// How long the coordinator asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// Answered with something that is not in the contract.
    Invalid(Error),
}

impl From<Reason> for Miss {
    fn from(reason: Reason) -> Self {
        Self::Failed { reason, retry_after: None }
    }
}

impl Client {
    /// Sends a call to a coordinator and reads the whole body of its answer.
    pub(crate) async fn attempt(
        &self,
        call: &Call,
        to: &Coordinator,
        limit: Duration,
    ) -> Result<Bytes, Miss> {
        let work = async {
            let response = self.open(call, to, limit).await?;
            self.read(call, to, response).await
        };
        timeout(limit, work).await.unwrap_or_else(|_| Err(Reason::TimedOut.into()))
    }

    /// Sends a call to a coordinator; a good answer still has its body to be read.
    pub(crate) async fn open(
        &self,
        call: &Call,
        to: &Coordinator,
        limit: Duration,
    ) -> Result<Response, Miss> {
        let opened = timeout(limit, self.open_unlimited(call, to)).await;
        opened.unwrap_or_else(|_| Err(Reason::TimedOut.into()))
    }

    async fn open_unlimited(&self, call: &Call, to: &Coordinator) -> Result<Response, Miss> {
        let mut response = self.request(call, to).send().await.map_err(reason)?;
        let status = response.status();
        if status.is_success() {
            self.remember_index(call, response.headers());
            return Ok(response);
        }
        let retry_after = retry_after(response.headers());
        let text = match read_bounded(&mut response, self.shared.config.max_answer_bytes).await {
            Ok(text) => text,
            Err(Unread::Broken(reason)) => return Err(reason.into()),
            Err(Unread::TooLarge) => Bytes::new(),
        };
        let body = error_body(status, &text);
        match status.as_u16() {
            status @ (408 | 429 | 500..) if !is_final(&body) => {
                Err(Miss::Failed { reason: Reason::Busy { status, body }, retry_after })
            }
            status => Err(Miss::Refused(status, body)),
        }
    }

    fn request(&self, call: &Call, to: &Coordinator) -> reqwest::RequestBuilder {
        let url = format!("{}{}", to.0, call.path);
        let mut request = self.shared.http.request(call.method.clone(), url);
        if !call.query.is_empty() {
            request = request.query(&call.query);
        }
        request = request.header(REQUEST_ID_HEADER, &call.request_id);
        if let Some(token) = &self.shared.token {
            request = request.header(TOKEN_HEADER, token);
        }
        if let Some(actor) = &self.shared.actor {
            request = request.header(ACTOR_HEADER, actor);
        }
        if let Some(place) = self.shared.config.traceparent.and_then(|here| here()) {
            request = request.header(TRACE_PARENT_HEADER, place);
        }
        if let Some(key) = &call.key {
            request = request.header(IDEMPOTENCY_HEADER, key);
        }
        let written = self.shared.written.load(Ordering::Relaxed);
        if call.method == Method::GET && written > 0 {
            request = request.header(MIN_INDEX_HEADER, written);
        }
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        request
    }

    async fn read(&self, call: &Call, from: &Coordinator, mut response: Response) -> Result<Bytes, Miss> {
        let max = self.shared.config.max_answer_bytes;
        match read_bounded(&mut response, max).await {
            Ok(body) => Ok(body),
            Err(Unread::Broken(reason)) => Err(reason.into()),
            Err(Unread::TooLarge) => Err(Miss::Invalid(Error::InvalidAnswer {
                url: from.0.clone(),
                request: call.name(),
                fault: format!("it is larger than {max} bytes"),
            })),
        }
    }

    /// What is written here is to be seen by every later read, whoever answers it.
    fn remember_index(&self, call: &Call, headers: &HeaderMap) {
        let index = headers.get(INDEX_HEADER).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        if let (true, Some(index)) = (call.key.is_some(), index) {
            self.shared.written.fetch_max(index, Ordering::Relaxed);
        }
    }
}

enum Unread {
    Broken(Reason),
    TooLarge,
}

async fn read_bounded(response: &mut Response, max: usize) -> Result<Bytes, Unread> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Unread::Broken(reason(error)))? {
        if body.len() + chunk.len() > max {
            return Err(Unread::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Answers in the 5xx that no coordinator will change by itself.
fn is_final(body: &ErrorBody) -> bool {
    body.code == Some(ErrorCode::PublicApiDisabled)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// What an error answer says; its text when it is none of ours.
fn error_body(status: http::StatusCode, text: &[u8]) -> ErrorBody {
    serde_json::from_slice(text).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(text);
        let shown: String = text.trim().chars().filter(|c| !c.is_control()).take(MAX_ERROR_TEXT).collect();
        let reason = status.canonical_reason().unwrap_or("an error");
        let error = if shown.is_empty() { reason.to_lowercase() } else { shown };
        ErrorBody { error, code: None, details: None }
    })
}

/// The failure in words. The URL is left out: who shows it says it anyway.
fn reason(error: reqwest::Error) -> Reason {
    let error = error.without_url();
    if error.is_timeout() && !error.is_connect() {
        return Reason::TimedOut;
    }
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = match cause.downcast_ref::<std::io::Error>() {
        Some(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ if error.is_connect() && error.is_timeout() => "no connection in time".to_owned(),
        _ => cause.to_string(),
    };
    if error.is_connect() { Reason::Unreachable { cause: text } } else { Reason::Broken { cause: text } }
}
