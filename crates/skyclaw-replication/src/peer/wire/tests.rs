//! Against servers that answer as they are told.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::{Connection, SendResponse};
use http::{Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{HttpWire, PEER_PATH, Wire as _, WireError};

const PATIENCE: Duration = Duration::from_secs(30);

type Served = Connection<TcpStream, Bytes>;

/// A coordinator to be, and the connections that it was asked for.
struct Server {
    url: String,
    connections: mpsc::Receiver<Served>,
    _accepts: JoinSet<()>,
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    (listener, url)
}

async fn server() -> Server {
    let (listener, url) = listen().await;
    let (sender, connections) = mpsc::channel(100);
    let mut accepts = JoinSet::new();
    accepts.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let connection = h2::server::handshake(stream).await.expect("HTTP/2");
            if sender.send(connection).await.is_err() {
                return;
            }
        }
    });
    Server { url, connections, _accepts: accepts }
}

impl Server {
    async fn next(&mut self) -> Served {
        let next = tokio::time::timeout(PATIENCE, self.connections.recv()).await;
        next.expect("a connection in time").expect("the server listens")
    }

    /// Answers each request with its own body, over one connection.
    async fn echo(&mut self) {
        let (mut connection, mut answers) = (self.next().await, JoinSet::new());
        while let Some(Ok((request, mut answer))) = connection.accept().await {
            answers.spawn(async move {
                let body = body_of(request).await;
                respond(&mut answer, 200, body);
            });
        }
    }
}

/// What comes of a request while a server does what it does.
async fn beside<T>(server: impl Future<Output = ()>, request: impl Future<Output = T>) -> T {
    let mut request = std::pin::pin!(request);
    tokio::select! {
        came = &mut request => came,
        () = server => request.await,
    }
}

/// The body of a request.
async fn body_of(request: Request<h2::RecvStream>) -> Bytes {
    let (head, mut body) = request.into_parts();
    assert_eq!((head.method.as_str(), head.uri.path()), ("POST", PEER_PATH));
    let mut whole = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.expect("the body");
        body.flow_control().release_capacity(chunk.len()).expect("given back");
        whole.extend_from_slice(&chunk);
    }
    assert_eq!(head.headers[http::header::CONTENT_LENGTH], whole.len().to_string());
    whole.into()
}

fn respond(answer: &mut SendResponse<Bytes>, status: u16, body: Bytes) {
    let head = Response::builder().status(status).body(()).expect("a response");
    answer.send_response(head, false).and_then(|mut sent| sent.send_data(body, true)).expect("sent");
}

fn wire() -> HttpWire {
    HttpWire::new([]).expect("a wire")
}

fn message(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn what_is_posted_is_answered_and_all_share_one_connection() {
    let mut server = server().await;
    let (wire, mut posts) = (wire(), JoinSet::new());
    for n in 0..100 {
        let (wire, url) = (wire.clone(), server.url.clone());
        posts.spawn(async move { (n, wire.post(&url, Bytes::from(vec![n; 1000]), PATIENCE).await) });
    }
    for (n, answer) in beside(server.echo(), posts.join_all()).await {
        assert_eq!(answer, Ok(Bytes::from(vec![n; 1000])));
    }
    assert!(server.connections.try_recv().is_err(), "there is one connection");
}

#[tokio::test]
async fn what_is_larger_than_any_window_arrives_whole() {
    let mut server = server().await;
    let (wire, url) = (wire(), server.url.clone());
    let large: Bytes = (0..6_000_000_u32).map(|n| (n % 251) as u8).collect();
    let answer = beside(server.echo(), wire.post(&url, large.clone(), PATIENCE)).await;
    assert!(answer == Ok(large), "it is as it was");
}

#[tokio::test]
async fn a_connection_that_ended_is_replaced_by_another() {
    let mut server = server().await;
    let (wire, url) = (wire(), server.url.clone());
    for round in ["first", "second", "third"] {
        let once = async {
            let mut connection = server.next().await;
            let (_, mut answer) = connection.accept().await.expect("a request").expect("a request");
            respond(&mut answer, 200, message(round));
            connection.graceful_shutdown();
            while connection.accept().await.is_some() {}
        };
        let (answer, ()) = tokio::join!(wire.post(&url, message(round), PATIENCE), once);
        assert_eq!(answer, Ok(message(round)));
    }
}

#[tokio::test]
async fn a_connection_comes_about_though_who_asked_for_it_has_given_up() {
    let mut server = server().await;
    let (wire, url) = (wire(), server.url.clone());
    tokio::select! {
        biased;
        answer = wire.post(&url, message("hello"), PATIENCE) => panic!("there is no connection yet: {answer:?}"),
        () = std::future::ready(()) => {}
    }
    let mut connection = server.next().await;
    let answer = async {
        let (_, mut answer) = connection.accept().await.expect("a request").expect("a request");
        respond(&mut answer, 200, message("done"));
        while connection.accept().await.is_some() {}
    };
    assert_eq!(beside(answer, wire.post(&url, message("hello"), PATIENCE)).await, Ok(message("done")));
    assert!(server.connections.try_recv().is_err(), "there is one connection");
}

#[tokio::test]
async fn who_is_not_there_is_unreachable() {
    let (listener, url) = listen().await;
    drop(listener);
    let wire = wire();
    assert_eq!(wire.post(&url, message("hello"), PATIENCE).await, Err(WireError::Unreachable(url.clone())));
    let nonsense = "http://".to_owned();
    assert_eq!(wire.post(&nonsense, message("hello"), PATIENCE).await, Err(WireError::Unreachable(nonsense)));
}

#[tokio::test]
async fn what_was_not_begun_with_is_told_from_what_may_have_been() {
    let mut server = server().await;
    let (wire, url) = (wire(), server.url.clone());
    for reason in [Some(Reason::REFUSED_STREAM), Some(Reason::INTERNAL_ERROR), Some(Reason::CANCEL), None] {
        let end = async {
            let mut connection = server.next().await;
            let (_request, mut answer) = connection.accept().await.expect("a request").expect("a request");
            if let Some(reason) = reason {
                answer.send_reset(reason);
                connection.graceful_shutdown();
                while connection.accept().await.is_some() {}
            }
        };
        let (answer, ()) = tokio::join!(wire.post(&url, message("do it"), PATIENCE), end);
        let expected = match reason {
            Some(Reason::REFUSED_STREAM) => WireError::Unreachable(url.clone()),
            _ => WireError::Lost(url.clone()),
        };
        assert_eq!(answer, Err(expected), "{reason:?}");
    }
}

/// Frames of HTTP/2: no settings, and a farewell that says that no request was begun with.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
const FAREWELL: [u8; 13] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[tokio::test]
async fn a_request_that_crosses_the_others_farewell_was_not_begun_with() {
    let (listener, url) = listen().await;
    let wire = wire();
    for (reason, expected) in [(0_u32, WireError::Unreachable as fn(_) -> _), (2, WireError::Lost)] {
        let farewell = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let (mut heard, mut chunk) = (Vec::new(), [0; 1024]);
            while !heard.windows(5).any(|part| part == b"do it") {
                let read = stream.read(&mut chunk).await.expect("a request");
                assert_ne!(read, 0, "it asks before it closes");
                heard.extend_from_slice(&chunk[..read]);
            }
            let words = [&SETTINGS[..], &FAREWELL, &reason.to_be_bytes()].concat();
            stream.write_all(&words).await.expect("told");
            // It is the other side that closes.
            while stream.read(&mut chunk).await.is_ok_and(|read| read > 0) {}
        };
        let (answer, ()) = tokio::join!(wire.post(&url, message("do it"), PATIENCE), farewell);
        assert_eq!(answer, Err(expected(url.clone())), "{reason}");
    }
}

#[tokio::test]
async fn of_no_request_the_outcome_is_unknown_when_the_other_side_closes_in_order() {
    let mut server = server().await;
    let (wire, url) = (wire(), server.url.clone());
    // Each connection is told to end with its first request, which is answered, as is all that comes until it ends.
    let serve = async {
        let mut served = JoinSet::new();
        loop {
            let mut connection = server.next().await;
            served.spawn(async move {
                while let Some(Ok((_, mut answer))) = connection.accept().await {
                    connection.graceful_shutdown();
                    respond(&mut answer, 200, message("done"));
                }
            });
        }
    };
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let (wire, url) = (wire.clone(), url.clone());
        clients.spawn(async move {
            for _ in 0..50 {
                // What was not begun with is asked again.
                while let Err(error) = wire.post(&url, message("do it"), PATIENCE).await {
                    assert_eq!(error, WireError::Unreachable(url.clone()));
                }
            }
        });
    }
    beside(serve, clients.join_all()).await;
}

#[tokio::test]
async fn statuses_say_whose_fault_it_is() {
    let mut server = server().await;
    let (wire, url) = (wire(), server.url.clone());
    let serve = async {
        let (mut connection, mut statuses) = (server.next().await, [401, 404, 503, 500, 200].into_iter());
        while let Some(Ok((_, mut answer))) = connection.accept().await {
            respond(&mut answer, statuses.next().expect("five requests"), message("x"));
        }
    };
    let ask = async {
        let mut answers = Vec::new();
        for _ in 0..5 {
            answers.push(wire.post(&url, Bytes::new(), PATIENCE).await);
        }
        answers
    };
    let of = |kind: fn(String) -> WireError| Err(kind(url.clone()));
    let expected = [
        of(WireError::Unauthorized),
        of(WireError::Unreachable),
        of(WireError::Unreachable),
        of(WireError::Lost),
        Ok(message("x")),
    ];
    assert_eq!(beside(serve, ask).await, expected);
}

#[tokio::test]
async fn who_says_nothing_is_given_up_in_time_and_left_for_a_new_connection() {
    let mut server = server().await;
    let (wire, url) = (wire(), server.url.clone());
    let post = wire.post(&url, message("hello"), Duration::from_millis(100));
    let (answer, _silent) = tokio::join!(post, server.next());
    assert_eq!(answer, Err(WireError::Lost(url.clone())));
    // Nobody says that it is there, either: who waits is told when that is clear, and the next has a new connection.
    assert_eq!(wire.post(&url, message("hello"), PATIENCE).await, Err(WireError::Lost(url.clone())));
    let answer = beside(server.echo(), wire.post(&url, message("hello"), PATIENCE)).await;
    assert_eq!(answer, Ok(message("hello")));
}
