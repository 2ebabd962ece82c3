//! `skyctl job submit`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use skyclaw_proto::record::Job;
use skyclaw_proto::request::{EnqueueJobBody, PayloadBody, RequirementBody};

use super::links::LinksArgs;
use super::plan::PlanArgs;
use super::terms::TermsArgs;
use super::{file, logs};
use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{self, Format, Table};
use crate::{arguments, wait};

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

pub(super) async fn run(submit: Submit, context: &Context<'_>) -> Result<Exit, Error> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use crate::job::JobCommand;
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
}
