//! The output of jobs on its way from the host that runs them to whoever follows it.
//!
//! Offsets count the bytes of the text that the record of the job has in the end: what is no UTF-8 stands there
//! as U+FFFD. So a piece never begins or ends within a character, and what was read while a job ran goes on in
//! the record.

use serde::{Deserialize, Serialize};

use crate::limits::{MAX_LOG_OFFSET, MAX_LOG_PIECE_BYTES};
use crate::request::Invalid;
use crate::{HostId, JobId, JobStatus, LogStream};

/// A stream of a run that somebody follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LogWant {
    /// The job.
    pub job_id: JobId,
    /// The fencing token of the lease it runs under.
    pub fence: u64,
    /// Which of its streams.
    pub stream: LogStream,
    /// From where on.
    pub offset: u64,
}

/// `POST /v1/jobs/:id/logs`: the host that runs a job brings output that was asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct PushLogsBody {
    /// The host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_id: Option<String>,
    /// The fencing token of its lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
    /// Which stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Where the text begins in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The text. Empty, it says that there is nothing more at the offset yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Whether more is there already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub more: Option<bool>,
}

/// A checked [`PushLogsBody`], with the job it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushLogs {
    /// The job.
    pub job: JobId,
    /// The host that brings it.
    pub host: HostId,
    /// The fencing token of its lease.
    pub fence: u64,
    /// Which stream.
    pub stream: LogStream,
    /// Where the text begins in it.
    pub offset: u64,
    /// The text.
    pub data: String,
    /// Whether more is there already.
    pub more: bool,
}

impl PushLogsBody {
    /// Checks the body, which is for this job.
    ///
    /// # Errors
    /// The first field that is not as it must be.
    pub fn check(self, job: JobId) -> Result<PushLogs, Invalid> {
        let host = self.host_id.as_deref().map(str::trim).filter(|id| !id.is_empty());
        let host = host.ok_or_else(|| Invalid::required("hostId"))?;
        let host = HostId::parse(host).map_err(|fault| Invalid::new("hostId", fault.to_string()))?;
        let stream = self.stream.ok_or_else(|| Invalid::required("stream"))?;
        let stream =
            LogStream::parse(&stream).ok_or_else(|| Invalid::new("stream", "must be stdout or stderr"))?;
        let data = self.data.unwrap_or_default();
        if data.len() > MAX_LOG_PIECE_BYTES {
            let fault = format!("must be at most {MAX_LOG_PIECE_BYTES} bytes long");
            return Err(Invalid::new("data", fault));
        }
        let offset = self.offset.ok_or_else(|| Invalid::required("offset"))?;
        if offset > MAX_LOG_OFFSET {
            return Err(Invalid::new("offset", format!("must be at most {MAX_LOG_OFFSET}")));
        }
        let fence = self.fence.ok_or_else(|| Invalid::required("fence"))?;
        Ok(PushLogs { job, host, fence, stream, offset, data, more: self.more.unwrap_or(false) })
    }
}

/// `{"logs": […]}`: what is wanted of a job now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogWants {
    /// Its streams that somebody follows.
    #[serde(default)]
    pub logs: Vec<LogWant>,
}

/// A piece of what a job has written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct LogPiece {
    /// The job.
    pub job_id: JobId,
    /// Where it is in its life.
    pub status: JobStatus,
    /// Which attempt this is of; 0 before the first.
    pub attempt: u32,
    /// The fencing token of the attempt; 0 before the first. Each attempt has another, and its streams begin at 0.
    pub fence: u64,
    /// Which stream.
    pub stream: LogStream,
    /// Where the piece begins in it.
    pub offset: u64,
    /// The piece. Empty when there is nothing at the offset (yet).
    pub data: String,
    /// Where the next one begins.
    pub next_offset: u64,
    /// Whether who has the output has been heard: the host that runs the job, or the record.
    pub live: bool,
    /// Whether nothing more will come, of any of the streams that were asked for.
    pub ended: bool,
}

/// How far a reader is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogCursor {
    /// From where on standard output is wanted, if it is.
    pub stdout: Option<u64>,
    /// From where on standard error is wanted, if it is.
    pub stderr: Option<u64>,
    /// The attempt that the offsets are of, by its fencing token; `None` for whichever comes first.
    pub fence: Option<u64>,
}

impl LogCursor {
    /// One stream or both from their beginnings.
    #[must_use]
    pub fn new(streams: &[LogStream]) -> Self {
        let from = |stream| streams.contains(&stream).then_some(0);
        Self { stdout: from(LogStream::Stdout), stderr: from(LogStream::Stderr), fence: None }
    }

    /// Where one of the streams goes on.
    pub fn of(&mut self, stream: LogStream) -> &mut Option<u64> {
        match stream {
            LogStream::Stdout => &mut self.stdout,
            LogStream::Stderr => &mut self.stderr,
        }
    }

    /// A piece was read. With another attempt than before both streams begin anew; that is said.
    pub fn advance(&mut self, piece: &LogPiece) -> bool {
        let is_another = self.fence.is_some_and(|fence| fence != piece.fence);
        if is_another {
            self.stdout = self.stdout.map(|_| 0);
            self.stderr = self.stderr.map(|_| 0);
        }
        // What waits for its next attempt has the number of the one before.
        if piece.status != JobStatus::Queued {
            self.fence = Some(piece.fence);
        }
        if let Some(offset) = self.of(piece.stream) {
            *offset = piece.next_offset;
        }
        is_another
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_goes_on_where_a_piece_ended_and_begins_anew_with_another_attempt() {
        let piece = |fence: u64, status: JobStatus, stream: LogStream, next_offset: u64| LogPiece {
            job_id: JobId::parse("j").expect("an id"),
            status,
            attempt: 1,
            fence,
            stream,
            offset: 0,
            data: String::new(),
            next_offset,
            live: true,
            ended: false,
        };
        let mut cursor =
            LogCursor { stdout: Some(7), ..LogCursor::new(&[LogStream::Stdout, LogStream::Stderr]) };
        assert!(!cursor.advance(&piece(3, JobStatus::Queued, LogStream::Stdout, 7)));
        assert_eq!(cursor.fence, None, "the offset is meant for the attempt to come");
        assert!(!cursor.advance(&piece(4, JobStatus::Leased, LogStream::Stderr, 5)));
        assert_eq!(cursor, LogCursor { stdout: Some(7), stderr: Some(5), fence: Some(4) });
        assert!(!cursor.advance(&piece(4, JobStatus::Queued, LogStream::Stdout, 7)));
        assert!(cursor.advance(&piece(9, JobStatus::Leased, LogStream::Stdout, 2)));
        assert_eq!(cursor, LogCursor { stdout: Some(2), stderr: Some(0), fence: Some(9) });
        let mut one = LogCursor::new(&[LogStream::Stderr]);
        assert!(!one.advance(&piece(1, JobStatus::Leased, LogStream::Stderr, 4)));
        assert_eq!(one, LogCursor { stdout: None, stderr: Some(4), fence: Some(1) });
    }

    fn checked(json: &str) -> Result<PushLogs, String> {
        let body: PushLogsBody = serde_json::from_str(json).expect("a body");
        body.check(JobId::parse("j").expect("an id")).map_err(|fault| fault.to_string())
    }

    #[test]
    fn a_piece_says_whose_it_is_and_where_it_belongs() {
        let piece = checked(r#"{"hostId":"h","fence":7,"stream":"stderr","offset":3,"data":"a\u0000b"}"#);
        let piece = piece.expect("a piece");
        assert_eq!((piece.fence, piece.stream, piece.offset), (7, LogStream::Stderr, 3));
        assert_eq!((piece.data.as_str(), piece.more), ("a\0b", false));
        for (body, want) in [
            ("{}", "hostId is required"),
            (r#"{"hostId":"a b"}"#, "hostId must be 1 to 128 of the characters A-Z a-z 0-9 . _ : -"),
            (r#"{"hostId":"h"}"#, "stream is required"),
            (r#"{"hostId":"h","stream":"both"}"#, "stream must be stdout or stderr"),
            (r#"{"hostId":"h","stream":"stdout"}"#, "offset is required"),
            (r#"{"hostId":"h","stream":"stdout","offset":0}"#, "fence is required"),
            (
                r#"{"hostId":"h","stream":"stdout","offset":9007199254740992,"fence":1}"#,
                "offset must be at most 9007199254740991",
            ),
        ] {
            assert_eq!(checked(body), Err(want.to_owned()), "{body}");
        }
    }

    #[test]
    fn a_piece_is_bounded() {
        let body = |length: usize| PushLogsBody {
            host_id: Some("h".into()),
            fence: Some(1),
            stream: Some("stdout".into()),
            offset: Some(0),
            data: Some("x".repeat(length)),
            more: None,
        };
        let job = || JobId::parse("j").expect("an id");
        assert!(body(MAX_LOG_PIECE_BYTES).check(job()).is_ok());
        assert!(body(MAX_LOG_PIECE_BYTES + 1).check(job()).is_err());
    }
}
