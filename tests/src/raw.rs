//! Bytes to and from a socket, for requests that no client would send.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What came back.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Every byte of it.
    pub bytes: Vec<u8>,
    /// Whether the daemon closed the connection.
    pub closed: bool,
}

impl Answer {
    /// The statuses of all answers on the connection, in order.
    #[must_use]
    pub fn statuses(&self) -> Vec<u16> {
        let text = String::from_utf8_lossy(&self.bytes);
        let lines = text.split("\r\n").flat_map(|line| line.find("HTTP/1.").map(|at| &line[at..]));
        lines.filter_map(|line| line.split(' ').nth(1)?.parse().ok()).collect()
    }

    /// The body of the first answer as JSON, or `null`.
    #[must_use]
    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.bytes);
        let Some((_, body)) = text.split_once("\r\n\r\n") else { return Value::Null };
        let mut values = serde_json::Deserializer::from_str(body).into_iter();
        values.next().and_then(Result::ok).unwrap_or_default()
    }

    fn is_complete(&self) -> bool {
        let Some(end) = self.bytes.windows(4).position(|w| w == b"\r\n\r\n") else { return false };
        let head = String::from_utf8_lossy(&self.bytes[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        length.is_some_and(|length: usize| self.bytes.len() >= end + 4 + length)
    }
}

/// What to wait for after the request was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// One whole answer, or the end of the connection.
    Answer,
    /// The end of the connection, which the daemon alone decides on.
    Closed,
}

/// Sends `bytes` and reads what comes back, for at most `patience`.
///
/// # Panics
/// When nobody listens.
#[must_use]
pub fn exchange(address: SocketAddr, bytes: &[u8], until: Until, patience: Duration) -> Answer {
    let mut stream = TcpStream::connect(address).expect("the daemon listens");
    stream.set_nodelay(true).expect("nodelay");
    // A daemon may answer and close before it has read everything: then the rest cannot be sent.
    let _ = stream.write_all(bytes);
    receive(&mut stream, until, patience)
}

/// Reads what comes, for at most `patience`.
///
/// # Panics
/// When the socket is broken.
#[must_use]
pub fn receive(stream: &mut TcpStream, until: Until, patience: Duration) -> Answer {
    let mut answer = Answer::default();
    let deadline = Instant::now() + patience;
    let mut buffer = [0; 16 * 1024];
    while !(until == Until::Answer && answer.is_complete()) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        stream.set_read_timeout(Some(left)).expect("a timeout");
        match stream.read(&mut buffer) {
            Ok(0) => answer.closed = true,
            Ok(n) => answer.bytes.extend_from_slice(&buffer[..n]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(_) => answer.closed = true,
        }
        if answer.closed {
            break;
        }
    }
    answer
}

/// Whether the process that listens at `listener` still holds the connection of the caller at `caller`,
/// as the kernel tells.
///
/// # Panics
/// When the kernel tells nothing, or an address is none of IPv4.
#[must_use]
pub fn is_held(listener: SocketAddr, caller: SocketAddr) -> bool {
    const ESTABLISHED: &str = "01";
    const CLOSE_WAIT: &str = "08";
    let shown = |address: SocketAddr| match address {
        SocketAddr::V4(v4) => format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port()),
        SocketAddr::V6(_) => panic!("{address} is not of IPv4"),
    };
    let (local, remote) = (shown(listener), shown(caller));
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the table of connections");
    table.lines().any(|line| {
        let mut columns = line.split_whitespace().skip(1);
        columns.next() == Some(&local)
            && columns.next() == Some(&remote)
            && matches!(columns.next(), Some(ESTABLISHED | CLOSE_WAIT))
    })
}
