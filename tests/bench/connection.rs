//! A connection to a coordinator that is kept open, over which one request goes after the other.

use std::fmt::Display;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Outcome;

#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    head: String,
    /// The last answer.
    pub(crate) buffer: Vec<u8>,
}

impl Connection {
    /// Requests go to `to` and carry this token.
    pub(crate) fn over(stream: TcpStream, to: impl Display, token: &str) -> Outcome<Self> {
        stream.set_nodelay(true)?;
        let head = format!(
            "HTTP/1.1\r\nhost: {to}\r\ncontent-type: application/json\r\nx-skyclaw-token: {token}\r\n\
             content-length: "
        );
        Ok(Self { stream, head, buffer: Vec::new() })
    }

    /// Sends a request and returns the status and the body of the answer.
    pub(crate) async fn exchange(
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

    /// Sends a request that must succeed, and returns the answer as it came.
    pub(crate) async fn success(
        &mut self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: &str,
    ) -> Outcome<&[u8]> {
        match self.exchange(method, path, key, body).await? {
            (200, text) => Ok(text),
            (status, text) => {
                Err(format!("{path} was answered {status}: {}", String::from_utf8_lossy(text)).into())
            }
        }
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
