//! `skyctl job …`.

mod explain;
mod file;
mod links;
mod logs;
mod plan;
mod show;
mod terms;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use skyclaw_client::JobFilter;
use skyclaw_config::clock;
use skyclaw_proto::limits::MAX_PAGE;
use skyclaw_proto::record::{Event, Job};
use skyclaw_proto::request::{EnqueueJobBody, PayloadBody, RequirementBody, ResolveJobBody, RetryJobBody};
use skyclaw_proto::{JobStatus, Resolution};

use self::links::LinksArgs;
use self::plan::PlanArgs;
use self::show::table;
pub(crate) use self::show::{by_line, details, event_line};
use self::terms::TermsArgs;
use crate::arguments;
use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{self, Format, Table};
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
    #[command(flatten)]
    terms: TermsArgs,
    #[command(flatten)]
    links: LinksArgs,
    #[command(flatten)]
    plan: PlanArgs,
    /// A file with the submission as TOML, YAML or JSON, or - for stdin; flags take precedence over it
    ///
    /// Its fields are those of POST /v1/jobs: payload, requirement, priority, labels, retry and so on.
    #[arg(long, short = 'f', value_name = "FILE")]
    file: Option<PathBuf>,
    /// Wait for its end, print its output and end with its exit code
    #[arg(long)]
    wait: bool,
    /// The same, and print its output as it writes it
    #[arg(long)]
    follow: bool,
    /// Submitting again with the same key gives the same job, not another one
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// The command and its arguments; it is run as it is, without a shell
    #[arg(
        required_unless_present = "file",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<String>,
}

impl Submit {
    /// The idempotency key.
    pub(crate) fn key(&self) -> Option<&str> {
        self.idempotency_key.as_deref()
    }
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
        JobCommand::Submit(submit) => run_submit(*submit, context).await,
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

async fn run_submit(submit: Submit, context: &Context<'_>) -> Result<Exit, Error> {
    let client = context.client()?;
    let (wait, follow, key, file) =
        (submit.wait, submit.follow, submit.idempotency_key.clone(), submit.file.clone());
    let body = match file {
        Some(path) => file::read(&path, &body(submit))?,
        None => body(submit),
    };
    let submitted = client.submit(&body, key.as_deref()).await?;
    let job = submitted.job;
    if submitted.existing {
        output::say(&format!("job {} with this unique key is there already, and has not ended", job.id));
    }
    if follow {
        return logs::until_end(&client, job.id, context).await;
    }
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

/// The job that a submission asks for: what the flags say. A file says the rest, so that nothing but what was given is in here if there is one.
pub(crate) fn body(submit: Submit) -> EnqueueJobBody {
    let is_command = !submit.command.is_empty();
    let mut command = submit.command.into_iter();
    let usual = || submit.file.is_none().then(|| vec!["shell".to_owned()]);
    let capabilities = Some(submit.capability).filter(|given| !given.is_empty()).or_else(usual);
    let body = submit.terms.put(EnqueueJobBody {
        payload: Some(PayloadBody {
            kind: is_command.then(|| "shell".to_owned()),
            command: command.next(),
            args: is_command.then(|| command.collect()),
            cwd: submit.cwd,
            env: Some(submit.env.into_iter().collect())
                .filter(|env: &skyclaw_proto::payload::Env| !env.is_empty()),
            timeout_ms: submit.timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
            ..PayloadBody::default()
        }),
        requirement: capabilities
            .map(|capabilities| RequirementBody { required_capabilities: Some(capabilities) }),
        submitted_by: submit.submitted_by,
        priority: submit.priority,
        labels: Some(submit.label).filter(|labels| !labels.is_empty()).map(|l| l.into_iter().collect()),
        ..EnqueueJobBody::default()
    });
    submit.links.put(submit.plan.put(body))
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
    fn how_a_job_is_to_be_run_has_its_place_in_the_body() {
        let flags = "--on-lost hold --isolation podman --image busybox --cpus 0.5 --memory 64MiB --pids 32 \
                     --tmpfs 1M --agent bot --network lan --mount /srv:/data:rw --grace 5s train";
        check_body(
            &flags.split_whitespace().collect::<Vec<_>>(),
            &expect![[
                r#"{"payload":{"kind":"shell","command":"train","args":[]},"requirement":{"requiredCapabilities":["shell"]},"onLost":"hold","isolation":"podman","image":"busybox","resources":{"cpuMillis":500,"memoryBytes":67108864,"pids":32,"tmpfsBytes":1048576},"agentId":"bot","network":"lan","mounts":[{"source":"/srv","target":"/data","readOnly":false}],"graceMs":5000}"#
            ]],
        );
        let wrong = Cli::try_parse_from(["skyctl", "job", "submit", "--on-lost", "cry", "ls"]);
        assert!(wrong.expect_err("refused").to_string().contains("must be retry, fail or hold"));
    }

    #[test]
    fn what_ties_a_job_to_others_has_its_place_in_the_body() {
        let flags = "--depends-on job_a --depends-on job_b --on-dependency-failure skip --concurrency-key db \
                     --concurrency-limit 2 --unique-key nightly train";
        check_body(
            &flags.split_whitespace().collect::<Vec<_>>(),
            &expect![[
                r#"{"payload":{"kind":"shell","command":"train","args":[]},"requirement":{"requiredCapabilities":["shell"]},"dependsOn":["job_a","job_b"],"onDependencyFailure":"skip","concurrencyKey":"db","concurrencyLimit":2,"uniqueKey":"nightly"}"#
            ]],
        );
        for flags in [
            "--on-dependency-failure skip",
            "--concurrency-limit 2",
            "--concurrency-key k --concurrency-limit 0",
        ] {
            let args = ["skyctl", "job", "submit"].into_iter().chain(flags.split(' ')).chain(["ls"]);
            assert!(Cli::try_parse_from(args).is_err(), "{flags}");
        }
    }

    #[test]
    fn when_a_job_is_to_be_run_has_its_place_in_the_body() {
        let flags = "--ttl 10m --not-before 2026-01-31T09:00:00+01:00 --max-attempts 5 --backoff 2s --max-backoff 1m --retain 1h x";
        check_body(
            &flags.split_whitespace().collect::<Vec<_>>(),
            &expect![[
                r#"{"payload":{"kind":"shell","command":"x","args":[]},"requirement":{"requiredCapabilities":["shell"]},"ttlMs":600000,"notBefore":"2026-01-31T08:00:00.000Z","retry":{"maxAttempts":5,"backoffMs":2000,"maxBackoffMs":60000},"retainMs":3600000}"#
            ]],
        );
        let parse = |flags: &str| {
            let words = flags.split_whitespace();
            Cli::try_parse_from(["skyctl", "job", "submit"].into_iter().chain(words)).map(drop)
        };
        assert!(parse("--backoff 2s x").is_err(), "there is nothing to wait between");
        assert!(parse("--max-attempts 0 x").is_err() && parse("--max-attempts 101 x").is_err());
        assert!(parse("").is_err() && parse("--file job.yaml").is_ok());
    }

    #[test]
    fn beside_a_file_flags_say_only_what_they_say() {
        check_body(&["--file", "job.yaml", "--priority", "9"], &expect![[r#"{"payload":{},"priority":9}"#]]);
    }

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
