//! A connection that is kept open, and speaks the wire contract.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::Value;
use skyclaw_tests::TOKEN;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::Outcome;

/// How many connections begin at one local address: fewer than it has ports, of which those just closed still have one.
const PER_ADDRESS: usize = 10_000;

#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    head: String,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(to: SocketAddr) -> Outcome<Self> {
        Self::numbered(to, 0).await
    }

    /// The `number`-th of very many.
    pub(crate) async fn numbered(to: SocketAddr, number: usize) -> Outcome<Self> {
        let socket = TcpSocket::new_v4()?;
        let last = u8::try_from(1 + number / PER_ADDRESS)?;
        socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0))?;
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        let head = format!(
            "HTTP/1.1\r\nhost: {to}\r\ncontent-type: application/json\r\nx-skyclaw-token: {TOKEN}\r\n\
             content-length: "
        );
        Ok(Self { stream, head, buffer: Vec::new() })
    }

    /// Sends a request and returns the status and the body of the answer.
    async fn exchange(
        &mut self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: &str,
    ) -> Outcome<(u16, &[u8])> {
        let key = key.map(|key| format!("\r\nx-idempotency-key: {key}")).unwrap_or_default();
        let request = format!("{method} {path} {}{}{key}\r\n\r\n{body}", self.head, body.len());
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        let (status, start, end) = loop {
            if let Some(whole) = whole_answer(&self.buffer)? {
                break whole;
            }
            // Waiting takes no room: there may be ten thousand of these.
            self.stream.readable().await?;
            self.buffer.reserve(2048);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the coordinator closed the connection".into());
            }
        };
        Ok((status, &self.buffer[start..end]))
    }

    /// Posts a body; the answer must be a success, and what it says is not looked at.
    pub(crate) async fn tell(&mut self, path: &str, body: &str) -> Outcome<()> {
        match self.exchange("POST", path, None, body).await? {
            (200, _) => Ok(()),
            (status, text) => {
                Err(format!("{path} was answered {status}: {}", String::from_utf8_lossy(text)).into())
            }
        }
    }

    /// Posts a body and reads the answer, which must be a success.
    pub(crate) async fn post(&mut self, path: &str, body: &str) -> Outcome<Value> {
        self.ask("POST", path, None, body).await
    }

    /// The same with an idempotency key.
    pub(crate) async fn post_with(&mut self, path: &str, key: Option<&str>, body: &str) -> Outcome<Value> {
        self.ask("POST", path, key, body).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Outcome<Value> {
        self.ask("GET", path, None, "").await
    }

    /// Asks for something whose answer is not looked at, but must be a success.
    pub(crate) async fn see(&mut self, path: &str) -> Outcome<()> {
        match self.exchange("GET", path, None, "").await? {
            (200, _) => Ok(()),
            (status, _) => Err(format!("{path} was answered {status}").into()),
        }
    }

    async fn ask(&mut self, method: &str, path: &str, key: Option<&str>, body: &str) -> Outcome<Value> {
        match self.exchange(method, path, key, body).await? {
            (200, text) => Ok(serde_json::from_slice(text)?),
            (status, text) => {
                Err(format!("{path} was answered {status}: {}", String::from_utf8_lossy(text)).into())
            }
        }
    }

    /// Gives the memory of the last answer back.
    pub(crate) fn rest(&mut self) {
        self.buffer = Vec::new();
    }
}

/// The status, and where the body begins and ends, once all of it is there.
fn whole_answer(bytes: &[u8]) -> Outcome<Option<(u16, usize, usize)>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?;
    let status = head.split(' ').nth(1).ok_or("the answer is no HTTP")?.parse()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let whole = end + 4 + length.ok_or("the answer has no content-length")?;
    Ok((bytes.len() >= whole).then_some((status, end + 4, whole)))
}
