//! `skyctl job get --watch` and `skyctl job list --watch`: shown again as they change, without asking in between.

use std::time::Duration;

use skyclaw_client::{Client, EventFilter, EventStream, Happened};
use skyclaw_proto::record::Job;
use skyclaw_proto::{JobId, JobStatus, NoticeKind};

use super::List;
use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{self, Format, Table};

/// A list is not shown more often than this.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// Shows a job each time something happens to it, until nothing more will.
pub(super) async fn one(client: &Client, id: JobId, context: &Context<'_>) -> Result<Exit, Error> {
    let mut watch = client.watch_job(id);
    let mut shown = String::new();
    loop {
        // Both are cancel safe.
        let job = tokio::select! {
            job = watch.next() => job?,
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
        };
        let now = line(&job);
        // That a lease is renewed is a new version and no news.
        if now != shown {
            show(&job, &now, context)?;
            shown = now;
        }
        if job.status.is_finished() || job.status == JobStatus::Lost {
            return Ok(Exit::Success);
        }
    }
}

fn line(job: &Job) -> String {
    let mut text = format!("{} {}", job.id, job.status);
    if let Some(host) = &job.assigned_host_id {
        text.push_str(&format!(" {host}"));
    }
    if job.attempts > 0 {
        text.push_str(&format!(", attempt {}", job.attempts));
    }
    if job.cancel_requested_at.is_some() {
        text.push_str(", called off");
    }
    if let Some(result) = &job.result {
        text.push_str(&format!(", exit code {}", result.exit_code));
    }
    if let Some(error) = &job.error {
        text.push_str(&format!(": {error}"));
    }
    text
}

fn show(job: &Job, line: &str, context: &Context<'_>) -> Result<(), Error> {
    match context.out.format {
        Format::Table => output::print(format!("{} {}\n", job.updated_at, output::clean(line)).as_bytes()),
        Format::Json => {
            let text = serde_json::to_string(job).map_err(|error| Error::Encode(error.to_string()))?;
            output::print(format!("{text}\n").as_bytes())
        }
        Format::Yaml => {
            output::print(b"---\n")?;
            context.out.show(job, Table::default)
        }
    }
}

/// Shows a list again each time something happens to jobs.
pub(super) async fn list(list: &List, context: &Context<'_>) -> Result<Exit, Error> {
    let client = context.client()?;
    let filter =
        EventFilter { kinds: vec![NoticeKind::Job], labels: list.label.clone(), ..EventFilter::default() };
    // From before the first look on, so that nothing is missed between the two.
    let mut now = client.events(filter.clone(), None, false);
    while now.next().await?.is_some() {}
    let mut events = client.events(filter, now.place().map(str::to_owned), true);
    loop {
        super::run_list(list, context).await?;
        // Both are cancel safe.
        tokio::select! {
            changed = changed(&mut events) => changed?,
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
        }
        if context.out.format == Format::Table {
            output::print(b"\n")?;
        }
    }
}

/// Waits until something has happened, and takes what happens soon after together with it.
async fn changed(events: &mut EventStream) -> Result<(), Error> {
    let first: Option<Happened> = events.next().await?;
    let soon = tokio::time::sleep(AT_MOST_EVERY);
    tokio::pin!(soon);
    let mut is_over = first.is_none();
    while !is_over {
        tokio::select! {
            () = &mut soon => is_over = true,
            next = events.next() => is_over = next?.is_none(),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    #[test]
    fn a_line_says_where_a_job_is_and_what_came_of_it() {
        let mut job = samples::job("job_1", JobStatus::Queued);
        assert_eq!(line(&job), "job_1 queued");
        job.status = JobStatus::Failed;
        job.assigned_host_id = skyclaw_proto::HostId::parse("h1").ok();
        job.attempts = 2;
        job.result = Some(samples::result(3));
        job.error = Some("exited with 3".into());
        assert_eq!(line(&job), "job_1 failed h1, attempt 2, exit code 3: exited with 3");
    }
}
