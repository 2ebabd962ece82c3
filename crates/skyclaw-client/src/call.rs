//! What is asked of a coordinator. The same bytes go to every one that is tried.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::Client;
use crate::config::Coordinator;
use crate::error::Error;
use crate::tries::Tries;

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) body: Option<Bytes>,
    pub(crate) key: Option<http::HeaderValue>,
    /// How long the coordinator is asked to wait before it answers.
    pub(crate) poll: Duration,
    pub(crate) request_id: String,
    /// Whether it may be sent again when it may have been carried out already.
    pub(crate) repeatable: bool,
}

/// The body of a good answer and who gave it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: Bytes,
    pub(crate) from: Coordinator,
}

impl Call {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            query: vec![],
            body: None,
            key: None,
            poll: Duration::ZERO,
            request_id: Uuid::now_v7().to_string(),
            repeatable: true,
        }
    }

    pub(crate) fn post(path: impl Into<String>, body: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_vec(body).map_err(Error::Encode)?;
        Ok(Self { method: Method::POST, body: Some(body.into()), ..Self::get(path) })
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self { method: Method::DELETE, ..Self::get(path) }
    }

    /// Gives it the caller's idempotency key, or one of its own.
    pub(crate) fn keyed(mut self, key: Option<&str>) -> Result<Self, Error> {
        let key = key.unwrap_or(&self.request_id);
        self.key = Some(http::HeaderValue::from_str(key).map_err(|_| Error::InvalidKey)?);
        Ok(self)
    }

    pub(crate) fn polling(mut self, poll: Duration) -> Self {
        self.poll = poll;
        self
    }

    /// Done twice it is not the same as once, and no key makes it so: it is not sent again when it may
    /// have been carried out.
    pub(crate) fn once(mut self) -> Self {
        self.repeatable = false;
        self
    }

    /// For error texts.
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub(crate) fn key_text(&self) -> Option<String> {
        self.key.as_ref().and_then(|key| key.to_str().ok()).map(str::to_owned)
    }
}

impl Client {
    /// Makes a call and reads its answer.
    pub(crate) async fn fetch<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Error> {
        let Answer { body, from } = self.answer(call).await?;
        serde_json::from_slice(&body).map_err(|fault| Error::InvalidAnswer {
            url: from.0,
            request: call.name(),
            fault: fault.to_string(),
        })
    }

    /// Makes a call; the answer is the body of a 2xx.
    pub(crate) async fn answer(&self, call: &Call) -> Result<Answer, Error> {
        let mut tries = Tries::new(self, call);
        loop {
            let turn = tries.next().await?;
            let to = tries.coordinator(turn);
            match self.attempt(call, to, turn.limit).await {
                Ok(body) => {
                    tries.succeeded(turn);
                    return Ok(Answer { body, from: to.clone() });
                }
                Err(miss) => tries.missed(turn, miss)?,
            }
        }
    }
}
