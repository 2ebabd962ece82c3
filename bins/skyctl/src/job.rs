//! `skyctl job …`.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use skyclaw_client::JobFilter;
use skyclaw_config::clock;
use skyclaw_proto::limits::MAX_PAGE;
use skyclaw_proto::payload::Payload;
use skyclaw_proto::record::Job;
use skyclaw_proto::request::{EnqueueJobBody, PayloadBody, RequirementBody};
use skyclaw_proto::{JobStatus, Timestamp};

use crate::arguments;
use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{self, Format, Table, age, command_line};
use crate::{lookup, wait};

/// What can be done with jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Submit a command to run on a host that can; prints the id of the job
    ///
    /// Examples:
    ///   skyctl job submit --wait -- echo hello
    ///   skyctl job submit --capability gpu --timeout 1h --label team=a -- python train.py
    #[command(verbatim_doc_comment)]
    Submit(Box<Submit>),
    /// List jobs, newest first
    List(List),
    /// Show one job
    Get {
        /// Its id, or the beginning of it, with or without job_
        id: String,
    },
    /// Wait until jobs have ended; prints their output and ends with the exit code of the first that failed
    Wait {
        /// Their ids, or the beginnings of them
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Call jobs off: queued ones at once, running ones by stopping them
    Cancel {
        /// Their ids, or the beginnings of them
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Submit {
    /// A capability the host must have; may be repeated [default: shell]
    #[arg(long, value_name = "CAPABILITY")]
    capability: Vec<String>,
    /// How long it may run, such as 30s, 5m or 1500ms
    #[arg(long, value_name = "DURATION", value_parser = arguments::duration)]
    timeout: Option<Duration>,
    /// A variable of its environment; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = arguments::pair)]
    env: Vec<(String, String)>,
    /// The directory on the host to run it in
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// 0 to 100, higher first [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=100))]
    priority: Option<u8>,
    /// A label to find it by; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = arguments::pair)]
    label: Vec<(String, String)>,
    /// Who submits it
    #[arg(long, value_name = "WHO")]
    submitted_by: Option<String>,
    /// Wait for its end, print its output and end with its exit code
    #[arg(long)]
    wait: bool,
    /// Submitting again with the same key gives the same job, not another one
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// The command and its arguments; it is run as it is, without a shell
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
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
        JobCommand::Submit(submit) => run_submit(*submit, context).await,
        JobCommand::List(list) => run_list(&list, context).await,
        JobCommand::Get { id } => {
            let job = lookup::job(&context.client()?, &id).await?;
            context.out.show(&job, || details(&job))?;
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

async fn run_submit(submit: Submit, context: &Context<'_>) -> Result<Exit, Error> {
    let client = context.client()?;
    let (wait, key) = (submit.wait, submit.idempotency_key.clone());
    let job = client.enqueue(&body(submit), key.as_deref()).await?;
    if wait {
        return wait::until_end(&client, job.id, context).await;
    }
    show_submitted(&job, context)?;
    Ok(Exit::Success)
}

/// The id alone, for scripts, unless a format was asked for.
pub(crate) fn show_submitted(job: &Job, context: &Context<'_>) -> Result<(), Error> {
    match context.out.format {
        Format::Table => output::print(format!("{}\n", job.id).as_bytes()),
        Format::Json | Format::Yaml => context.out.show(job, Table::default),
    }
}

fn body(submit: Submit) -> EnqueueJobBody {
    let mut command = submit.command.into_iter();
    let capabilities =
        if submit.capability.is_empty() { vec!["shell".to_owned()] } else { submit.capability };
    EnqueueJobBody {
        payload: Some(PayloadBody {
            kind: Some("shell".to_owned()),
            command: command.next(),
            args: Some(command.collect()),
            cwd: submit.cwd,
            env: Some(submit.env.into_iter().collect())
                .filter(|env: &skyclaw_proto::payload::Env| !env.is_empty()),
            timeout_ms: submit.timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
            ..PayloadBody::default()
        }),
        requirement: Some(RequirementBody { required_capabilities: Some(capabilities) }),
        submitted_by: submit.submitted_by,
        priority: submit.priority,
        labels: Some(submit.label).filter(|labels| !labels.is_empty()).map(|l| l.into_iter().collect()),
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

fn table(jobs: &[Job], now: Timestamp) -> Table {
    let mut table = Table::new(&["ID", "STATUS", "AGE", "HOST", "EXIT", "COMMAND"]);
    for job in jobs {
        table.row(vec![
            job.id.to_string(),
            job.status.to_string(),
            age(now.since(job.created_at)),
            job.assigned_host_id.as_ref().map_or("-".into(), ToString::to_string),
            job.result.as_ref().map_or("-".into(), |result| result.exit_code.to_string()),
            payload_line(&job.payload),
        ]);
    }
    table
}

fn payload_line(payload: &Payload) -> String {
    match payload {
        Payload::Shell(shell) => {
            let args = shell.args.iter().flatten().map(String::as_str);
            command_line(std::iter::once(shell.command.as_str()).chain(args))
        }
        Payload::OpenclawRun(run) => {
            let args = run.args.iter().flatten().map(String::as_str);
            command_line(std::iter::once("(openclaw)").chain(args)).replacen("'(openclaw)'", "(openclaw)", 1)
        }
    }
}

pub(crate) fn details(job: &Job) -> Table {
    let labels: Vec<_> = job.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let wants: Vec<_> = job.requirement.required_capabilities.iter().map(AsRef::as_ref).collect();
    let listed = |items: String| Some(items).filter(|text| !text.is_empty());
    let result = job.result.as_ref();
    Table::of_fields(vec![
        ("id", Some(job.id.to_string())),
        ("status", Some(job.status.to_string())),
        ("command", Some(payload_line(&job.payload))),
        ("requires", listed(wants.join(","))),
        ("host", job.assigned_host_id.as_ref().map(ToString::to_string)),
        ("attempts", Some(job.attempts.to_string())),
        ("priority", job.priority.map(|priority| priority.to_string())),
        ("labels", listed(labels.join(","))),
        ("submitted by", job.submitted_by.clone()),
        ("created", Some(job.created_at.to_string())),
        ("updated", Some(job.updated_at.to_string())),
        ("lease until", job.lease_expires_at.map(|time| time.to_string())),
        ("finished", result.map(|result| result.finished_at.to_string())),
        ("duration", result.map(|result| format!("{}ms", result.duration_ms))),
        ("exit code", result.map(|result| result.exit_code.to_string())),
        ("error", job.error.clone()),
        ("stdout", result.and_then(|result| listed(result.stdout.clone()))),
        ("stderr", result.and_then(|result| listed(result.stderr.clone()))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use crate::output::{Look, samples};
    use clap::Parser;
    use expect_test::{Expect, expect};

    fn check_body(args: &[&str], expected: &Expect) {
        let cli = Cli::try_parse_from([&["skyctl", "job", "submit"], args].concat()).expect("parses");
        let Some(Command::Job(JobCommand::Submit(submit))) = cli.command else { panic!("not a submission") };
        expected.assert_eq(&serde_json::to_string(&body(*submit)).expect("json"));
    }

    #[test]
    fn a_submission_without_flags_asks_for_a_shell() {
        check_body(
            &["--", "echo", "-n", "a b"],
            &expect![[
                r#"{"payload":{"kind":"shell","command":"echo","args":["-n","a b"]},"requirement":{"requiredCapabilities":["shell"]}}"#
            ]],
        );
    }

    #[test]
    fn every_flag_of_a_submission_has_its_place_in_the_body() {
        let flags = "--capability gpu --capability big --timeout 5m --env A=1 --cwd /tmp --priority 9 --label t=x --submitted-by me train";
        check_body(
            &flags.split(' ').collect::<Vec<_>>(),
            &expect![[
                r#"{"payload":{"kind":"shell","command":"train","args":[],"cwd":"/tmp","env":{"A":"1"},"timeoutMs":300000},"requirement":{"requiredCapabilities":["gpu","big"]},"submittedBy":"me","priority":9,"labels":{"t":"x"}}"#
            ]],
        );
    }

    #[test]
    fn a_list_is_a_table_of_what_one_looks_for() {
        let mut failed = samples::job("job_2", JobStatus::Failed);
        failed.result = Some(samples::result(3));
        failed.assigned_host_id = skyclaw_proto::HostId::parse("host_a").ok();
        let now = Timestamp::from_millis(1_767_225_600_000 + 125_000);
        expect![[r"
            ID     STATUS  AGE  HOST    EXIT  COMMAND
            job_1  queued  2m   -       -     echo 'hello world'
            job_2  failed  2m   host_a  3     echo 'hello world'
        "]]
        .assert_eq(&table(&[samples::job("job_1", JobStatus::Queued), failed], now).render(Look::PLAIN));
    }

    #[test]
    fn the_details_of_a_job_show_what_is_known_of_it() {
        let mut job = samples::job("job_1", JobStatus::Failed);
        job.result = Some(samples::result(3));
        job.error = Some("exited with 3".into());
        expect![[r"
            id         job_1
            status     failed
            command    echo 'hello world'
            attempts   0
            created    2026-01-01T00:00:00.000Z
            updated    2026-01-01T00:00:01.000Z
            finished   2026-01-01T00:00:02.000Z
            duration   12ms
            exit code  3
            error      exited with 3
            stdout     out
        "]]
        .assert_eq(&details(&job).render(Look::PLAIN));
    }

    #[test]
    fn a_status_nobody_knows_is_refused_with_those_that_are() {
        assert_eq!(
            status("done"),
            Err("must be one of queued, leased, completed, failed, cancelled, expired, lost".into())
        );
    }
}
