//! `skyctl job …`.

mod explain;
mod file;
mod links;
mod logs;
mod plan;
mod show;
mod submit;
mod terms;
mod watch;

use clap::{Args, Subcommand};
use serde::Serialize;
use skyclaw_client::JobFilter;
use skyclaw_config::clock;
use skyclaw_proto::limits::MAX_PAGE;
use skyclaw_proto::record::{Event, Job};
use skyclaw_proto::request::{ResolveJobBody, RetryJobBody};
use skyclaw_proto::{JobStatus, Resolution};

use self::show::table;
pub(crate) use self::show::{by_line, details, event_line};
pub(crate) use self::submit::{Submit, body, show_submitted};
use crate::arguments;
use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::output;
use crate::snapshot::requested_by;
use crate::{lookup, wait};

/// What can be done with jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Submit a command to run on a host that can; prints the id of the job
    ///
    /// Examples:
    ///   skyctl job submit --wait -- echo hello
    ///   skyctl job submit --capability gpu --timeout 1h --label team=a -- python train.py
    ///   skyctl job submit --max-attempts 5 --backoff 10s --ttl 1h -- ./fetch
    ///   skyctl job submit --file job.yaml --priority 80
    #[command(verbatim_doc_comment)]
    Submit(Box<Submit>),
    /// List jobs, newest first
    List(List),
    /// Show one job and what happened to it
    Get {
        /// Its id, or the beginning of it, with or without job_
        id: String,
        /// Show where it is again each time that changes, until it has ended or is lost
        #[arg(long)]
        watch: bool,
    },
    /// Say why a queued job is not running
    Explain {
        /// Its id, or the beginning of it
        id: String,
    },
    /// Wait until jobs have ended; prints their output and ends with the exit code of the first that failed
    Wait {
        /// Their ids, or the beginnings of them
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Show what a job has written; with -f, as it writes it
    ///
    /// Examples:
    ///   skyctl job logs -f 0192
    ///   skyctl job logs 0192 --stream stdout --offset 4096
    #[command(verbatim_doc_comment)]
    Logs(logs::Logs),
    /// Decide about a lost job: one whose host was lost, and that is not to be run again unasked
    ///
    /// Look first whether it was done. Its host may still report that it was, as long as nobody has decided.
    #[command(group = clap::ArgGroup::new("decision").required(true))]
    Resolve(Resolve),
    /// Queue jobs again that failed, were cancelled or have expired
    ///
    /// What is known of their earlier runs is kept. A job that was done is not done again.
    Retry {
        /// Their ids, or the beginnings of them
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Call jobs off: queued ones at once, running ones by stopping them
    Cancel {
        /// Their ids, or the beginnings of them
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Resolve {
    /// Its id, or the beginning of it
    id: String,
    /// Queue it again: it was not done, and may be done now
    #[arg(long, group = "decision")]
    requeue: bool,
    /// It has failed
    #[arg(long, group = "decision")]
    fail: bool,
    /// It was done
    #[arg(long, group = "decision")]
    complete: bool,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Resolve {
    fn action(&self) -> Resolution {
        match (self.requeue, self.fail) {
            (true, _) => Resolution::Requeue,
            (_, true) => Resolution::Fail,
            _ => Resolution::Complete,
        }
    }
}

/// A job with what happened to it.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    job: Job,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<Event>,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only jobs in this state: queued, leased, completed, failed, cancelled, expired or lost
    #[arg(long, value_name = "STATUS", value_parser = status)]
    status: Option<JobStatus>,
    /// Only jobs that this host has or had
    #[arg(long, value_name = "ID")]
    host: Option<skyclaw_proto::HostId>,
    /// Only jobs with this label; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = arguments::pair)]
    label: Vec<(String, String)>,
    /// Only jobs of this submitter
    #[arg(long, value_name = "WHO")]
    submitter: Option<String>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PAGE)), conflicts_with = "all")]
    limit: u32,
    /// All of them, however many
    #[arg(long)]
    all: bool,
    /// Show them again each time something happens to jobs, until Ctrl-C
    #[arg(long)]
    watch: bool,
}

fn status(text: &str) -> Result<JobStatus, String> {
    JobStatus::parse(text).ok_or_else(|| {
        let all: Vec<_> = JobStatus::ALL.iter().map(|status| status.as_str()).collect();
        format!("must be one of {}", all.join(", "))
    })
}

#[derive(Serialize)]
struct Jobs {
    jobs: Vec<Job>,
}

pub(crate) async fn run(command: JobCommand, context: &Context<'_>) -> Result<Exit, Error> {
    match command {
        JobCommand::Submit(submit) => submit::run(*submit, context).await,
        JobCommand::List(list) if list.watch => watch::list(&list, context).await,
        JobCommand::List(list) => run_list(&list, context).await,
        JobCommand::Get { id, watch: true } => {
            let client = context.client()?;
            let job = lookup::job(&client, &id).await?;
            watch::one(&client, job.id, context).await
        }
        JobCommand::Get { id, watch: false } => {
            let client = context.client()?;
            let job = lookup::job(&client, &id).await?;
            let events = match client.job_events(&job.id).await {
                // A coordinator that keeps no events.
                Err(error) if error.is_not_found() => Vec::new(),
                events => events?,
            };
            let shown = Shown { job, events };
            context.out.show(&shown, || details(&shown.job, &shown.events))?;
            Ok(Exit::Success)
        }
        JobCommand::Explain { id } => {
            let client = context.client()?;
            let job = lookup::job(&client, &id).await?;
            let explanation = client.explain_job(&job.id).await?;
            context.out.show(&explanation, || explain::table(&explanation))?;
            Ok(Exit::Success)
        }
        JobCommand::Logs(logs) => logs::run(logs, context).await,
        JobCommand::Resolve(resolve) => {
            let client = context.client()?;
            let job = lookup::job(&client, &resolve.id).await?;
            let body = ResolveJobBody {
                action: Some(resolve.action().to_string()),
                reason: resolve.reason,
                by: requested_by(),
                result: None,
            };
            let job = client.resolve_job(&job.id, &body, None).await?;
            show_all(vec![job], context)?;
            Ok(Exit::Success)
        }
        JobCommand::Wait { ids } => {
            let client = context.client()?;
            let mut exit = Exit::Success;
            for id in &ids {
                let job = lookup::job(&client, id).await?;
                let ended = wait::until_end(&client, job.id, context).await?;
                if ended == Exit::Interrupted {
                    return Ok(ended);
                }
                exit = if exit == Exit::Success { ended } else { exit };
            }
            Ok(exit)
        }
        JobCommand::Retry { ids, reason } => {
            let client = context.client()?;
            let said = RetryJobBody { reason, by: requested_by() };
            let mut jobs = Vec::new();
            for id in &ids {
                let job = lookup::job(&client, id).await?;
                jobs.push(client.retry_job(&job.id, &said, None).await?);
            }
            show_all(jobs, context)?;
            Ok(Exit::Success)
        }
        JobCommand::Cancel { ids } => {
            let client = context.client()?;
            let mut jobs = Vec::new();
            for id in &ids {
                let job = lookup::job(&client, id).await?;
                jobs.push(client.cancel_job(&job.id).await?);
            }
            show_all(jobs, context)?;
            Ok(Exit::Success)
        }
    }
}

async fn run_list(list: &List, context: &Context<'_>) -> Result<Exit, Error> {
    let client = context.client()?;
    let filter = JobFilter {
        status: list.status,
        host: list.host.clone(),
        labels: list.label.clone(),
        submitter: list.submitter.clone(),
        limit: (!list.all).then_some(list.limit),
    };
    let mut page = client.jobs(&filter, None).await?;
    let mut jobs = page.jobs;
    while let Some(cursor) = page.next_cursor.take().filter(|_| list.all) {
        page = client.jobs(&filter, Some(&cursor)).await?;
        jobs.append(&mut page.jobs);
    }
    let more = page.next_cursor.is_some();
    show_all(jobs, context)?;
    if more && context.out.watched {
        output::say("(there are more: --all shows them)");
    }
    Ok(Exit::Success)
}

fn show_all(jobs: Vec<Job>, context: &Context<'_>) -> Result<(), Error> {
    let body = Jobs { jobs };
    context.out.show(&body, || table(&body.jobs, clock::now()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    #[test]
    fn a_decision_about_a_lost_job_is_one_of_three() {
        let action = |flag: &str| match Cli::try_parse_from(["skyctl", "job", "resolve", "j", flag]) {
            Ok(Cli { command: Some(Command::Job(JobCommand::Resolve(resolve))), .. }) => {
                Some(resolve.action())
            }
            _ => None,
        };
        assert_eq!(action("--requeue"), Some(Resolution::Requeue));
        assert_eq!(action("--fail"), Some(Resolution::Fail));
        assert_eq!(action("--complete"), Some(Resolution::Complete));
        assert!(
            Cli::try_parse_from(["skyctl", "job", "resolve", "j"]).is_err(),
            "nobody decides by accident"
        );
        assert!(Cli::try_parse_from(["skyctl", "job", "resolve", "j", "--fail", "--requeue"]).is_err());
    }

    #[test]
    fn a_status_nobody_knows_is_refused_with_those_that_are() {
        assert_eq!(
            status("done"),
            Err("must be one of queued, leased, completed, failed, cancelled, expired, lost".into())
        );
    }
}
