//! What is asked for over connections of which there may be very many.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::Value;
use skyclaw_tests::TOKEN;
use tokio::net::TcpSocket;

use crate::Outcome;
use crate::connection::Connection;

/// How many connections begin at one local address: fewer than it has ports, of which those just closed still have one.
const PER_ADDRESS: usize = 10_000;

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
        Self::over(stream, to, TOKEN)
    }

    /// Posts a body; the answer must be a success, and what it says is not looked at.
    pub(crate) async fn tell(&mut self, path: &str, body: &str) -> Outcome<()> {
        self.success("POST", path, None, body).await.map(drop)
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
        self.success("GET", path, None, "").await.map(drop)
    }

    async fn ask(&mut self, method: &str, path: &str, key: Option<&str>, body: &str) -> Outcome<Value> {
        Ok(serde_json::from_slice(self.success(method, path, key, body).await?)?)
    }

    /// Gives the memory of the last answer back.
    pub(crate) fn rest(&mut self) {
        self.buffer = Vec::new();
    }
}
