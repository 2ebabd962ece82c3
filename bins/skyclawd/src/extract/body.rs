//! Bodies: one JSON object, of bounded size, in bounded time.

use std::time::Duration;

use axum::body::Body as RawBody;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use serde::de::DeserializeOwned;
use serde_json::Value;
use skyclaw_proto::{ErrorCode, canonical, limits};

use super::fault;
use crate::app::Shared;
use crate::aside::aside;
use crate::error::ApiError;

/// What an absent body stands for.
const EMPTY: &str = "{}";
/// Bodies of more bytes take longer to read than it takes another thread to step in.
const LARGE_BYTES: usize = 64 * 1024;

/// The body as a `T`, of at most `LIMIT` bytes.
#[derive(Debug)]
pub(crate) struct Body<T, const LIMIT: usize = { limits::MAX_BODY_BYTES }> {
    pub(crate) value: T,
    bytes: Bytes,
}

impl<T, const LIMIT: usize> Body<T, LIMIT> {
    /// What the body says. Its bytes are let go: they lie in the buffer of the connection, which can be used again.
    pub(crate) fn take(self) -> T {
        self.value
    }

    /// What the body is compared by when its idempotency key comes again.
    ///
    /// # Errors
    /// 400 when a part that no route reads is nested too deep to be compared.
    pub(crate) fn fingerprint(&self) -> Result<[u8; 32], ApiError> {
        let text = if self.bytes.is_empty() { EMPTY.as_bytes() } else { &self.bytes };
        aside_if_large(text, |text| {
            let value: Value = serde_json::from_slice(text).map_err(|error| fault::syntax(&error))?;
            Ok(canonical::fingerprint(&value))
        })
    }
}

impl<T: DeserializeOwned, const LIMIT: usize> FromRequest<Shared> for Body<T, LIMIT> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = read(&parts.headers, body, LIMIT, app.body_timeout).await?;
        Ok(Self { value: aside_if_large(&bytes, parse)?, bytes })
    }
}

async fn read(headers: &HeaderMap, body: RawBody, limit: usize, within: Duration) -> Result<Bytes, ApiError> {
    check_encoding(headers)?;
    // As announced by the client, where it did.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    let mut whole = std::pin::pin!(whole(body, limit));
    // Most bodies are here with their head, and need no timer.
    if let Some(here) = whole.as_mut().now_or_never() {
        return here;
    }
    tokio::time::timeout(within, whole).await.unwrap_or_else(|_| {
        let sentence = format!("the body did not arrive within {} ms", within.as_millis());
        Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, ErrorCode::RequestTimeout, sentence))
    })
}

/// The whole body. One that comes in a piece is not copied.
async fn whole(mut body: RawBody, limit: usize) -> Result<Bytes, ApiError> {
    let (mut first, mut all) = (Bytes::new(), BytesMut::new());
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.map_err(|_| ApiError::bad_request("the body was cut short"))?;
        let Ok(piece) = frame.into_data() else { continue };
        if first.len() + all.len() + piece.len() > limit {
            return Err(too_large(limit));
        }
        if first.is_empty() && all.is_empty() {
            first = piece;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&piece);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

fn check_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    if encodings.all(|encoding| encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    let sentence = "content-encoding is not supported: send the body as it is";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::UnsupportedMediaType, sentence))
}

fn too_large(limit: usize) -> ApiError {
    let sentence = format!("the body is larger than {limit} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::PayloadTooLarge, sentence)
}

fn aside_if_large<T>(bytes: &[u8], read: impl FnOnce(&[u8]) -> T) -> T {
    if bytes.len() > LARGE_BYTES { aside(|| read(bytes)) } else { read(bytes) }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ApiError::bad_request("the body is not UTF-8 text"))?;
    let text = if text.is_empty() { EMPTY } else { text };
    // Left to itself, serde would also take an array for a struct.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(match serde_json::from_str::<Value>(text) {
            Ok(_) => ApiError::bad_request("body must be a JSON object"),
            Err(error) => fault::syntax(&error),
        });
    }
    // The path to a fault is worth its cost only when there is one.
    serde_json::from_str(text).or_else(|_| fault::explained(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aside::somebody_else_had_a_turn;
    use expect_test::{Expect, expect};
    use serde::de::{Error as _, IgnoredAny};
    use serde::{Deserialize, Deserializer};
    use skyclaw_proto::record::State;
    use skyclaw_proto::request::{EnqueueJobBody, HeartbeatBody, RegisterHostBody};
    use tokio_util::task::TaskTracker;

    fn refused<T: DeserializeOwned>(text: &str, want: &Expect) {
        let error = parse::<T>(text.as_bytes()).err().expect("a fault");
        assert_eq!(error.status(), StatusCode::BAD_REQUEST);
        let field = error.body().details.as_ref().map_or(String::new(), |details| format!(" {details}"));
        want.assert_eq(&format!("{}{field}", error.body().error));
    }

    /// A body that takes until somebody else has had their turn.
    struct Patient;

    impl<'de> Deserialize<'de> for Patient {
        fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
            IgnoredAny::deserialize(text)?;
            somebody_else_had_a_turn().then_some(Self).ok_or_else(|| D::Error::custom("nobody had a turn"))
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn others_are_served_while_a_large_body_is_read() {
        let read = TaskTracker::new().spawn(async {
            let body = format!("{{\"text\":\"{}\"}}", "x".repeat(LARGE_BYTES));
            aside_if_large(body.as_bytes(), parse::<Patient>)
        });
        assert!(read.await.expect("no panic").is_ok());
    }

    #[test]
    fn an_empty_body_is_an_empty_object() {
        assert!(parse::<RegisterHostBody>(b"").is_ok_and(|body| body.name.is_none()));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["[]", "1", "\"x\"", "null", " [\"a\"]", "true"] {
            refused::<RegisterHostBody>(text, &expect!["body must be a JSON object"]);
        }
    }

    #[test]
    fn malformed_json_is_refused_with_its_place() {
        refused::<RegisterHostBody>(
            "nonsense",
            &expect!["body is not valid JSON: expected ident at line 1 column 2"],
        );
        refused::<RegisterHostBody>(
            r#"{"name":"a","#,
            &expect!["body is not valid JSON: EOF while parsing a value at line 1 column 12"],
        );
        refused::<RegisterHostBody>(
            r#"{"name":"a"} x"#,
            &expect!["body is not valid JSON: trailing characters at line 1 column 14"],
        );
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let error = parse::<RegisterHostBody>(b"{\"name\":\"\xff\"}").expect_err("a fault");
        assert_eq!(error.body().error, "the body is not UTF-8 text");
    }

    #[test]
    fn a_wrong_type_names_its_field_and_what_it_must_be() {
        refused::<RegisterHostBody>(r#"{"name":5}"#, &expect![[r#"name must be a string {"field":"name"}"#]]);
        refused::<RegisterHostBody>(
            r#"{"capabilities":"a"}"#,
            &expect![[r#"capabilities must be an array {"field":"capabilities"}"#]],
        );
        refused::<RegisterHostBody>(
            r#"{"capabilities":["a",1]}"#,
            &expect![[r#"capabilities[1] must be a string {"field":"capabilities[1]"}"#]],
        );
        refused::<RegisterHostBody>(
            r#"{"maxParallel":-1}"#,
            &expect![[r#"maxParallel must be a whole number from 0 to 4294967295 {"field":"maxParallel"}"#]],
        );
        refused::<RegisterHostBody>(
            r#"{"maxParallel":1.5}"#,
            &expect![[r#"maxParallel must be a whole number from 0 to 4294967295 {"field":"maxParallel"}"#]],
        );
        refused::<EnqueueJobBody>(
            r#"{"payload":"x"}"#,
            &expect![[r#"payload must be an object {"field":"payload"}"#]],
        );
        refused::<EnqueueJobBody>(
            r#"{"payload":["shell"]}"#,
            &expect![[r#"payload must be an object {"field":"payload"}"#]],
        );
        refused::<EnqueueJobBody>(
            r#"{"requirement":[]}"#,
            &expect![[r#"requirement must be an object {"field":"requirement"}"#]],
        );
        refused::<EnqueueJobBody>(
            r#"{"payload":{"timeoutMs":"1"}}"#,
            &expect![[
                r#"payload.timeoutMs must be a whole number, 0 or more {"field":"payload.timeoutMs"}"#
            ]],
        );
        refused::<EnqueueJobBody>(
            r#"{"payload":{"env":{"A":1}}}"#,
            &expect![[r#"payload.env.A must be a string {"field":"payload.env.A"}"#]],
        );
        refused::<EnqueueJobBody>(
            r#"{"priority":300}"#,
            &expect![[r#"priority must be a whole number from 0 to 255 {"field":"priority"}"#]],
        );
        refused::<HeartbeatBody>(
            r#"{"running":[{"jobId":"a b","fence":1}]}"#,
            &expect![[
                r#"running[0].jobId must be 1 to 128 of the characters A-Z a-z 0-9 . _ : - {"field":"running[0].jobId"}"#
            ]],
        );
        refused::<HeartbeatBody>(
            r#"{"running":[{"jobId":"a"}]}"#,
            &expect![[r#"running[0].fence is required {"field":"running[0].fence"}"#]],
        );
        refused::<HeartbeatBody>(
            r#"{"running":[["a",1]]}"#,
            &expect![[r#"running[0] must be an object {"field":"running[0]"}"#]],
        );
        refused::<RegisterHostBody>(
            r#"{"name":"a","name":"b"}"#,
            &expect![[r#"name is given twice {"field":"name"}"#]],
        );
        refused::<State>(
            r#"{"nodeId":"n","jobs":[{"id":"j","createdAt":"yesterday"}]}"#,
            &expect![[
                r#"jobs[0].createdAt must be an RFC 3339 time like 2026-01-01T00:00:00.000Z {"field":"jobs[0].createdAt"}"#
            ]],
        );
        refused::<State>(
            r#"{"nodeId":"n","services":[{"id":"s","status":"fine"}]}"#,
            &expect![[
                r#"services[0].status must be one of `pending`, `running`, `failed`, `stopped`, `degraded` {"field":"services[0].status"}"#
            ]],
        );
    }

    #[test]
    fn what_nobody_reads_may_be_nested_deeply_but_not_without_end() {
        let deep = |n: usize| format!(r#"{{"later":{}{}}}"#, "[".repeat(n), "]".repeat(n));
        assert!(parse::<RegisterHostBody>(deep(100).as_bytes()).is_ok());
        let body = Body::<(), 0> { value: (), bytes: deep(100_000).into() };
        assert_eq!(body.fingerprint().expect_err("too deep").status(), StatusCode::BAD_REQUEST);
    }

    const WITHIN: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_body_past_the_limit_is_refused_with_and_without_an_announced_length() {
        let headers = HeaderMap::new();
        assert_eq!(read(&headers, RawBody::from("1234"), 4, WITHIN).await, Ok(Bytes::from("1234")));
        let error = read(&headers, RawBody::from("12345"), 4, WITHIN).await.expect_err("too large");
        assert_eq!(error.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(error.body().error, "the body is larger than 4 bytes");
        let unannounced = || {
            let pieces = ["123", "45"].map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)));
            RawBody::from_stream(futures_util::stream::iter(pieces))
        };
        let error = read(&headers, unannounced(), 4, WITHIN).await.expect_err("too large");
        assert_eq!(error.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(read(&headers, unannounced(), 5, WITHIN).await, Ok(Bytes::from("12345")));
    }

    #[tokio::test]
    async fn a_compressed_body_is_415() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, "identity".parse().expect("a header"));
        assert!(read(&headers, RawBody::from("{}"), 4, WITHIN).await.is_ok());
        headers.append(header::CONTENT_ENCODING, "gzip".parse().expect("a header"));
        let error = read(&headers, RawBody::from("{}"), 4, WITHIN).await.expect_err("compressed");
        assert_eq!(error.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_is_408_and_one_that_breaks_off_400() {
        let never = RawBody::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let error = read(&HeaderMap::new(), never, 4, WITHIN).await.expect_err("no body");
        assert_eq!(error.status(), StatusCode::REQUEST_TIMEOUT);
        let broken = futures_util::stream::iter([Ok(Bytes::from("{")), Err(std::io::Error::other("gone"))]);
        let error = read(&HeaderMap::new(), RawBody::from_stream(broken), 4, WITHIN).await.expect_err("cut");
        assert_eq!(
            (error.status(), error.body().error.as_str()),
            (StatusCode::BAD_REQUEST, "the body was cut short")
        );
    }
}
