//! `skyctl schedule …`.

use std::time::Duration;

use clap::{Args, Subcommand};
use skyclaw_config::clock;
use skyclaw_proto::record::Schedule;
use skyclaw_proto::request::{ActOnScheduleBody, CreateScheduleBody, PauseScheduleBody};
use skyclaw_proto::response::SchedulesBody;
use skyclaw_proto::{Overlap, ScheduleId, Timestamp};

use crate::arguments;
use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::job::{self, Submit, event_line};
use crate::output::{self, Format, Table, age};
use crate::snapshot::requested_by;

/// What can be done with schedules.
#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Submit a job at the times of a cron expression; prints the id of the schedule
    ///
    /// The expression has five fields: minute, hour, day of month, month, day of week; seconds may stand before
    /// them. @hourly, @daily, @weekly, @monthly and @yearly are known too.
    ///
    /// Examples:
    ///   skyctl schedule create nightly --cron '30 2 * * *' --time-zone Europe/Berlin -- backup.sh
    ///   skyctl schedule create poll --cron '*/10 * * * * *' --overlap skip --timeout 30s -- poll.sh
    #[command(verbatim_doc_comment)]
    Create(Box<Create>),
    /// List all schedules, oldest first
    List,
    /// Show one schedule and what happened to it
    Get {
        /// Its name or id
        schedule: ScheduleId,
    },
    /// Let a schedule submit nothing until it is resumed; jobs that it submitted go on
    Pause {
        /// Its name or id
        schedule: ScheduleId,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Let a paused schedule go on with the next of its times
    Resume {
        /// Its name or id
        schedule: ScheduleId,
    },
    /// Submit the job of a schedule now, once, also while it is paused; prints the id of the job
    Trigger {
        /// Its name or id
        schedule: ScheduleId,
        /// Triggering again with the same key submits no second job
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
    },
    /// Delete schedules; jobs that they submitted go on
    Delete {
        /// Their names or ids
        #[arg(required = true, value_name = "SCHEDULE")]
        schedules: Vec<ScheduleId>,
    },
}

#[derive(Debug, Args)]
#[command(
    mut_arg("wait", |arg| arg.hide(true).conflicts_with("cron")),
    mut_arg("idempotency_key", |arg| arg.help("Creating again with the same key gives the same schedule"))
)]
pub(crate) struct Create {
    /// What to call it: letters, digits and . _ : -
    #[arg(value_name = "NAME")]
    name: String,
    /// At which times
    #[arg(long, value_name = "EXPRESSION")]
    cron: String,
    /// The time zone of those times, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// When the last job has not ended: skip that time, queue one job behind it, or replace it [default: skip]
    #[arg(long, value_name = "POLICY", value_parser = overlap)]
    overlap: Option<Overlap>,
    /// How late to make up for a time that was missed, such as 5m [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = arguments::duration)]
    catch_up: Option<Duration>,
    /// Submit nothing until it is resumed
    #[arg(long)]
    paused: bool,
    #[command(flatten)]
    job: Submit,
}

fn overlap(text: &str) -> Result<Overlap, String> {
    Overlap::parse(text).ok_or_else(|| "must be skip, queue or replace".to_owned())
}

pub(crate) async fn run(command: ScheduleCommand, context: &Context<'_>) -> Result<Exit, Error> {
    let client = context.client()?;
    let by = requested_by;
    match command {
        ScheduleCommand::Create(create) => {
            let key = create.job.key().map(str::to_owned);
            let created = client.create_schedule(&body(*create, by()), key.as_deref()).await?;
            match context.out.format {
                Format::Table => output::print(format!("{}\n", created.id).as_bytes())?,
                Format::Json | Format::Yaml => context.out.show(&created, Table::default)?,
            }
        }
        ScheduleCommand::List => {
            let body = SchedulesBody { schedules: client.schedules().await?, next_cursor: None };
            context.out.show(&body, || table(&body.schedules, clock::now()))?;
        }
        ScheduleCommand::Get { schedule } => show(&client.schedule(&schedule).await?, context)?,
        ScheduleCommand::Pause { schedule, reason } => {
            let pause = PauseScheduleBody { reason, by: by() };
            show(&client.pause_schedule(&schedule, &pause).await?, context)?;
        }
        ScheduleCommand::Resume { schedule } => {
            let resume = ActOnScheduleBody { by: by() };
            show(&client.resume_schedule(&schedule, &resume).await?, context)?;
        }
        ScheduleCommand::Trigger { schedule, idempotency_key } => {
            let trigger = ActOnScheduleBody { by: by() };
            let triggered = client.trigger_schedule(&schedule, &trigger, idempotency_key.as_deref()).await?;
            match (&triggered.job, context.out.format) {
                (Some(job), Format::Table) => output::print(format!("{}\n", job.id).as_bytes())?,
                (None, Format::Table) => {
                    let last = triggered.schedule.last_job_id.as_ref().map(ToString::to_string);
                    let last = last.unwrap_or_default();
                    output::say(&format!("the job is submitted as soon as {last} has ended"));
                }
                (_, Format::Json | Format::Yaml) => context.out.show(&triggered, Table::default)?,
            }
        }
        ScheduleCommand::Delete { schedules } => {
            let mut body = SchedulesBody::default();
            for schedule in &schedules {
                body.schedules.push(client.delete_schedule(schedule).await?);
            }
            context.out.show(&body, || table(&body.schedules, clock::now()))?;
        }
    }
    Ok(Exit::Success)
}

fn body(create: Create, by: Option<String>) -> CreateScheduleBody {
    CreateScheduleBody {
        name: Some(create.name),
        cron: Some(create.cron),
        time_zone: create.time_zone,
        overlap: create.overlap.map(|overlap| overlap.to_string()),
        catch_up_ms: create.catch_up.map(|late| u64::try_from(late.as_millis()).unwrap_or(u64::MAX)),
        job: Some(job::body(create.job)),
        paused: create.paused.then_some(true),
        by,
    }
}

fn show(schedule: &Schedule, context: &Context<'_>) -> Result<(), Error> {
    context.out.show(schedule, || details(schedule))
}

/// How a schedule stands.
fn state(schedule: &Schedule) -> &'static str {
    match (schedule.paused, schedule.next_at) {
        (true, _) => "paused",
        (false, Some(_)) => "active",
        (false, None) => "over",
    }
}

fn table(schedules: &[Schedule], now: Timestamp) -> Table {
    let mut table = Table::new(&["NAME", "STATE", "CRON", "ZONE", "NEXT", "LAST", "LAST JOB"]);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    for schedule in schedules {
        table.row(vec![
            schedule.name.clone(),
            state(schedule).to_owned(),
            schedule.cron.clone(),
            schedule.time_zone.clone(),
            or_dash(schedule.next_at.map(|at| format!("in {}", age(at.since(now))))),
            or_dash(schedule.last_at.map(|at| format!("{} ago", age(now.since(at))))),
            or_dash(schedule.last_job_id.as_ref().map(ToString::to_string)),
        ]);
    }
    table
}

fn details(schedule: &Schedule) -> Table {
    let events: Vec<_> = schedule.events.iter().map(event_line).collect();
    let time = |at: Option<Timestamp>| at.map(|at| at.to_string());
    Table::of_fields(vec![
        ("id", Some(schedule.id.to_string())),
        ("name", Some(schedule.name.clone())),
        ("state", Some(state(schedule).to_owned())),
        ("cron", Some(schedule.cron.clone())),
        ("time zone", Some(schedule.time_zone.clone())),
        ("overlap", Some(schedule.overlap.to_string())),
        ("catch up", Some(format!("{}ms", schedule.catch_up_ms))),
        ("job", Some(schedule.job.to_string())),
        ("next", time(schedule.next_at)),
        ("waiting", time(schedule.waiting_at)),
        ("last", time(schedule.last_at)),
        ("last job", schedule.last_job_id.as_ref().map(ToString::to_string)),
        ("submitted", Some(schedule.submitted.to_string())),
        ("skipped", Some(schedule.skipped.to_string())),
        ("missed", Some(schedule.missed.to_string())),
        ("paused", time(schedule.paused_at)),
        ("paused by", schedule.paused_by.clone()),
        ("reason", schedule.paused_reason.clone()),
        ("created", Some(schedule.created_at.to_string())),
        ("updated", Some(schedule.updated_at.to_string())),
        ("events", Some(events.join("\n")).filter(|text| !text.is_empty())),
    ])
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use expect_test::expect;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::output::Look;

    fn parsed(line: &[&str]) -> Result<Create, String> {
        let line = [&["skyctl", "schedule", "create"], line].concat();
        match Cli::try_parse_from(line).map_err(|error| error.to_string())?.command {
            Some(Command::Schedule(ScheduleCommand::Create(create))) => Ok(*create),
            _ => Err("something else".to_owned()),
        }
    }

    #[test]
    fn a_schedule_takes_the_flags_of_a_submission_and_its_own() {
        let line = [
            "nightly",
            "--cron",
            "30 2 * * *",
            "--time-zone",
            "Europe/Berlin",
            "--overlap",
            "queue",
            "--catch-up",
            "5m",
            "--paused",
            "--priority",
            "9",
            "--",
            "backup.sh",
            "--wait",
        ];
        let create = parsed(&line).expect("a schedule");
        expect![[
            r#"{"name":"nightly","cron":"30 2 * * *","timeZone":"Europe/Berlin","overlap":"queue","catchUpMs":300000,"job":{"payload":{"kind":"shell","command":"backup.sh","args":["--wait"]},"requirement":{"requiredCapabilities":["shell"]},"priority":9},"paused":true,"by":"ann"}"#
        ]]
        .assert_eq(&serde_json::to_string(&body(create, Some("ann".into()))).expect("json"));
    }

    #[test]
    fn nobody_waits_for_the_end_of_a_schedule() {
        assert!(parsed(&["a", "--cron", "@daily", "--wait", "ls"]).expect_err("refused").contains("--wait"));
        assert!(parsed(&["a", "--cron", "@daily", "--overlap", "allow", "ls"]).is_err());
        assert!(parsed(&["a", "ls"]).expect_err("refused").contains("--cron"));
    }

    #[test]
    fn a_table_says_when_a_schedule_is_due_and_was() {
        let at = |seconds: i64| Timestamp::from_millis(1_767_225_600_000 + seconds * 1000);
        let schedule = |paused| Schedule {
            id: ScheduleId::parse("sched_1").expect("an id"),
            name: "nightly".into(),
            cron: "30 2 * * *".into(),
            time_zone: "UTC".into(),
            overlap: Overlap::Skip,
            catch_up_ms: 1000,
            job: serde_json::json!({}),
            paused,
            paused_at: None,
            paused_reason: None,
            paused_by: None,
            next_at: (!paused).then(|| at(7200)),
            waiting_at: None,
            last_at: (!paused).then(|| at(-60)),
            last_job_id: None,
            submitted: 1,
            skipped: 0,
            missed: 0,
            created_at: at(0),
            updated_at: at(0),
            updated_by: skyclaw_proto::NodeId::parse("n").expect("an id"),
            version: 1,
            events: Vec::new(),
        };
        expect![[r"
            NAME     STATE   CRON        ZONE  NEXT   LAST    LAST JOB
            nightly  active  30 2 * * *  UTC   in 2h  1m ago  -
            nightly  paused  30 2 * * *  UTC   -      -       -
        "]]
        .assert_eq(&table(&[schedule(false), schedule(true)], at(0)).render(Look::PLAIN));
    }
}
