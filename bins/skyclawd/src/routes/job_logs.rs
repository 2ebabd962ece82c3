//! `GET /v1/jobs/:id/logs`: what a job has written, while it runs and after.
//!
//! | parameter | what |
//! |---|---|
//! | `stream` | `stdout` (the default), `stderr` or `both` |
//! | `offset` | where to begin in the one stream; `stdoutOffset` and `stderrOffset` name the stream themselves |
//! | `fence` | the attempt that the offsets are of; with another one they are 0 |
//! | `follow=true` | the answer goes on until the job has ended, and over all its attempts |
//! | `format=json` | pieces instead of text, as with `accept: application/json`: with `follow` one a line, else one |
//! | `waitMs` | how long the one piece may be waited for |
//!
//! An answer that breaks off before the end does so visibly, as its last chunk is missing; whoever reads goes on
//! from the offset it has come to, at any coordinator.

use std::io;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use skyclaw_core::Refusal;
use skyclaw_proto::logs::{LogCursor, LogPiece};
use skyclaw_proto::route::{LOG_ATTEMPT_HEADER, LOG_OFFSET_HEADER};
use skyclaw_proto::{ErrorCode, Invalid, JobId, LogStream};
use skyclaw_replication::{LogsError, LogsFault, ReadLogs, WriteError};
use tokio::time::Instant;

use crate::admission::{Parked, Permit};
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::{Id, Query};
use crate::log_meters::Follower;

/// How long the host may take to say what there is now.
const NOW_WITHIN: Duration = Duration::from_secs(5);
/// How long one piece is waited for on behalf of who follows.
const POLL: Duration = Duration::from_secs(25);
/// How long who follows is kept while nobody can be asked, and how often it is tried.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_millis(200));

/// How the answer looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Lines,
    Piece,
}

#[derive(Debug)]
struct Asked {
    read: ReadLogs,
    form: Form,
    /// Where the answer begins, if it is of one stream.
    offset: Option<u64>,
}

pub(crate) async fn handle(
    State(app): State<Shared>,
    permit: Permit,
    Id(id): Id<JobId>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Asked { read, form, offset } = asked(id, &query, &headers)?;
    let parked = permit.park()?;
    let follower = app.metrics.logs().follow();
    // What cannot be answered is to be seen in the status: so the first piece comes before the head.
    let wait = if read.follow && form != Form::Piece { Duration::ZERO } else { read.wait };
    let first = ReadLogs { wait, ..read.clone() };
    let first = app.unless_ending(app.node.logs(first)).await;
    let first = first.unwrap_or_else(|| Err(WriteError::ShuttingDown.into()))?;
    if form == Form::Piece {
        follower.sent(first.data.len());
        return Ok(Json(first).into_response());
    }
    let mut head = HeaderMap::new();
    let kind = if form == Form::Text { "text/plain; charset=utf-8" } else { "application/x-ndjson" };
    head.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    // Whatever a job writes, no browser is to make more of it.
    head.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    head.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    head.insert(HeaderName::from_static(LOG_ATTEMPT_HEADER), first.attempt.into());
    if let Some(asked) = offset {
        let begins = if first.data.is_empty() { asked } else { first.offset };
        head.insert(HeaderName::from_static(LOG_OFFSET_HEADER), begins.into());
    }
    let reading =
        Reading { app, read, form, next: Some(first), told: None, is_over: false, follower, _parked: parked };
    let body = Body::from_stream(futures_util::stream::try_unfold(reading, Reading::next));
    Ok((head, body).into_response())
}

fn asked(job: JobId, query: &Query, headers: &HeaderMap) -> Result<Asked, ApiError> {
    let number = |name: &str| query.read::<u64>(name, "must be a whole number, 0 or more");
    let streams: &[LogStream] = match query.one("stream")? {
        None | Some("stdout") => &[LogStream::Stdout],
        Some("stderr") => &[LogStream::Stderr],
        Some("both") => LogStream::ALL,
        Some(_) => return Err(Invalid::new("stream", "must be stdout, stderr or both").into()),
    };
    let mut from = LogCursor { fence: number("fence")?, ..LogCursor::new(streams) };
    for (name, stream) in [("stdoutOffset", LogStream::Stdout), ("stderrOffset", LogStream::Stderr)] {
        if let (Some(offset), Some(given)) = (from.of(stream), number(name)?) {
            *offset = given;
        }
    }
    match (number("offset")?, streams) {
        (Some(given), [one]) => *from.of(*one) = Some(given),
        (Some(_), _) => {
            let fault = "is of one stream: say stdoutOffset and stderrOffset for both";
            return Err(Invalid::new("offset", fault).into());
        }
        (None, _) => {}
    }
    let follow = query.read::<bool>("follow", "must be true or false")?.unwrap_or(false);
    let is_json = match query.one("format")? {
        None => headers.get(header::ACCEPT).is_some_and(|it| it.as_bytes().starts_with(b"application/json")),
        Some("text") => false,
        Some("json") => true,
        Some(_) => return Err(Invalid::new("format", "must be text or json").into()),
    };
    let offset = if let [one] = streams { *from.of(*one) } else { None };
    let (form, follow, wait) = match (is_json, follow, Duration::from_millis(query.wait_ms()?)) {
        (true, false, Duration::ZERO) => (Form::Piece, false, NOW_WITHIN),
        (true, false, wait) => (Form::Piece, true, wait),
        (true, true, _) => (Form::Lines, true, POLL),
        (false, true, _) => (Form::Text, true, POLL),
        (false, false, _) => (Form::Text, false, NOW_WITHIN),
    };
    Ok(Asked { read: ReadLogs { job, from, follow, wait }, form, offset })
}

/// Somebody who reads, from piece to piece.
struct Reading {
    app: Shared,
    read: ReadLogs,
    form: Form,
    /// A piece that is there already.
    next: Option<LogPiece>,
    /// What the last line said of the job besides its output.
    told: Option<(u64, skyclaw_proto::JobStatus, bool)>,
    is_over: bool,
    follower: Follower,
    _parked: Parked,
}

impl Reading {
    /// What is sent next; `None` at the end. An error breaks the answer off.
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        while !self.is_over {
            let piece = self.piece().await?;
            self.read.from.advance(&piece);
            self.is_over = piece.ended || (!self.read.follow && piece.data.is_empty());
            self.follower.sent(piece.data.len());
            if let Some(bytes) = self.written(piece)? {
                return Ok(Some((bytes, self)));
            }
        }
        Ok(None)
    }

    async fn piece(&mut self) -> io::Result<LogPiece> {
        if let Some(piece) = self.next.take() {
            return Ok(piece);
        }
        let until = Instant::now() + PATIENCE.0;
        loop {
            let piece = self.app.unless_ending(self.app.node.logs(self.read.clone())).await;
            match piece.unwrap_or_else(|| Err(WriteError::ShuttingDown.into())) {
                Ok(piece) => return Ok(piece),
                Err(error) if may_pass(&error) && Instant::now() < until => {
                    tokio::time::sleep(PATIENCE.1).await;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }

    fn written(&mut self, piece: LogPiece) -> io::Result<Option<Bytes>> {
        if self.form == Form::Text {
            return Ok((!piece.data.is_empty()).then(|| piece.data.into()));
        }
        let told = Some((piece.fence, piece.status, piece.live));
        if piece.data.is_empty() && !piece.ended && self.told == told {
            return Ok(None);
        }
        self.told = told;
        let mut line = serde_json::to_vec(&piece).map_err(io::Error::other)?;
        line.push(b'\n');
        Ok(Some(line.into()))
    }
}

/// Whether who follows need not be told of it, as long as it passes.
fn may_pass(error: &LogsError) -> bool {
    matches!(
        error,
        LogsError::Leader(WriteError::NoLeader | WriteError::OutcomeUnknown | WriteError::NotServing(_))
            | LogsError::Fault(LogsFault::TooMany)
    )
}

impl From<LogsError> for ApiError {
    fn from(error: LogsError) -> Self {
        let sentence = error.to_string();
        match error {
            LogsError::UnknownJob(job) => Refusal::UnknownJob(job).into(),
            LogsError::Fault(LogsFault::HostSilent { .. }) => {
                Self::unavailable(ErrorCode::HostSilent, sentence)
            }
            LogsError::Fault(LogsFault::TooMany) => Self::overloaded(sentence),
            LogsError::Fault(LogsFault::NotWanted { .. }) => {
                Self::new(StatusCode::GONE, ErrorCode::NotWanted, sentence)
            }
            // This node has not learnt of it in time.
            LogsError::Fault(LogsFault::Over { .. }) => Self::unavailable(ErrorCode::Behind, sentence),
            LogsError::Read(error) => error.into(),
            LogsError::Leader(error) => error.into(),
            error => {
                tracing::error!(%error, "the output of a job cannot be had");
                Self::internal()
            }
        }
    }
}
