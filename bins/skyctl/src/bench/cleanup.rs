//! What a bench takes away again: its jobs that have not ended, and its hosts. Nothing of anybody else's.

use std::sync::atomic::Ordering;

use futures_util::{StreamExt, stream};
use serde::Serialize;
use skyclaw_client::{Client, Error as ClientError, JobFilter};
use skyclaw_proto::limits::MAX_PAGE;
use skyclaw_proto::{ErrorCode, HostId, JobStatus};

use super::load::{LABEL, Load};
use crate::output::say;

/// Requests at once.
const AT_ONCE: usize = 32;

/// What could not be taken away.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Left {
    /// About how many jobs that have not ended.
    jobs: u64,
    hosts: u64,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Whether this coordinator has no way of removing hosts, so that it is nobody's fault.
    #[serde(skip_serializing_if = "is_false")]
    unremovable: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Left {
    /// Everything, as nothing was tried.
    pub(super) fn all(load: &Load) -> Self {
        let open = load.accepted.load(Ordering::SeqCst).saturating_sub(load.completed.load(Ordering::SeqCst));
        let reason = Some("it was told to end at once".to_owned());
        Self { jobs: open, hosts: load.plan.hosts as u64, reason, unremovable: false }
    }

    /// Whether everything is gone that can go.
    pub(super) fn is_nothing(&self) -> bool {
        self.jobs == 0 && (self.hosts == 0 || self.unremovable)
    }

    pub(super) fn explain(&self, run: &str) {
        if self.jobs > 0 {
            say(&format!(
                "warning: {} jobs are left: skyctl job list --label {LABEL}={run} finds them",
                self.jobs
            ));
        }
        if self.unremovable {
            say(&format!(
                "note: this coordinator forgets no hosts: {} whose ids begin with {run} stay",
                self.hosts
            ));
        } else if self.hosts > 0 {
            say(&format!("warning: {} hosts whose ids begin with {run} are left", self.hosts));
        }
        if let Some(reason) = &self.reason {
            say(&format!("what is left is left because {reason}"));
        }
    }

    fn because(&mut self, error: &ClientError) {
        self.reason.get_or_insert_with(|| error.to_string());
    }
}

/// Takes away what is left of a bench.
pub(super) async fn clean_up(load: &Load, client: &Client, hosts: &[HostId]) -> Left {
    let mut left = Left::default();
    call_off(load, client, hosts, &mut left).await;
    remove(client, hosts, &mut left).await;
    left
}

/// Calls off what has not ended. One page after the other: what was called off is on none any more.
async fn call_off(load: &Load, client: &Client, hosts: &[HostId], left: &mut Left) {
    let of_ours = |status| JobFilter {
        status: Some(status),
        labels: vec![(LABEL.to_owned(), load.run.clone())],
        limit: Some(MAX_PAGE),
        ..JobFilter::default()
    };
    loop {
        let jobs = match client.jobs(&of_ours(JobStatus::Queued), None).await {
            Ok(page) => page.jobs,
            Err(error) if is_lacking(&error) => return run_dry(load, hosts, left).await,
            Err(error) => {
                left.jobs = unsettled(load);
                return left.because(&error);
            }
        };
        if jobs.is_empty() {
            break;
        }
        let cancels = jobs.iter().map(|job| client.cancel_job(&job.id));
        let failed: Vec<_> = stream::iter(cancels)
            .buffer_unordered(AT_ONCE)
            .filter_map(|done| async { done.err() })
            .collect()
            .await;
        if failed.len() == jobs.len() {
            let Some(error) = failed.iter().find(|error| !has_ended(error)) else { break };
            left.jobs = unsettled(load);
            return left.because(error);
        }
    }
    // Given to a host whose claim was never answered: it ends with its lease, and is not given again.
    if let Ok(page) = client.jobs(&of_ours(JobStatus::Leased), None).await {
        for job in &page.jobs {
            if let Err(error) = client.cancel_job(&job.id).await
                && !has_ended(&error)
            {
                left.jobs += 1;
                left.because(&error);
            }
        }
    }
}

/// Whether the job ended before it could be called off: a list may be a moment behind, as those of coordinators that do
/// not lead are.
fn has_ended(error: &ClientError) -> bool {
    error.code() == Some(ErrorCode::JobFinished)
}

fn unsettled(load: &Load) -> u64 {
    load.accepted.load(Ordering::SeqCst).saturating_sub(load.settled.load(Ordering::SeqCst))
}

/// Where no job can be called off, the hosts claim and complete what is left. Bounded: a queued job is claimed
/// once, and the first host that finds nothing or fails ends.
async fn run_dry(load: &Load, hosts: &[HostId], left: &mut Left) {
    let dry = hosts.iter().take(AT_ONCE).enumerate().map(|(worker, id)| async move {
        while let Some((Some(job), _)) = load.claim(worker, id, std::time::Duration::ZERO).await {
            if !load.settle(worker, id, &job).await {
                break;
            }
        }
    });
    stream::iter(dry).buffer_unordered(AT_ONCE).for_each(|()| async {}).await;
    left.jobs = unsettled(load);
}

async fn remove(client: &Client, hosts: &[HostId], left: &mut Left) {
    let removals = hosts.iter().map(|id| async move { (id, client.remove_host(id, true).await) });
    let mut removals = stream::iter(removals).buffer_unordered(AT_ONCE);
    while let Some((id, removed)) = removals.next().await {
        match removed {
            Ok(_) => {}
            Err(error) if is_unknown(&error, id) => {}
            Err(error) => {
                left.hosts += 1;
                left.unremovable |= is_lacking(&error);
                if !is_lacking(&error) {
                    left.because(&error);
                }
            }
        }
    }
}

/// Whether the coordinator has no such route.
fn is_lacking(error: &ClientError) -> bool {
    error.is_not_found() || error.status() == Some(405)
}

/// Whether it is the host that is not there, rather than the route.
fn is_unknown(error: &ClientError, id: &HostId) -> bool {
    matches!(error, ClientError::Refused { body, .. } if body.error == format!("unknown host: {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_ended_before_it_could_be_called_off_is_not_left() {
        let refused = |text| {
            let body = serde_json::from_str(text).expect("an error");
            ClientError::Refused { status: 409, body, request_id: "r".into() }
        };
        let ended = r#"{"error":"job j has already ended: completed","code":"job_finished"}"#;
        assert!(has_ended(&refused(ended)));
        assert!(!has_ended(&refused(r#"{"error":"job j is not leased","code":"not_assigned"}"#)));
        assert!(!has_ended(&refused(r#"{"error":"job j has already ended: completed"}"#)));
    }
}
