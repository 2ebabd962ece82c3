//! Waiting for a job: a spinner for whoever watches, its output at the end, Ctrl-C that leaves it alone.

use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use skyclaw_client::Client;
use skyclaw_proto::record::Job;
use skyclaw_proto::{JobId, JobStatus};

use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{self, Format, Table};

/// Waits for the end of a job, prints what it wrote, and gives the exit code that says how it went.
pub(crate) async fn until_end(client: &Client, id: JobId, context: &Context<'_>) -> Result<Exit, Error> {
    // Both are cancel safe.
    let job = tokio::select! {
        job = watch(client, id.clone(), context) => job?,
        _ = tokio::signal::ctrl_c() => {
            return Ok(interrupted(&id));
        }
    };
    show(&job, context)?;
    Ok(Exit::of_job(&job))
}

/// What is said when somebody does not want to wait any more.
pub(crate) fn interrupted(id: &JobId) -> Exit {
    output::say(&format!(
        "{id} goes on without this command: `skyctl job wait {id}` waits again, `skyctl job cancel {id}` stops it"
    ));
    Exit::Interrupted
}

/// Says how a job ended whose output was shown, and gives the exit code that says it too.
pub(crate) fn tell_end(job: &Job, context: &Context<'_>) -> Exit {
    if job.status != JobStatus::Completed || context.out.watched {
        output::say(&summary(job));
    }
    Exit::of_job(job)
}

async fn watch(client: &Client, id: JobId, context: &Context<'_>) -> Result<Job, Error> {
    let spinner = spinner(context.out.watched);
    let mut watch = client.watch_job(id.clone());
    loop {
        let job = watch.next().await?;
        if job.status.is_finished() || job.status == JobStatus::Lost {
            spinner.finish_and_clear();
            return Ok(job);
        }
        let host = job.assigned_host_id.as_ref().map(|host| format!(" by {host}")).unwrap_or_default();
        spinner.set_message(format!("{id} {}{host}", job.status));
    }
}

fn spinner(watched: bool) -> ProgressBar {
    if !watched {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

/// What the job wrote, each stream to its own; the record itself when a format was asked for.
fn show(job: &Job, context: &Context<'_>) -> Result<(), Error> {
    if context.out.format != Format::Table {
        return context.out.show(job, Table::default);
    }
    if let Some(result) = &job.result {
        output::print(result.stdout.as_bytes())?;
        // Whoever closed stderr does not want it.
        let _ = std::io::stderr().write_all(result.stderr.as_bytes());
    }
    if job.status != JobStatus::Completed || context.out.watched {
        output::say(&summary(job));
    }
    Ok(())
}

fn summary(job: &Job) -> String {
    let mut text = format!("{} {}", job.id, job.status);
    if let Some(result) = &job.result {
        text.push_str(&format!(" with exit code {} after {}ms", result.exit_code, result.duration_ms));
    }
    if let Some(error) = &job.error {
        text.push_str(&format!(": {error}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    #[test]
    fn the_summary_says_how_it_ended_and_why() {
        let mut job = samples::job("job_1", JobStatus::Failed);
        job.result = Some(samples::result(126));
        job.error = Some("command not allowed: rm".into());
        assert_eq!(summary(&job), "job_1 failed with exit code 126 after 12ms: command not allowed: rm");
        assert_eq!(summary(&samples::job("job_2", JobStatus::Cancelled)), "job_2 cancelled");
    }
}
