//! Leases that are renewed, run out, or are over.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use skyclaw_proto::{HostId, JobId};

use super::Draft;
use crate::command::LeaseRef;
use crate::model::{EndStatus, Ended, Job, Lease, Phase};
use crate::outcome::{Effect, Reply};

impl Draft<'_> {
    /// Those that are over already are passed by. Nobody is told: the leader that asks for this counts the
    /// time itself, and must not begin anew for a renewal it heard of some time ago.
    pub(super) fn renew_leases(&mut self, leases: &[LeaseRef], lease_ms: u64) -> Reply {
        let expires_at = self.stamp.at.plus(Duration::from_millis(lease_ms));
        for named in leases {
            let Some((job, lease)) = self.current(named) else { continue };
            let lease = Lease { expires_at: expires_at.max(lease.expires_at), ..lease };
            self.put_job(Job { phase: Phase::Leased(lease), ..(*job).clone() });
        }
        Reply::Done
    }

    /// A job whose lease ran out is lost, and goes the way it says ([`Draft::lose`]); one that was called off
    /// has ended.
    pub(super) fn expire_leases(&mut self, leases: &[LeaseRef]) -> Reply {
        let mut hosts = BTreeSet::new();
        for named in leases {
            let Some((job, lease)) = self.current(named) else { continue };
            if lease.cancel_requested_at.is_some() {
                let error = Some("the host was lost before it confirmed that the run was stopped".to_owned());
                let host = Some(lease.host);
                self.end(&job, Ended { status: EndStatus::Cancelled, host, run: None, error });
                continue;
            }
            let why = format!("its host {} was lost: the lease ran out", lease.host);
            self.lose((*job).clone(), &lease.host, "lease_expired", &why, None);
            self.effects.push(Effect::LeaseOver { job: named.job.clone() });
            hosts.insert(lease.host);
        }
        for host in &hosts {
            self.recount(host);
            self.effects.push(Effect::HostChanged { host: host.clone() });
        }
        Reply::Done
    }

    /// What follows when a host holds a lease no more.
    pub(super) fn lease_over(&mut self, job: &JobId, host: &HostId) {
        self.recount(host);
        self.effects.push(Effect::LeaseOver { job: job.clone() });
        self.effects.push(Effect::HostChanged { host: host.clone() });
    }

    fn current(&self, named: &LeaseRef) -> Option<(Arc<Job>, Lease)> {
        let job = self.state.jobs.get(&named.job).filter(|job| job.fence == named.fence)?;
        let lease = job.lease()?.clone();
        Some((Arc::clone(job), lease))
    }
}
