//! A client of the wire contract: what a program written for the reference mesh sends and expects.

use std::io::{BufRead as _, BufReader, Read as _};
use std::time::Duration;

use serde_json::Value;
use ureq::http::{Request, Response};

use crate::shape;

/// Longer than any wait a coordinator grants.
const PATIENCE: Duration = Duration::from_secs(45);
/// Longer than anything that is read as it comes goes on.
const STREAMED: Duration = Duration::from_secs(600);

/// A client of one coordinator. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Wire {
    agent: ureq::Agent,
    base: String,
    token: Option<String>,
}

impl Wire {
    /// A client of the coordinator at `base`.
    #[must_use]
    pub fn new(base: &str, token: Option<&str>) -> Self {
        Self { agent: agent(PATIENCE), base: base.to_owned(), token: token.map(str::to_owned) }
    }

    /// The same client, on connections of its own, that gives an answer up after `patience`.
    #[must_use]
    pub fn with_patience(&self, patience: Duration) -> Self {
        Self { agent: agent(patience), ..self.clone() }
    }

    /// The same client without a token.
    #[must_use]
    pub fn without_token(&self) -> Self {
        Self { token: None, ..self.clone() }
    }

    /// The same client with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// A request without a body.
    #[must_use]
    pub fn call(&self, method: &str, path: &str) -> Call {
        let mut headers = Vec::new();
        if let Some(token) = &self.token {
            headers.push(("x-skyclaw-token".to_owned(), token.clone()));
        }
        let url = format!("{}{path}", self.base);
        Call { agent: self.agent.clone(), method: method.to_owned(), url, headers, body: Vec::new() }
    }

    /// A `GET`.
    #[must_use]
    pub fn get(&self, path: &str) -> Call {
        self.call("GET", path)
    }

    /// A `POST` with a JSON body.
    #[must_use]
    pub fn post(&self, path: &str, body: &Value) -> Call {
        self.call("POST", path).header("content-type", "application/json").body(body.to_string())
    }
}

fn agent(patience: Duration) -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .timeout_global(Some(patience))
        .build()
        .new_agent()
}

/// A request.
#[derive(Debug, Clone)]
pub struct Call {
    agent: ureq::Agent,
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Call {
    /// With an idempotency key.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.header("x-idempotency-key", key)
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it.
    ///
    /// # Errors
    /// When no answer came: nobody knows whether the request was carried out.
    pub fn try_send(self) -> Result<Reply, String> {
        let mut request = Request::builder().method(self.method.as_str()).uri(&self.url);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        // The client refuses to send a body, even an empty one, with a method that takes none.
        let response = if matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS" | "DELETE") {
            self.agent.run(request.body(()).map_err(|e| e.to_string())?)
        } else {
            self.agent.run(request.body(self.body).map_err(|e| e.to_string())?)
        };
        response.and_then(Reply::read).map_err(|e| format!("{} {}: {e}", self.method, self.url))
    }

    /// Sends a request without a body, and reads the answer as it comes.
    ///
    /// # Panics
    /// When no answer came.
    #[must_use]
    #[track_caller]
    pub fn open(self) -> Opened {
        let mut request = Request::builder().method(self.method.as_str()).uri(&self.url);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(()).unwrap_or_else(|fault| panic!("{fault}"));
        let response = agent(STREAMED).run(request).unwrap_or_else(|fault| panic!("{}: {fault}", self.url));
        let (head, body) = response.into_parts();
        let body = BufReader::with_capacity(64, body.into_reader());
        Opened { status: head.status.as_u16(), headers: head.headers, body }
    }

    /// Sends it.
    ///
    /// # Panics
    /// When no answer came.
    #[must_use]
    #[track_caller]
    pub fn send(self) -> Reply {
        self.try_send().unwrap_or_else(|fault| panic!("{fault}"))
    }

    /// Sends it and returns the body of the answer, which must be a good one.
    ///
    /// # Panics
    /// When the status is not 200 or the body breaks a convention of the contract.
    #[track_caller]
    pub fn ok(self) -> Value {
        self.send().ok()
    }

    /// Sends it; it must be refused in these words.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn refused(self, status: u16, sentence: &str) {
        self.send().refused(status, sentence);
    }
}

/// An answer that is read as it comes.
pub struct Opened {
    /// The status.
    pub status: u16,
    headers: ureq::http::HeaderMap,
    body: BufReader<ureq::BodyReader<'static>>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Opened {
    /// A header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The next bytes, up to and with this one; fewer at the end.
    ///
    /// # Panics
    /// When the answer breaks off.
    #[track_caller]
    pub fn until(&mut self, last: u8) -> String {
        let mut bytes = Vec::new();
        self.body.read_until(last, &mut bytes).expect("the answer goes on");
        String::from_utf8(bytes).expect("text")
    }

    /// The next line with its end, or what is left.
    ///
    /// # Panics
    /// When the answer breaks off.
    #[track_caller]
    pub fn line(&mut self) -> String {
        self.until(b'\n')
    }

    /// All that is left.
    ///
    /// # Panics
    /// When the answer breaks off.
    #[must_use]
    #[track_caller]
    pub fn rest(mut self) -> String {
        let mut text = String::new();
        self.body.read_to_string(&mut text).expect("the answer goes on to its end");
        text
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body as it came.
    pub text: String,
    headers: ureq::http::HeaderMap,
}

impl Reply {
    fn read(response: Response<ureq::Body>) -> Result<Self, ureq::Error> {
        const LIMIT: u64 = 512 * 1024 * 1024;
        let (head, mut body) = response.into_parts();
        let text = body.with_config().limit(LIMIT).read_to_string()?;
        Ok(Self { status: head.status.as_u16(), text, headers: head.headers })
    }

    /// A header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e} in {} {}", self.status, self.text))
    }

    /// The body of a good answer.
    ///
    /// # Panics
    /// When the status is not 200 or the body breaks a convention of the contract.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        let body = self.json();
        shape::assert_conventions(&body);
        body
    }

    /// The sentence of an error.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn error(&self) -> String {
        let body = self.json();
        body["error"].as_str().unwrap_or_else(|| panic!("no error in {body}")).to_owned()
    }

    /// Asserts that this is a refusal in these words.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn refused(&self, status: u16, sentence: &str) {
        assert_eq!((self.status, self.error().as_str()), (status, sentence));
    }
}
