//! What is written on a run, so that a daemon that finds it knows what it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use skyclaw_exec::{BootTime, Deadline};
use skyclaw_proto::record::Job;
use skyclaw_proto::{JobId, ServiceId};
use tokio::time::Instant;

use crate::leases::Lease;
use crate::stopping::Why;

/// The label of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Ticket {
    /// It is a job's.
    Job(JobTicket),
    /// It is a service's.
    Service(ServiceTicket),
}

/// A job, as far as its run and its outcome go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JobTicket {
    pub(crate) job: JobId,
    pub(crate) attempt: u64,
    pub(crate) fence: Option<u64>,
    /// How long its lease lasts from each renewal, in milliseconds.
    lease_ms: Option<u64>,
    /// How long after each renewal the run is stopped, in milliseconds.
    stop_after_ms: Option<u64>,
}

/// A service that runs here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceTicket {
    pub(crate) service: ServiceId,
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl Ticket {
    /// Reads a label. One that a later version wrote may be none that this one knows.
    pub(crate) fn read(label: &serde_json::Value) -> Option<Self> {
        serde_json::from_value(label.clone()).ok()
    }

    /// As a label.
    pub(crate) fn label(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl JobTicket {
    /// The ticket of a claimed job.
    pub(crate) fn new(job: &Job, lease: Option<&Lease>) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            job: job.id.clone(),
            attempt: u64::from(job.attempts),
            fence: job.fence,
            lease_ms: lease.map(|lease| millis(lease.length)),
            stop_after_ms: lease.map(|lease| millis(lease.stop_after())),
        }
    }

    /// The lease that a run which is stopped at `deadline` is held under.
    pub(crate) fn lease(&self, deadline: Option<BootTime>) -> Option<Lease> {
        let boot = deadline?.before(Duration::from_millis(self.stop_after_ms?));
        let (now, so_long) = (Instant::now(), BootTime::now().since(boot));
        // A clock that stood still while the machine slept may not reach back so far; the shim goes by the
        // other one.
        let since = now.checked_sub(so_long).unwrap_or(now);
        let (length, stop_after) =
            (Duration::from_millis(self.lease_ms?), Duration::from_millis(self.stop_after_ms?));
        Some(Lease::found(self.fence?, length, stop_after, since, boot))
    }
}

/// When the shim of a run under a lease stops it by itself.
pub(crate) fn deadline(lease: &Lease, renewed: Option<BootTime>) -> Deadline {
    let claimed = lease.boot.after(lease.stop_after());
    Deadline {
        at: renewed.map_or(claimed, |renewed| renewed.max(claimed)),
        slack: lease.margin(),
        why: Why::NotRenewed.text().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_found_again_by_the_deadline_of_its_run() {
        let job: Job = serde_json::from_value(serde_json::json!({
            "id": "job_1", "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z",
            "leaseExpiresAt": "2026-01-01T00:01:00Z", "updatedBy": "node-a", "version": 2, "status": "leased",
            "attempts": 2, "fence": 7, "payload": { "kind": "shell", "command": "sh" },
        }))
        .expect("a job");
        let grace = Duration::from_secs(5);
        let lease = Lease::of(&job, Instant::now(), BootTime::now(), grace).expect("a lease");
        let ticket = JobTicket::new(&job, Some(&lease));
        let Some(Ticket::Job(read)) = Ticket::read(&Ticket::Job(ticket.clone()).label()) else {
            panic!("a job's ticket");
        };
        assert_eq!(read, ticket);
        let found = read.lease(Some(deadline(&lease, None).at)).expect("a lease");
        assert_eq!(
            (found.fence, found.length, found.boot, found.grace),
            (7, lease.length, lease.boot, grace)
        );
        assert!(found.since <= Instant::now());
        assert_eq!(read.lease(None), None);
    }

    #[test]
    fn tickets_of_this_version_stay_readable() {
        for label in [
            r#"{"job":{"job":"job_1","attempt":1,"fence":7,"leaseMs":60000,"stopAfterMs":50000,"more":1}}"#,
            r#"{"job":{"job":"job_1","attempt":1,"fence":null,"leaseMs":null,"stopAfterMs":null}}"#,
            r#"{"service":{"service":"svc_1","name":"api","port":3100}}"#,
        ] {
            let label = serde_json::from_str(label).expect("json");
            assert!(Ticket::read(&label).is_some(), "{label}");
        }
    }
}
