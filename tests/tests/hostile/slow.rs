//! Clients that send nothing, or never end.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use skyclaw_tests::raw::{Until, receive};
use skyclaw_tests::{Options, SHORT, wait_until};

use super::head;

/// Far more than the second that the daemon is told to bear with them.
const BOUND: Duration = Duration::from_secs(40);

#[test]
fn a_client_that_stops_in_the_middle_is_told_or_cut_off_in_time() {
    let node = Options::default()
        .env("SKYCLAW_IDLE_TIMEOUT_MS", "1000")
        .env("SKYCLAW_BODY_TIMEOUT_MS", "1000")
        .start();
    let starts = [
        b"POST /v1/jo".to_vec(),
        head("POST", "/v1/jobs", "content-length: 100\r\n"),
        [head("POST", "/v1/jobs", "content-length: 100\r\n"), b"{\"payload\"".to_vec()].concat(),
        [head("POST", "/v1/jobs", "transfer-encoding: chunked\r\n"), b"5\r\n{\"pay".to_vec()].concat(),
    ];
    std::thread::scope(|scope| {
        for start in starts {
            let address = node.address();
            scope.spawn(move || {
                let mut stream = TcpStream::connect(address).expect("the daemon listens");
                stream.write_all(&start).expect("the beginning is sent");
                let answer = receive(&mut stream, Until::Closed, BOUND);
                let shown = String::from_utf8_lossy(&start).into_owned();
                assert!(answer.closed, "after {shown:?} the connection stays open");
                let right = matches!(answer.statuses()[..], [] | [400 | 408]);
                assert!(right, "{shown:?}: {}", String::from_utf8_lossy(&answer.bytes));
            });
        }
    });
    assert!(!node.log().contains("panicked"));
}

#[test]
fn many_connections_that_say_nothing_keep_nobody_out() {
    let node = Options::default().start();
    let idle: Vec<_> = (0..500).map(|_| TcpStream::connect(node.address()).expect("a connection")).collect();
    let half: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(node.address()).expect("a connection");
            stream.write_all(b"POST /v1/jobs HTTP/1.1\r\n").expect("a line");
            stream
        })
        .collect();
    wait_until("a job is enqueued", SHORT, || {
        let reply = node
            .wire()
            .post("/v1/jobs", &skyclaw_tests::mesh::shell_job(&skyclaw_tests::json!({})))
            .try_send();
        reply.is_ok_and(|reply| reply.status == 200).then_some(())
    });
    drop((idle, half));
}
