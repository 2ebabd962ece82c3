//! HTTP/2 without TLS, one connection to each coordinator.
//!
//! Thousands of short messages a second go this way, and what each costs is paid for every entry of the log. So
//! it is spoken with `h2` itself: a general client hands each request from task to task, and sends its head and its
//! body in a packet each, of which each wakes the other side.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::client::{Connection, ResponseFuture, SendRequest};
use http::header::CONTENT_LENGTH;
use http::{Request, StatusCode, Uri};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::{CONNECT_TIMEOUT, MAX_ANSWER_BYTES, PEER_PATH};
use crate::peer::lock;

/// How much of one answer, and of all together, may be on its way.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// How long a connection rests until the other side is asked whether it is there, and how long that may take.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// A connection that nobody needed for so long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// The other side has not begun with the request.
    Unreachable,
    /// It may have.
    Lost,
}

/// The connections to all coordinators.
#[derive(Debug, Default)]
pub(super) struct Plain {
    channels: Mutex<HashMap<String, Arc<Channel>>>,
    /// What connects, and what serves the connections. Nobody waits for them: they leave nothing behind.
    tasks: TaskTracker,
}

/// The way to one coordinator.
#[derive(Debug)]
struct Channel {
    to: Uri,
    /// Held while a connection comes about, so that there is one.
    state: tokio::sync::Mutex<ChannelState>,
}

#[derive(Debug, Default)]
struct ChannelState {
    open: Option<Open>,
    /// When there was no connection to be had.
    failed_at: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    requests: SendRequest<Bytes>,
    used: Used,
    served: AbortOnDropHandle<()>,
}

/// When a connection was needed last. Who has a copy needs it still, but for the connection itself and who keeps it.
type Used = Arc<Mutex<Instant>>;

const KEEPERS: usize = 2;

/// What takes a request, while its connection is needed.
type Taker = (SendRequest<Bytes>, Used);

impl Plain {
    /// Posts a body to the coordinator at a base URL, and gives the status and the body of its answer.
    pub(super) async fn post(
        &self,
        url: &str,
        body: Bytes,
        timeout: Duration,
    ) -> Result<(StatusCode, Bytes), NoAnswer> {
        let channel = self.channel(url)?;
        let until = Instant::now() + timeout;
        let taker = tokio::time::timeout_at(until, self.taker(&channel)).await;
        let (requests, _needed) = taker.ok().flatten().ok_or(NoAnswer::Unreachable)?;
        let answer = ask(requests, &channel.to, body)?;
        tokio::time::timeout_at(until, read(answer)).await.unwrap_or(Err(NoAnswer::Lost))
    }

    fn channel(&self, url: &str) -> Result<Arc<Channel>, NoAnswer> {
        let mut channels = lock(&self.channels);
        if let Some(channel) = channels.get(url) {
            return Ok(Arc::clone(channel));
        }
        // Addresses change: those to which nothing is open are forgotten when there is a new one.
        channels.retain(|_, known| Arc::strong_count(known) > 1 || known.is_open());
        let to = format!("{url}{PEER_PATH}").parse().map_err(|_| NoAnswer::Unreachable)?;
        let channel = Arc::new(Channel { to, state: tokio::sync::Mutex::default() });
        channels.insert(url.to_owned(), Arc::clone(&channel));
        Ok(channel)
    }

    /// What takes a request to a coordinator; `None` when that cannot be reached.
    async fn taker(&self, channel: &Arc<Channel>) -> Option<Taker> {
        if let Some(there) = channel.state.lock().await.there().await {
            return Some(there);
        }
        // Whoever asks may have less patience than it takes; the next one finds what came of it.
        let (channel, tasks, asked_at) = (Arc::clone(channel), self.tasks.clone(), Instant::now());
        self.tasks.spawn(async move { channel.connected(&tasks, asked_at).await }).await.ok()?
    }
}

impl Channel {
    fn is_open(&self) -> bool {
        let is_served = |open: &Open| !open.served.is_finished();
        self.state.try_lock().map_or(true, |state| state.open.as_ref().is_some_and(is_served))
    }

    /// Connects, unless somebody else did meanwhile, or tried in vain.
    async fn connected(&self, tasks: &TaskTracker, asked_at: Instant) -> Option<Taker> {
        let mut state = self.state.lock().await;
        if let Some(there) = state.there().await {
            return Some(there);
        }
        if state.failed_at.is_some_and(|failed_at| failed_at >= asked_at) {
            return None;
        }
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect(&self.to)).await;
        let Some((requests, connection)) = connected.ok().flatten() else {
            state.failed_at = Some(Instant::now());
            return None;
        };
        let used = Arc::new(Mutex::new(Instant::now()));
        let served = AbortOnDropHandle::new(tasks.spawn(serve(connection, Arc::clone(&used))));
        state.open = Some(Open { requests: requests.clone(), used: Arc::clone(&used), served });
        Some((requests, used))
    }
}

impl ChannelState {
    /// What takes requests of the connection there is; one that has ended is dropped.
    async fn there(&mut self) -> Option<Taker> {
        let open = self.open.as_ref()?;
        let Ok(requests) = open.requests.clone().ready().await else {
            self.open = None;
            return None;
        };
        *lock(&open.used) = Instant::now();
        Some((requests, Arc::clone(&open.used)))
    }
}

type OfTcp = Connection<TcpStream, Bytes>;

async fn connect(to: &Uri) -> Option<(SendRequest<Bytes>, OfTcp)> {
    let host = to.host()?.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, to.port_u16().unwrap_or(80))).await.ok()?;
    stream.set_nodelay(true).ok()?;
    h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .enable_push(false)
        .handshake(stream)
        .await
        .ok()
}

/// Reads and writes until the connection ends, does not answer any more, or is not needed. What waits for an answer
/// is told when it is dropped.
async fn serve(mut connection: OfTcp, used: Used) {
    let pings = connection.ping_pong();
    let needed = async {
        let Some(mut pings) = pings else { return std::future::pending().await };
        while Arc::strong_count(&used) > KEEPERS || lock(&used).elapsed() < IDLE_TIMEOUT {
            tokio::time::sleep(KEEP_ALIVE).await;
            let pong = tokio::time::timeout(KEEP_ALIVE, pings.ping(h2::Ping::opaque()));
            if !matches!(pong.await, Ok(Ok(_))) {
                return;
            }
        }
    };
    tokio::select! {
        ended = connection => if let Err(error) = ended {
            tracing::debug!(%error, "a connection to another coordinator broke off");
        },
        () = needed => {}
    }
}

/// Sends a request. Its head and its body leave together.
fn ask(mut requests: SendRequest<Bytes>, to: &Uri, body: Bytes) -> Result<ResponseFuture, NoAnswer> {
    let request = Request::post(to.clone()).header(CONTENT_LENGTH, body.len()).body(());
    let request = request.map_err(|_| NoAnswer::Unreachable)?;
    let (answer, mut sent) = requests.send_request(request, false).map_err(|_| NoAnswer::Unreachable)?;
    sent.send_data(body, true).map_err(|error| no_answer(&error))?;
    Ok(answer)
}

async fn read(answer: ResponseFuture) -> Result<(StatusCode, Bytes), NoAnswer> {
    let (head, mut body) = answer.await.map_err(|error| no_answer(&error))?.into_parts();
    let mut whole = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(|_| NoAnswer::Lost)?;
        body.flow_control().release_capacity(chunk.len()).map_err(|_| NoAnswer::Lost)?;
        if body.is_end_stream() && whole.is_empty() {
            return Ok((head.status, chunk));
        }
        if whole.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(NoAnswer::Lost);
        }
        whole.extend_from_slice(&chunk);
    }
    Ok((head.status, whole.into()))
}

/// A request that came when the other side had begun to close the connection was not begun with.
fn no_answer(error: &h2::Error) -> NoAnswer {
    let is_refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    let is_too_late = error.is_go_away() && error.reason() == Some(Reason::NO_ERROR);
    if error.is_remote() && (is_refused || is_too_late) { NoAnswer::Unreachable } else { NoAnswer::Lost }
}
