//! What is asked of a coordinator. The same bytes go to every one that is tried.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::Client;
use crate::attempt::Answer;
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
        }
    }

    pub(crate) fn post(path: impl Into<String>, body: &impl Serialize) -> Result<Self, Error> {
        let body = serde_json::to_vec(body).map_err(Error::Encode)?;
        Ok(Self { method: Method::POST, body: Some(body.into()), ..Self::get(path) })
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
        let Answer { body, coordinator } = self.answer(call).await?;
        serde_json::from_slice(&body).map_err(|fault| Error::InvalidAnswer {
            url: self.shared.coordinators[coordinator].0.clone(),
            request: call.name(),
            fault: fault.to_string(),
        })
    }

    /// Makes a call; the answer is the body of a 2xx.
    pub(crate) async fn answer(&self, call: &Call) -> Result<Answer, Error> {
        let mut tries = Tries::new(self, call);
        loop {
            let turn = tries.next().await?;
            match self.attempt(call, turn).await {
                Ok(answer) => {
                    tries.succeeded(turn);
                    return Ok(answer);
                }
                Err(miss) => tries.missed(turn, miss)?,
            }
        }
    }
}
