//! Following the output of a job.

use std::time::Duration;

use skyclaw_proto::logs::{LogCursor, LogPiece, LogWants, PushLogsBody};
use skyclaw_proto::{JobId, LogStream, route};

use crate::Client;
use crate::call::Call;
use crate::error::Error;

/// How long one question waits at the coordinator.
const POLL: Duration = Duration::from_secs(25);

/// Reads what a job writes, piece by piece, without a gap and nothing twice, whichever coordinator answers.
#[derive(Debug)]
pub struct JobLogs {
    client: Client,
    id: JobId,
    cursor: LogCursor,
    follow: bool,
}

impl Client {
    /// What a job has written, from where `cursor` is. With `follow` all that is still to come as well; without, what
    /// there is now.
    #[must_use]
    pub fn job_logs(&self, id: JobId, cursor: LogCursor, follow: bool) -> JobLogs {
        JobLogs { client: self.clone(), id, cursor, follow }
    }

    /// `POST /v1/jobs/:id/logs`: brings output of a run that was asked for, and says what is wanted next. A piece
    /// that comes twice does no more than one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn push_logs(&self, id: &JobId, piece: &PushLogsBody) -> Result<LogWants, Error> {
        self.fetch(&Call::post(route::job_logs(id), piece)?).await
    }
}

impl JobLogs {
    /// The next piece. When it is followed, one that is empty says that nothing has come for a while; when not, that
    /// this is all. Not to be called again after one that is the end.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// See [`Error`]. It goes on where it was when it is called again.
    pub async fn next(&mut self) -> Result<LogPiece, Error> {
        let poll = if self.follow { POLL } else { Duration::ZERO };
        let mut call = Call::get(route::job_logs(&self.id)).polling(poll);
        let LogCursor { stdout, stderr, fence } = &self.cursor;
        let stream = match (stdout, stderr) {
            (Some(_), Some(_)) => "both",
            (None, Some(_)) => LogStream::Stderr.as_str(),
            _ => LogStream::Stdout.as_str(),
        };
        call.query = vec![("format", "json".to_owned()), ("stream", stream.to_owned())];
        let numbers = [("stdoutOffset", stdout), ("stderrOffset", stderr), ("fence", fence)];
        call.query
            .extend(numbers.into_iter().filter_map(|(name, number)| Some((name, (*number)?.to_string()))));
        if self.follow {
            call.query.push(("waitMs", poll.as_millis().to_string()));
        }
        let piece: LogPiece = self.client.fetch(&call).await?;
        self.cursor.advance(&piece);
        Ok(piece)
    }

    /// How far it is, to go on from there another time.
    #[must_use]
    pub fn cursor(&self) -> &LogCursor {
        &self.cursor
    }
}
