//! Heads, framing and headers: what smugglers, broken proxies and broken clients send.

use skyclaw_tests::raw::{Until, exchange};
use skyclaw_tests::{Options, TOKEN};

use super::{Case, Outcome, PATIENCE, assert_all_refused, head};

const JOB: &str = r#"{"payload":{"kind":"shell","command":"true"}}"#;
/// What a smuggler wants to be taken for a second request.
const SMUGGLED: &str = "POST /v1/jobs HTTP/1.1\r\nhost: a\r\n\r\n";

fn no_http(name: &str, bytes: impl Into<Vec<u8>>) -> Case {
    Case::raw(name, bytes.into(), Until::Closed, Outcome::NotHttp)
}

/// Lengths and codings that contradict themselves or each other.
fn framing() -> Vec<Case> {
    let post = |headers: &str, body: &str| {
        let mut bytes = head("POST", "/v1/jobs", headers);
        bytes.extend_from_slice(body.as_bytes());
        no_http(headers, bytes)
    };
    let chunked = "transfer-encoding: chunked\r\n";
    let length = JOB.len();
    vec![
        post(&format!("content-length: {length}\r\n{chunked}"), &format!("0\r\n\r\n{SMUGGLED}")),
        post(&format!("content-length: {length}\r\ncontent-length: 3\r\n"), JOB),
        post(&format!("content-length: {length}, 3\r\n"), JOB),
        post("content-length: -1\r\n", JOB),
        post("content-length: +5\r\n", JOB),
        post("content-length: abc\r\n", JOB),
        post("content-length: 0x2d\r\n", JOB),
        post("content-length: 99999999999999999999999\r\n", JOB),
        post("content-length: 18446744073709551615\r\n", JOB),
        post("transfer-encoding: gzip\r\n", JOB),
        post("transfer-encoding: chunked, gzip\r\n", JOB),
        post("transfer-encoding: xchunked\r\n", JOB),
        post("transfer-encoding : chunked\r\n", "0\r\n\r\n"),
        post(chunked, "zz\r\n{}\r\n0\r\n\r\n"),
        post(chunked, "-1\r\n{}\r\n0\r\n\r\n"),
        post(chunked, "fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
        post(chunked, "2\r\n{}xx0\r\n\r\n"),
        post(chunked, "5\r\n{}"),
        post(chunked, &format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "x".repeat(100_000))),
        post(chunked, ""),
        post(&format!("content-length: {}\r\n", length + 100), JOB),
        post("content-length: 10\r\n", ""),
    ]
}

/// Heads that are none.
fn heads() -> Vec<Case> {
    let with = |line: &str| head("GET", "/v1/state", line);
    vec![
        no_http("nothing but a line end", "\r\n\r\n\r\n"),
        no_http("HTTP/0.9", "GET /v1/state\r\n"),
        no_http("HTTP/9.9", "GET /v1/state HTTP/9.9\r\n\r\n"),
        no_http("HTTP/2 without asking", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        no_http("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice()),
        no_http("an SSH banner", "SSH-2.0-OpenSSH_9.2\r\n"),
        no_http("binary noise", (0..=255).cycle().take(4096).collect::<Vec<u8>>()),
        no_http("zeros", vec![0; 4096]),
        no_http("no target", "GET HTTP/1.1\r\nhost: a\r\n\r\n"),
        no_http("a target with a space", "GET /v1/ state HTTP/1.1\r\nhost: a\r\n\r\n"),
        no_http("a target with a control", "GET /v1/\x01state HTTP/1.1\r\nhost: a\r\n\r\n"),
        no_http("a method with a control", "G\x01T /v1/state HTTP/1.1\r\nhost: a\r\n\r\n"),
        no_http("a header without a colon", with("nonsense\r\n")),
        no_http("a header without a name", with(": x\r\n")),
        no_http("a header name with a space", with("x y: z\r\n")),
        no_http("a folded header", with("x-a: b\r\n c\r\n")),
        no_http("a NUL in a header", with("x-a: b\0c\r\n")),
        no_http("a bare CR in a header", with("x-a: b\rc: d\r\n")),
        no_http("half a head", "GET /v1/state HTTP/1.1\r\nhost: a\r\nx-a: "),
        no_http("a header of a mebibyte", with(&format!("x-a: {}\r\n", "a".repeat(1 << 20)))),
        no_http("ten thousand headers", with(&"x-a: b\r\n".repeat(10_000))),
        no_http(
            "a connection to elsewhere",
            "CONNECT evil.example:443 HTTP/1.1\r\nhost: evil.example\r\n\r\n",
        ),
    ]
}

/// Headers of ours that are not as they must be.
fn ours() -> Vec<Case> {
    let post = |header: &[u8], mention| {
        let start = format!("POST /v1/jobs HTTP/1.1\r\nhost: a\r\nx-skyclaw-token: {TOKEN}\r\n");
        let mut bytes = start.into_bytes();
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(format!("\r\ncontent-length: {}\r\n\r\n{JOB}", JOB.len()).as_bytes());
        let name = String::from_utf8_lossy(header).chars().take(60).collect::<String>();
        Case::raw(&name, bytes, Until::Answer, Outcome::Fault(&[400], mention))
    };
    let long = format!("x-idempotency-key: {}", "k".repeat(257));
    vec![
        post(long.as_bytes(), "x-idempotency-key"),
        post(b"x-idempotency-key: \xff\xfe", "x-idempotency-key"),
        post(b"x-idempotency-key: a\r\nx-idempotency-key: b", "x-idempotency-key"),
        post(b"x-skyclaw-min-index: soon", "x-skyclaw-min-index"),
        post(b"x-skyclaw-min-index: -1", "x-skyclaw-min-index"),
    ]
}

/// Tokens that are none: told like any other wrong one.
fn tokens() -> Vec<Case> {
    let with = |token: &[u8]| {
        let mut bytes = b"GET /v1/state HTTP/1.1\r\nhost: a\r\nx-skyclaw-token: ".to_vec();
        bytes.extend_from_slice(token);
        bytes.extend_from_slice(b"\r\n\r\n");
        Case::raw("a token", bytes, Until::Answer, Outcome::Fault(&[401], "unauthorized"))
    };
    let long = "t".repeat(5000);
    [b"".as_slice(), b" ", b"\xff\xff", b"null", b"undefined", long.as_bytes()].map(with).into()
}

pub(super) fn cases() -> Vec<Case> {
    [framing(), heads(), ours(), tokens()].into_iter().flatten().collect()
}

#[test]
fn what_is_no_http_or_contradicts_itself_is_refused_and_nothing_is_smuggled() {
    assert_all_refused(&cases());
}

/// RFC 9112, section 6.3: such a request may be refused, or taken by its chunks if the connection ends
/// with it, so that nobody before or behind can be of another opinion on where it ends.
#[test]
fn with_both_framings_a_request_counts_by_its_chunks_and_ends_the_connection() {
    let node = Options::default().start();
    let lengths = format!("content-length: {}\r\ntransfer-encoding: chunked\r\n", JOB.len() + SMUGGLED.len());
    let mut bytes = head("POST", "/v1/jobs", &lengths);
    bytes.extend_from_slice(format!("{:x}\r\n{JOB}\r\n0\r\n\r\n{SMUGGLED}", JOB.len()).as_bytes());
    let answer = exchange(node.address(), &bytes, Until::Closed, PATIENCE);
    assert!(answer.closed, "the connection goes on");
    assert!(matches!(answer.statuses()[..], [200 | 400]), "{}", String::from_utf8_lossy(&answer.bytes));
}
