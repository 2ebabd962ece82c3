//! `skyctl events`: what happened, and what happens.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use skyclaw_client::{EventFilter, EventStream, Happened};
use skyclaw_proto::record::{Gap, Notice};
use skyclaw_proto::{AgentId, EventId, HostId, JobId, NoticeKind, ServiceId};

use crate::arguments;
use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::job::by_line;
use crate::output::{self, Format, clean};

/// How long to wait before the coordinators are asked again when none answered.
const AGAIN: Duration = Duration::from_secs(1);

/// Which events are shown.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on with what happens from now on, whichever coordinator answers, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Begin after this: the id of an event, or the index of a write (x-skyclaw-index); 0 is the very beginning
    /// [default: 0, or now with --follow]
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// Only these: job, host, service, schedule, freeze, restore or retention; may be repeated
    #[arg(long, value_name = "KIND", value_parser = kind, value_delimiter = ',')]
    kind: Vec<NoticeKind>,
    /// Only where this happened, such as claimed or down; may be repeated
    #[arg(long = "type", value_name = "WORD", value_delimiter = ',')]
    types: Vec<String>,
    /// Only where the record is in this state since, such as failed; may be repeated
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    status: Vec<String>,
    /// Only what happens to this job
    #[arg(long, value_name = "ID")]
    job: Option<JobId>,
    /// Only what happens to this host and what is with it
    #[arg(long, value_name = "ID")]
    host: Option<HostId>,
    /// Only what happens to this service
    #[arg(long, value_name = "ID")]
    service: Option<ServiceId>,
    /// Only what is done on behalf of this agent
    #[arg(long, value_name = "ID")]
    agent: Option<AgentId>,
    /// Only what has this label; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = arguments::pair)]
    label: Vec<(String, String)>,
    /// Only jobs of this submitter
    #[arg(long, value_name = "WHO")]
    submitted_by: Option<String>,
}

fn kind(text: &str) -> Result<NoticeKind, String> {
    NoticeKind::parse(text).ok_or_else(|| {
        let all: Vec<_> = NoticeKind::ALL.iter().map(|kind| kind.as_str()).collect();
        format!("must be one of {}", all.join(", "))
    })
}

impl EventsArgs {
    fn place(&self) -> Option<String> {
        let start = || (!self.follow).then(|| EventId::START.to_string());
        self.after.clone().or_else(start)
    }
}

pub(crate) async fn run(args: EventsArgs, context: &Context<'_>) -> Result<Exit, Error> {
    let (follow, from, asked) = (args.follow, args.place(), args.after.is_some());
    let filter = EventFilter {
        kinds: args.kind,
        types: args.types,
        statuses: args.status,
        job: args.job,
        host: args.host,
        service: args.service,
        agent: args.agent,
        labels: args.label,
        submitted_by: args.submitted_by,
    };
    let mut events = context.client()?.events(filter, from, follow);
    loop {
        // Both are cancel safe.
        let next = tokio::select! {
            next = next(&mut events, follow) => next?,
            _ = tokio::signal::ctrl_c() => {
                if let Some(place) = events.place() {
                    output::say(&format!("`skyctl events --follow --after {place}` goes on from here"));
                }
                return Ok(Exit::Interrupted);
            }
        };
        match next {
            Some(Happened::Change(notice)) => show(&*notice, || line(&notice), context)?,
            // Who asked for all there is expects that not all there ever was is there.
            Some(Happened::Gap(_)) if !follow && !asked => {}
            Some(Happened::Gap(gap)) => show_gap(&gap, context)?,
            None => return Ok(Exit::Success),
        }
    }
}

/// What happened next. Who follows is not left for a while without coordinators.
async fn next(events: &mut EventStream, follow: bool) -> Result<Option<Happened>, Error> {
    loop {
        match events.next().await {
            Err(error @ skyclaw_client::Error::Unavailable { .. }) if follow => {
                output::say(&format!("{error}; trying on"));
                tokio::time::sleep(AGAIN).await;
            }
            next => return Ok(next?),
        }
    }
}

/// One on a line, for tables and JSON; a document each for YAML.
fn show(value: &impl Serialize, line: impl FnOnce() -> String, context: &Context<'_>) -> Result<(), Error> {
    let text = match context.out.format {
        Format::Table => line(),
        Format::Json => {
            serde_json::to_string(value).map_err(|error| Error::Encode(error.to_string()))? + "\n"
        }
        Format::Yaml => {
            "---\n".to_owned()
                + &serde_yaml_ng::to_string(value).map_err(|error| Error::Encode(error.to_string()))?
        }
    };
    output::print(text.as_bytes())
}

/// That something is missing, beside what is not.
#[derive(Serialize)]
struct Missing<'a> {
    gap: &'a Gap,
}

fn show_gap(gap: &Gap, context: &Context<'_>) -> Result<(), Error> {
    let oldest = gap.oldest.map(|id| format!(", the oldest of which is {id}")).unwrap_or_default();
    let what = format!(
        "events after {} are missing: {}; it goes on with those after {}{oldest}",
        gap.after, gap.reason, gap.kept_after
    );
    match context.out.format {
        Format::Table => output::say(&what),
        Format::Json | Format::Yaml => show(&Missing { gap }, String::new, context)?,
    }
    Ok(())
}

fn line(notice: &Notice) -> String {
    let mut text = format!("{} {} {} {}", notice.at, notice.id, notice.kind, notice.what);
    text.push_str(&format!(" {}", notice.record_id));
    let host = notice.host_id.as_ref().filter(|host| host.as_str() != notice.record_id);
    if let Some(status) = notice.status.as_ref().filter(|status| **status != notice.what) {
        text.push_str(&format!(" ({status})"));
    }
    if let Some(host) = host {
        text.push_str(&format!(" {host}"));
    }
    if let Some(fence) = notice.fence.filter(|_| host.is_some()) {
        text.push_str(&format!(" #{fence}"));
    }
    if let Some(by) = &notice.by {
        text.push_str(&by_line(by));
    }
    if let Some(detail) = &notice.detail {
        text.push_str(&format!(": {detail}"));
    }
    clean(&text) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;
    use expect_test::expect;
    use serde_json::json;

    fn args(line: &[&str]) -> EventsArgs {
        let cli = Cli::try_parse_from([&["skyctl", "events"], line].concat()).expect("parses");
        let Some(Command::Events(args)) = cli.command else { panic!("not about events") };
        *args
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let claimed = json!({"id": "7-0", "at": "2026-01-01T00:00:00.000Z", "kind": "job", "type": "claimed",
            "recordId": "job_1", "status": "leased", "version": 9, "hostId": "h1", "attempt": 1, "fence": 3,
            "detail": "attempt 1\nand \u{1b}[31m more"});
        let down = json!({"id": "8-2", "at": "2026-01-01T00:00:00.000Z", "kind": "host", "type": "down",
            "recordId": "h1", "status": "down", "hostId": "h1"});
        let cancelled = json!({"id": "9-0", "at": "2026-01-01T00:00:00.000Z", "kind": "job", "type": "cancelled",
            "recordId": "job_1", "by": {"kind": "client", "stated": "ann", "requestId": "r-1", "nodeId": "a"}});
        let lines: String = [claimed, down, cancelled]
            .into_iter()
            .map(|notice| line(&serde_json::from_value(notice).expect("an event")))
            .collect();
        expect![[r"
            2026-01-01T00:00:00.000Z 7-0 job claimed job_1 (leased) h1 #3: attempt 1\nand \u{1b}[31m more
            2026-01-01T00:00:00.000Z 8-2 host down h1
            2026-01-01T00:00:00.000Z 9-0 job cancelled job_1 by ann (as stated) in request r-1
        "]]
        .assert_eq(&lines);
    }

    #[test]
    fn what_is_kept_is_shown_from_its_beginning_and_what_follows_from_now_on() {
        assert_eq!(args(&[]).place().as_deref(), Some("0"));
        assert_eq!(args(&["-f"]).place(), None);
        assert_eq!(args(&["-f", "--after", "7-1.00ff00ff"]).place().as_deref(), Some("7-1.00ff00ff"));
        assert_eq!(args(&["--kind", "job,host"]).kind, [NoticeKind::Job, NoticeKind::Host]);
        let wrong = Cli::try_parse_from(["skyctl", "events", "--kind", "cat"]).expect_err("refused");
        assert!(wrong.to_string().contains("must be one of job, host"), "{wrong}");
    }
}
