//! Jobs as tables.

use skyclaw_proto::payload::Payload;
use skyclaw_proto::record::{AttemptResult, Event, Job, Usage};
use skyclaw_proto::{Actor, JobId, Mount, Resources, Retry, Timestamp};

use crate::output::{Table, age, command_line};

pub(super) fn table(jobs: &[Job], now: Timestamp) -> Table {
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

pub(crate) fn details(job: &Job, events: &[Event]) -> Table {
    let labels: Vec<_> = job.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mounts: Vec<_> = job.mounts.iter().map(mount_line).collect();
    let events: Vec<_> = events.iter().map(event_line).collect();
    let earlier: Vec<_> = job.attempt_results.iter().map(attempt_line).collect();
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
        ("ttl", job.ttl_ms.map(|ms| format!("{ms}ms"))),
        ("not before", job.not_before.map(|time| time.to_string())),
        ("retry", job.retry.as_ref().map(|retry| retry_line(retry, job.failed_attempts))),
        ("retain", job.retain_ms.map(|ms| format!("{ms}ms"))),
        ("claimable", job.claimable_at.map(|time| time.to_string())),
        ("expires", job.expires_at.map(|time| time.to_string())),
        ("on lost", job.on_lost.map(|on_lost| on_lost.to_string())),
        ("isolation", job.isolation.map(|isolation| isolation.to_string())),
        ("image", job.image.clone()),
        ("resources", job.resources.as_ref().map(resources_line)),
        ("agent", job.agent_id.as_ref().map(ToString::to_string)),
        ("network", job.network.clone()),
        ("mounts", listed(mounts.join("\n"))),
        ("grace", job.grace_ms.map(|ms| format!("{ms}ms"))),
        ("depends on", listed(ids(&job.depends_on))),
        ("on dependency failure", job.on_dependency_failure.map(|it| it.to_string())),
        ("waits for", listed(ids(&job.waits_for))),
        ("concurrency key", job.concurrency_key.as_ref().map(|key| concurrency_line(key, job))),
        ("unique key", job.unique_key.clone()),
        ("labels", listed(labels.join(","))),
        ("submitted by", job.submitted_by.clone()),
        ("schedule", job.schedule_id.as_ref().map(ToString::to_string)),
        ("scheduled", job.scheduled_at.map(|time| time.to_string())),
        ("created", Some(job.created_at.to_string())),
        ("updated", Some(job.updated_at.to_string())),
        ("lease until", job.lease_expires_at.map(|time| time.to_string())),
        ("lost", job.lost_at.map(|time| time.to_string())),
        ("finished", result.map(|result| result.finished_at.to_string())),
        ("duration", result.map(|result| format!("{}ms", result.duration_ms))),
        ("exit code", result.map(|result| result.exit_code.to_string())),
        ("usage", result.and_then(|result| result.usage.as_ref()).map(usage_line)),
        ("out of memory", result.filter(|result| result.oom).map(|_| "yes".to_owned())),
        ("error", job.error.clone()),
        ("earlier", listed(earlier.join("\n"))),
        ("events", listed(events.join("\n"))),
        ("stdout", result.and_then(|result| listed(result.stdout.clone()))),
        ("stderr", result.and_then(|result| listed(result.stderr.clone()))),
    ])
}

fn ids(all: &[JobId]) -> String {
    all.iter().map(JobId::as_str).collect::<Vec<_>>().join("\n")
}

fn concurrency_line(key: &str, job: &Job) -> String {
    format!("{key}, {} at once", job.concurrency_limit.unwrap_or(1))
}

fn retry_line(retry: &Retry, failed: u32) -> String {
    let Retry { max_attempts, backoff_ms, max_backoff_ms } = retry;
    format!("{failed} of {max_attempts} attempts failed; {backoff_ms}ms to {max_backoff_ms}ms in between")
}

fn attempt_line(attempt: &AttemptResult) -> String {
    let host = attempt.host_id.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
    let code = attempt.exit_code.map(|code| format!(", exit code {code}")).unwrap_or_default();
    let took = attempt.duration_ms.map(|ms| format!(" after {ms}ms")).unwrap_or_default();
    let error = attempt.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    let (at, number, status) = (attempt.ended_at, attempt.attempt, attempt.status);
    format!("{at} attempt {number}{host} {status}{took}{code}{error}")
}

fn mount_line(mount: &Mount) -> String {
    let mode = if mount.read_only { "ro" } else { "rw" };
    format!("{}:{}:{mode}", mount.source, mount.target)
}

fn resources_line(resources: &Resources) -> String {
    let all = [
        resources.cpu_millis.map(|millis| format!("{millis} thousandths of a processor")),
        resources.memory_bytes.map(|bytes| format!("{bytes} bytes of memory")),
        resources.pids.map(|pids| format!("{pids} processes")),
        resources.tmpfs_bytes.map(|bytes| format!("{bytes} bytes in /tmp")),
    ];
    all.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn usage_line(usage: &Usage) -> String {
    let cpu = usage.cpu_ms.map(|ms| format!("{ms}ms of processors"));
    let memory = usage.peak_memory_bytes.map(|bytes| format!("{bytes} bytes of memory at most"));
    cpu.into_iter().chain(memory).collect::<Vec<_>>().join(", ")
}

/// An event as one line.
pub(crate) fn event_line(event: &Event) -> String {
    let host = event.host_id.as_ref().map(|host| format!(" {host}")).unwrap_or_default();
    let fence = event.fence.map(|fence| format!(" #{fence}")).unwrap_or_default();
    // Schedules tell of who did it in words as well.
    let stated = event.by.as_ref().and_then(|by| by.stated.as_deref());
    let told = |detail: &str| match stated.and_then(|name| detail.strip_prefix("by ")?.strip_prefix(name)) {
        Some(rest) => rest.to_owned(),
        None => format!(": {detail}"),
    };
    let detail = event.detail.as_deref().map(told).unwrap_or_default();
    let by = event.by.as_ref().map(by_line).unwrap_or_default();
    format!("{} {}{host}{fence}{by}{detail}", event.at, event.kind)
}

/// Who brought something about, and by which request.
pub(crate) fn by_line(by: &Actor) -> String {
    let request = by.request_id.as_ref().map(|id| format!(" in request {id}")).unwrap_or_default();
    format!(" by {by}{request}")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use skyclaw_proto::{JobStatus, OnLost};

    use super::*;
    use crate::output::{Look, samples};

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
        .assert_eq(&details(&job, &[]).render(Look::PLAIN));
    }

    #[test]
    fn what_ties_a_job_to_others_is_shown() {
        let id = |id: &str| JobId::parse(id).expect("an id");
        let mut job = samples::job("job_1", JobStatus::Queued);
        job.depends_on = vec![id("job_a"), id("job_b")];
        job.waits_for = vec![id("job_b")];
        job.concurrency_key = Some("db".into());
        job.concurrency_limit = Some(2);
        job.unique_key = Some("nightly".into());
        expect![[r"
            id               job_1
            status           queued
            command          echo 'hello world'
            attempts         0
            depends on       job_a
                             job_b
            waits for        job_b
            concurrency key  db, 2 at once
            unique key       nightly
            created          2026-01-01T00:00:00.000Z
            updated          2026-01-01T00:00:01.000Z
        "]]
        .assert_eq(&details(&job, &[]).render(Look::PLAIN));
    }

    #[test]
    fn earlier_attempts_are_told_beside_what_is_to_come() {
        let mut job = samples::job("job_1", JobStatus::Queued);
        job.retry = Some(Retry { max_attempts: 3, ..Retry::default() });
        (job.attempts, job.failed_attempts) = (1, 1);
        job.claimable_at = Some(Timestamp::from_millis(1_767_225_602_000));
        job.attempt_results = vec![AttemptResult {
            attempt: 1,
            status: JobStatus::Failed,
            ended_at: Timestamp::from_millis(1_767_225_601_000),
            host_id: skyclaw_proto::HostId::parse("h1").ok(),
            fence: Some(7),
            duration_ms: Some(12),
            exit_code: Some(3),
            error: Some("broke".into()),
            stdout: "out".into(),
            stderr: String::new(),
            oom: false,
        }];
        expect![[r#"
            id         job_1
            status     queued
            command    echo 'hello world'
            attempts   1
            retry      1 of 3 attempts failed; 1000ms to 300000ms in between
            claimable  2026-01-01T00:00:02.000Z
            created    2026-01-01T00:00:00.000Z
            updated    2026-01-01T00:00:01.000Z
            earlier    2026-01-01T00:00:01.000Z attempt 1 on h1 failed after 12ms, exit code 3: broke
        "#]]
        .assert_eq(&details(&job, &[]).render(Look::PLAIN));
    }

    #[test]
    fn what_happened_to_a_job_is_told_with_its_terms() {
        let mut job = samples::job("job_1", JobStatus::Lost);
        job.on_lost = Some(OnLost::Hold);
        job.resources = Some(Resources { memory_bytes: Some(1024), ..Resources::default() });
        job.mounts = vec![Mount { source: "/a".into(), target: "/b".into(), read_only: true }];
        job.lost_at = Some(Timestamp::from_millis(1_767_225_603_000));
        job.error = Some("its host h1 was lost".into());
        let event = |kind: &str, detail: Option<&str>| Event {
            at: Timestamp::from_millis(1_767_225_601_000),
            kind: kind.into(),
            detail: detail.map(str::to_owned),
            host_id: skyclaw_proto::HostId::parse("h1").ok(),
            fence: Some(7),
            by: None,
        };
        let ann = Actor {
            stated: Some("ann@laptop".into()),
            request_id: Some("r-1".into()),
            ..Actor::new(skyclaw_proto::ActorKind::Client)
        };
        let submitted = Event { host_id: None, fence: None, by: Some(ann), ..event("submitted", None) };
        let paused =
            Event { kind: "paused".into(), detail: Some("by ann@laptop: odd".into()), ..submitted.clone() };
        let events = [submitted, paused, event("claimed", Some("attempt 1")), event("lost", None)];
        expect![[r"
            id         job_1
            status     lost
            command    echo 'hello world'
            attempts   0
            on lost    hold
            resources  1024 bytes of memory
            mounts     /a:/b:ro
            created    2026-01-01T00:00:00.000Z
            updated    2026-01-01T00:00:01.000Z
            lost       2026-01-01T00:00:03.000Z
            error      its host h1 was lost
            events     2026-01-01T00:00:01.000Z submitted by ann@laptop (as stated) in request r-1
                       2026-01-01T00:00:01.000Z paused by ann@laptop (as stated) in request r-1: odd
                       2026-01-01T00:00:01.000Z claimed h1 #7: attempt 1
                       2026-01-01T00:00:01.000Z lost h1 #7
        "]]
        .assert_eq(&details(&job, &events).render(Look::PLAIN));
    }
}
