//! Sockets: accepting connections, bounding them, and letting them end in order.
//!
//! HTTP/1.1 for everybody; HTTP/2 without TLS for who begins with it, as other coordinators do.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::again::again_when_woken;
use crate::head_timer::HeadTimer;
use crate::leash::{Leash, Leashes};
use crate::metrics::{Shed, Sheds};

/// Connections the system keeps ready to be accepted: a whole mesh may reconnect at once.
const BACKLOG: u32 = 4096;
/// Largest head of a request.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Most requests under way on one connection: a coordinator passes on the claims of all its hosts.
const MAX_STREAMS: u32 = 32 * 1024;
/// How much of a body may be on its way unread.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// How often a silent HTTP/2 connection is asked whether it is still there, and how long it may take.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How long to wait when a connection could not be accepted for want of something.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// How long a connection that was accepted may still take to ask something when the server ends: who has connected just
/// now is about to, and a closed connection would be all it gets.
const FIRST_WORD: Duration = Duration::from_millis(500);
/// What a connection too many is told; written in one go or not at all.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
    retry-after: 1\r\nconnection: close\r\ncontent-length: 70\r\n\r\n\
    {\"error\":\"too many connections; try again later\",\"code\":\"overloaded\"}\n";

/// What a server asks for its answers.
pub trait Answers: Clone + Send + Sync + 'static {
    /// Answers a request.
    fn answer<B>(&self, request: Request<B>) -> impl Future<Output = Response> + Send
    where
        B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin + 'static;
}

/// The bounds of a server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Most connections at once.
    pub connections: usize,
    /// How long a connection may take to send a head; being idle counts.
    pub idle: Duration,
    /// Where those are counted that are turned away.
    pub sheds: Sheds,
}

/// A bound socket.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    limits: Limits,
}

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn bind(address: SocketAddr, limits: Limits) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A daemon that is started again wants its port back at once.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self { listener: socket.listen(BACKLOG)?, limits })
    }

    /// Serves on a socket that listens already. It may be somebody else's as well, who keeps it when this is gone.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn over(listener: std::net::TcpListener, limits: Limits) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener: TcpListener::from_std(listener)?, limits })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the soft shutdown, then lets the requests under way end, at the latest by the hard
    /// one.
    pub async fn run(
        self,
        answers: impl Answers,
        soft: CancellationToken,
        hard: CancellationToken,
        tracker: &TaskTracker,
    ) {
        let connections = Arc::new(Semaphore::new(self.limits.connections.min(Semaphore::MAX_PERMITS)));
        let mut leashes = Leashes::new();
        loop {
            // Cancel-safe: a connection that was not accepted stays with the system.
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = soft.cancelled() => break,
                () = hard.cancelled() => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    accept_failed(&error).await;
                    continue;
                }
            };
            match Arc::clone(&connections).try_acquire_owned() {
                Ok(place) => self.serve_one(stream, place, &answers, leashes.tie(), tracker),
                Err(_) => {
                    self.limits.sheds.count(Shed::Connections);
                    turn_away(&stream);
                }
            }
        }
        drop(self.listener);
        tokio::select! {
            () = leashes.end() => {}
            () = hard.cancelled() => leashes.cut(),
        }
    }

    fn serve_one(
        &self,
        stream: TcpStream,
        place: OwnedSemaphorePermit,
        answers: &impl Answers,
        leash: Leash,
        tracker: &TaskTracker,
    ) {
        // Answers are small and awaited: holding them back to fill packets only makes them late.
        let _ = stream.set_nodelay(true);
        let answers = answers.clone();
        // Not boxed: hyper keeps the answer that is under way in a place of the connection.
        let service = service_fn(move |request: Request<Incoming>| {
            let answers = answers.clone();
            async move { Ok::<_, Infallible>(answers.answer(request).await) }
        });
        let idle = self.limits.idle;
        tracker.spawn(async move {
            let _place = place;
            let first = first_word(&leash, tokio::time::timeout(idle, begins_http2(&stream))).await;
            let ended = match first {
                Some(Ok(Ok(true))) => {
                    let connection = http2_builder().serve_connection(TokioIo::new(stream), service);
                    leash.hold(connection).await
                }
                Some(Ok(Ok(false))) => {
                    let connection = http1::Builder::new()
                        .timer(HeadTimer::default())
                        .header_read_timeout(idle)
                        .max_buf_size(MAX_HEAD_BYTES)
                        .serve_connection(TokioIo::new(stream), service);
                    again_when_woken(leash.hold(connection)).await
                }
                // It said nothing, or is gone.
                Some(Ok(Err(_)) | Err(_)) | None => Ok(()),
            };
            if let Err(error) = ended {
                // A client that went away, or sent what is no HTTP: its own affair.
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
}

fn http2_builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(4 * WINDOW_BYTES)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    builder
}

/// What a connection says first; `None` when it is too late for that.
async fn first_word<T>(leash: &Leash, first: impl Future<Output = T>) -> Option<T> {
    let mut first = std::pin::pin!(first);
    match leash.unless_pulled(first.as_mut()).await {
        Some(said) => Some(said),
        None => tokio::time::timeout(FIRST_WORD, leash.unless_cut(first)).await.ok().flatten(),
    }
}

/// Whether the first bytes are those of HTTP/2. They are looked at and left where they are.
async fn begins_http2(stream: &TcpStream) -> io::Result<bool> {
    const BEGINNING: &[u8] = b"PRI";
    let mut head = [0; BEGINNING.len()];
    loop {
        let seen = stream.peek(&mut head).await?;
        if seen == 0 || head[..seen] != BEGINNING[..seen] {
            return Ok(false);
        }
        if seen == BEGINNING.len() {
            return Ok(true);
        }
        // One or two bytes of three: the others are on their way.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn accept_failed(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        return;
    }
    // Most likely there are no more file descriptors: connections must end before others can begin.
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(ACCEPT_RETRY).await;
}

fn turn_away(stream: &TcpStream) {
    // A fresh socket takes this much; if it does not, the client sees the connection close.
    let _ = stream.try_write(FULL);
}

#[cfg(test)]
mod tests {
    use super::*;
    use skyclaw_config::Shutdown;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    /// Answers as a function does.
    #[derive(Clone)]
    struct By<F>(F);

    impl<F, Fut> Answers for By<F>
    where
        F: Fn() -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = &'static str> + Send,
    {
        async fn answer<B>(&self, _: Request<B>) -> Response
        where
            B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin + 'static,
        {
            Response::new((self.0)().await.into())
        }
    }

    async fn started(limits: Limits, answers: impl Answers) -> (SocketAddr, Shutdown, TaskTracker) {
        let shutdown = Shutdown::install(Duration::from_secs(30)).expect("signals");
        let server = Server::bind("127.0.0.1:0".parse().expect("an address"), limits).expect("a socket");
        let address = server.address().expect("an address");
        let tracker = TaskTracker::new();
        let (soft, hard) = (shutdown.soft.clone(), shutdown.hard.clone());
        let tasks = tracker.clone();
        tracker.spawn(async move { server.run(answers, soft, hard, &tasks).await });
        (address, shutdown, tracker)
    }

    async fn read_all(mut stream: TcpStream) -> String {
        let mut text = Vec::new();
        // A connection that is turned away may be reset after its answer.
        let _ = stream.read_to_end(&mut text).await;
        String::from_utf8_lossy(&text).into_owned()
    }

    fn limits() -> Limits {
        Limits { connections: 1, idle: Duration::from_secs(30), sheds: Sheds::default() }
    }

    #[tokio::test]
    async fn a_connection_too_many_is_told_so_and_closed() {
        let (address, shutdown, tracker) = started(limits(), By(|| async { "hi" })).await;
        let mut first = TcpStream::connect(address).await.expect("a connection");
        first.write_all(REQUEST).await.expect("sent");
        let mut head = [0; 15];
        first.read_exact(&mut head).await.expect("an answer");
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        let second = read_all(TcpStream::connect(address).await.expect("a connection")).await;
        assert!(second.starts_with("HTTP/1.1 503 "), "{second}");
        shutdown.soft.cancel();
        tracker.close();
        tracker.wait().await;
        shutdown.finish().await;
    }

    #[tokio::test]
    async fn a_request_under_way_is_answered_before_the_end() {
        let (began, mut has_begun) = tokio::sync::mpsc::channel(1);
        let release = Arc::new(tokio::sync::Notify::new());
        let gate = Arc::clone(&release);
        let slow = move || {
            let (began, gate) = (began.clone(), Arc::clone(&gate));
            async move {
                let _ = began.send(()).await;
                gate.notified().await;
                "done"
            }
        };
        let (address, shutdown, tracker) = started(limits(), By(slow)).await;
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(REQUEST).await.expect("sent");
        has_begun.recv().await.expect("a request");
        shutdown.soft.cancel();
        release.notify_one();
        let answer = read_all(stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("done"), "{answer}");
        tracker.close();
        tracker.wait().await;
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
        shutdown.finish().await;
    }

    #[tokio::test]
    async fn who_had_connected_before_the_end_is_answered() {
        let (address, shutdown, tracker) = started(limits(), By(|| async { "hi" })).await;
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        // Once a second one is turned away, the first was accepted.
        let second = read_all(TcpStream::connect(address).await.expect("a connection")).await;
        assert!(second.starts_with("HTTP/1.1 503 "), "{second}");
        shutdown.soft.cancel();
        stream.write_all(REQUEST).await.expect("sent");
        let answer = read_all(stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hi"), "{answer}");
        tracker.close();
        tracker.wait().await;
        shutdown.finish().await;
    }

    #[tokio::test]
    async fn a_socket_of_somebody_else_is_served_and_left_as_it_was() {
        let kept = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = kept.local_addr().expect("an address");
        for _ in 0..2 {
            let shutdown = Shutdown::install(Duration::from_secs(30)).expect("signals");
            // Before anybody accepts.
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            stream.write_all(REQUEST).await.expect("sent");
            let server = Server::over(kept.try_clone().expect("a copy"), limits()).expect("a server");
            assert_eq!(server.address().expect("an address"), address);
            let tracker = TaskTracker::new();
            let (soft, hard, tasks) = (shutdown.soft.clone(), shutdown.hard.clone(), tracker.clone());
            tracker.spawn(async move { server.run(By(|| async { "hi" }), soft, hard, &tasks).await });
            let mut head = [0; 15];
            stream.read_exact(&mut head).await.expect("an answer");
            assert_eq!(&head, b"HTTP/1.1 200 OK");
            shutdown.soft.cancel();
            tracker.close();
            tracker.wait().await;
            shutdown.finish().await;
        }
    }

    #[test]
    fn what_a_connection_too_many_is_told_is_as_long_as_it_says() {
        let text = std::str::from_utf8(FULL).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
        let body: skyclaw_proto::ErrorBody = serde_json::from_str(body).expect("an error body");
        assert_eq!(body.code, Some(skyclaw_proto::ErrorCode::Overloaded));
    }
}
