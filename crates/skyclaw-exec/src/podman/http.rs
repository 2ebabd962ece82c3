//! Calls to the libpod socket: one connection for each, as they are local and cheap, and what one of them
//! does to its connection is nothing to the others.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;

use super::Error;

/// The oldest version of the contract that has all of what is used here; newer services still speak it.
const BASE: &str = "/v4.0.0/libpod";
/// The largest answer that is read, in bytes. The list of ten thousand containers is smaller.
const MAX_ANSWER: usize = 64 << 20;
/// How long a call may take. A call that waits for work of Podman takes a second on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Speaks to the service of one socket. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    socket: std::sync::Arc<Path>,
}

impl Http {
    pub(crate) fn new(socket: &Path) -> Self {
        Self { socket: socket.into() }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, what: &str, path: &str) -> Result<T, Error> {
        let body = self.call(what, Method::GET, path, None).await?;
        serde_json::from_slice(&body)
            .map_err(|error| Error::Answer { what: what.to_owned(), fault: error.to_string() })
    }

    pub(crate) async fn get_bytes(&self, what: &str, path: &str) -> Result<Bytes, Error> {
        self.call(what, Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, what: &str, path: &str, body: Option<&Value>) -> Result<Bytes, Error> {
        self.call(what, Method::POST, path, body).await
    }

    pub(crate) async fn delete(&self, what: &str, path: &str) -> Result<(), Error> {
        self.call(what, Method::DELETE, path, None).await.map(drop)
    }

    /// A call whose answer is read whole. "Already so" counts as done.
    async fn call(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, Error> {
        let request = request(what, method, path, body)?;
        let exchange = async {
            let (mut sender, connection) = self.connect().await?;
            let exchange = async {
                let response = sender.send_request(request).await.map_err(io::Error::other)?;
                let status = response.status();
                let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
                Ok((status, body.map_err(io::Error::other)?.to_bytes()))
            };
            alongside(exchange, connection).await
        };
        let done = tokio::time::timeout(PATIENCE, exchange).await;
        let (status, body) = done.map_err(|_| self.slow(what))?.map_err(|e| self.unreachable(e))?;
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(body);
        }
        Err(refusal(what, status, &body))
    }

    /// Waits for as long as the service does, and returns the body.
    pub(crate) async fn post_patiently(&self, what: &str, path: &str) -> Result<Bytes, Error> {
        let request = request(what, Method::POST, path, None)?;
        let (mut sender, connection) = self.connect().await.map_err(|e| self.unreachable(e))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(io::Error::other)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            Ok((status, body.map_err(io::Error::other)?.to_bytes()))
        };
        let (status, body) =
            alongside(exchange, connection).await.map_err(|e: io::Error| self.unreachable(e))?;
        if status.is_success() { Ok(body) } else { Err(refusal(what, status, &body)) }
    }

    /// A call whose connection becomes a stream.
    pub(crate) async fn upgrade(&self, what: &str, path: &str) -> Result<TokioIo<Upgraded>, Error> {
        let mut request = request(what, Method::POST, path, None)?;
        let headers = request.headers_mut();
        headers.insert(CONNECTION, http::HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, http::HeaderValue::from_static("tcp"));
        let exchange = async {
            let (mut sender, connection) = self.connect().await?;
            let exchange = async {
                let response = sender.send_request(request).await.map_err(io::Error::other)?;
                if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                    return Ok(Err(self.no_upgrade(what, response).await));
                }
                hyper::upgrade::on(response).await.map(Ok).map_err(io::Error::other)
            };
            alongside(exchange, connection.with_upgrades()).await
        };
        let done = tokio::time::timeout(PATIENCE, exchange).await;
        done.map_err(|_| self.slow(what))?.map_err(|e| self.unreachable(e))?.map(TokioIo::new)
    }

    async fn no_upgrade(&self, what: &str, response: Response<hyper::body::Incoming>) -> Error {
        let status = response.status();
        match Limited::new(response.into_body(), MAX_ANSWER).collect().await {
            Ok(body) => refusal(what, status, &body.to_bytes()),
            Err(error) => self.unreachable(io::Error::other(error)),
        }
    }

    async fn connect(&self) -> io::Result<(http1::SendRequest<Full<Bytes>>, Connection)> {
        let stream = UnixStream::connect(&self.socket).await?;
        http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)
    }

    fn unreachable(&self, source: io::Error) -> Error {
        Error::Unreachable { socket: PathBuf::from(&*self.socket), source }
    }

    fn slow(&self, what: &str) -> Error {
        let socket = PathBuf::from(&*self.socket);
        Error::Slow { socket, what: what.to_owned(), seconds: PATIENCE.as_secs() }
    }
}

fn request(
    what: &str,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Request<Full<Bytes>>, Error> {
    let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    Request::builder()
        .method(method)
        .uri(format!("{BASE}{path}"))
        .header(HOST, "podman")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| Error::Answer { what: what.to_owned(), fault: error.to_string() })
}

type Connection = http1::Connection<TokioIo<UnixStream>, Full<Bytes>>;

/// Drives a connection for as long as the exchange over it takes, so that no task is left behind.
async fn alongside<T>(
    exchange: impl Future<Output = io::Result<T>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> io::Result<T> {
    let mut exchange = pin!(exchange);
    let broken = tokio::select! {
        biased;
        done = &mut exchange => return done,
        ended = connection => ended.err(),
    };
    // What has arrived is still to be read; what has not will tell by itself.
    let done = exchange.await;
    match broken {
        Some(error) if done.is_err() => Err(io::Error::other(error)),
        _ => done,
    }
}

/// The reason within `{"cause":…,"message":…}`, or what came instead.
fn refusal(what: &str, status: StatusCode, body: &[u8]) -> Error {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let said = json.as_ref().and_then(|json| json.get("message")?.as_str());
    let message = said.map_or_else(|| String::from_utf8_lossy(body).trim().to_owned(), str::to_owned);
    Error::Podman { what: what.to_owned(), status: status.as_u16(), message }
}

/// A text as a part of a path or a query.
pub(crate) fn escaped(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            // Writing to a text cannot fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
        out
    })
}
