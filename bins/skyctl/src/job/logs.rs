//! `skyctl job logs`: what a job has written, and what it writes.

use std::io::Write;

use clap::{Args, ValueEnum};
use skyclaw_client::{Client, JobLogs};
use skyclaw_proto::logs::{LogCursor, LogPiece};
use skyclaw_proto::{JobId, JobStatus, LogStream};

use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{self, Format, Table};
use crate::{lookup, wait};

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Its id, or the beginning of it
    id: String,
    /// Go on until the job has ended, over all its attempts
    #[arg(short, long)]
    follow: bool,
    /// Which stream; of both, each goes to its own
    #[arg(long, value_name = "STREAM", default_value = "both")]
    stream: Which,
    /// Leave out so many bytes of the one stream
    #[arg(long, value_name = "N")]
    offset: Option<u64>,
}

/// Which stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// Standard output
    Stdout,
    /// Standard error
    Stderr,
    /// Both
    Both,
}

impl Logs {
    fn cursor(&self) -> Result<LogCursor, Error> {
        let streams: &[LogStream] = match self.stream {
            Which::Stdout => &[LogStream::Stdout],
            Which::Stderr => &[LogStream::Stderr],
            Which::Both => LogStream::ALL,
        };
        let mut cursor = LogCursor::new(streams);
        match (self.offset, streams) {
            (Some(_), [_, _, ..]) => return Err(Error::OffsetOfBoth),
            (Some(offset), [one]) => *cursor.of(*one) = Some(offset),
            _ => {}
        }
        Ok(cursor)
    }
}

pub(super) async fn run(logs: Logs, context: &Context<'_>) -> Result<Exit, Error> {
    let cursor = logs.cursor()?;
    let client = context.client()?;
    let job = lookup::job(&client, &logs.id).await?;
    let read = read(client.job_logs(job.id.clone(), cursor, logs.follow), logs.follow, context);
    tokio::select! {
        read = read => read.map(|()| Exit::Success),
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    }
}

/// Shows what a job writes until it has ended, and then how it did.
pub(crate) async fn until_end(client: &Client, id: JobId, context: &Context<'_>) -> Result<Exit, Error> {
    let followed = async {
        read(client.job_logs(id.clone(), LogCursor::new(LogStream::ALL), true), true, context).await?;
        Ok(client.watch_job(id.clone()).end().await?)
    };
    tokio::select! {
        job = followed => job.map(|job| wait::tell_end(&job, context)),
        _ = tokio::signal::ctrl_c() => Ok(wait::interrupted(&id)),
    }
}

async fn read(mut logs: JobLogs, is_followed: bool, context: &Context<'_>) -> Result<(), Error> {
    let (mut attempt, mut told) = (0, false);
    loop {
        let piece = logs.next().await?;
        if attempt != 0 && piece.attempt > attempt && context.out.format == Format::Table {
            output::say(&format!("({} is run anew: attempt {} of it begins)", piece.job_id, piece.attempt));
        }
        if piece.status != JobStatus::Queued {
            attempt = piece.attempt;
        }
        // Said once: nobody should take a host that is out of reach for a job that is silent.
        let is_silent = is_followed && piece.status == JobStatus::Leased && !piece.live;
        if is_silent && !told && context.out.watched {
            output::say(&format!("({}: its host has not told what it has written yet)", piece.job_id));
            told = true;
        }
        let is_over = piece.ended || (!is_followed && piece.data.is_empty());
        show(&piece, context)?;
        if is_over {
            return Ok(());
        }
    }
}

/// A piece as it is, each stream to its own; as a record when a format was asked for.
fn show(piece: &LogPiece, context: &Context<'_>) -> Result<(), Error> {
    if context.out.format != Format::Table {
        return context.out.show(piece, Table::default);
    }
    match piece.stream {
        LogStream::Stdout => output::print(piece.data.as_bytes()),
        LogStream::Stderr => {
            // Whoever closed stderr does not want it.
            let _ = std::io::stderr().write_all(piece.data.as_bytes());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use crate::job::JobCommand;
    use clap::Parser;

    fn cursor(line: &str) -> Result<LogCursor, Error> {
        let cli = Cli::try_parse_from(line.split(' ')).expect("parses");
        let Some(Command::Job(JobCommand::Logs(logs))) = cli.command else { panic!("other") };
        logs.cursor()
    }

    #[test]
    fn an_offset_is_of_one_stream() {
        let both = cursor("skyctl job logs j -f").expect("a cursor");
        assert_eq!((both.stdout, both.stderr), (Some(0), Some(0)));
        let one = cursor("skyctl job logs j --stream stderr --offset 7").expect("a cursor");
        assert_eq!((one.stdout, one.stderr), (None, Some(7)));
        assert!(matches!(cursor("skyctl job logs j --offset 7"), Err(Error::OffsetOfBoth)));
    }
}
