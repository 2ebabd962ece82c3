//! How long each lease has left, on the leader's monotonic clock.
//!
//! The replicated record says when a lease ends by the wall clock, for people; what decides is counted
//! here, so a clock that jumps neither ends a lease early nor keeps it for ever. Renewals are soft:
//! they move a deadline here and reach the record only when half of what it says has passed.
//!
//! A new leader starts every lease anew, with one full period ([`Leases::restart`]).

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use skyclaw_core::LeaseRef;
use skyclaw_proto::{HostId, JobId};

/// How much longer than it lasts a lease is waited for: host and leader count the same seconds, but not with
/// the same crystal. This is the only margin on this side. The host counts from when it sent what the leader
/// counts from having taken in, and stops a run well before the end of what it counts.
fn margin(period: Duration) -> Duration {
    Duration::from_millis(250) + period / 100
}

#[derive(Debug)]
struct Held {
    fence: u64,
    host: HostId,
    deadline: Instant,
    /// When the record last learned how long the lease lasts.
    recorded: Instant,
    renewed_since: bool,
    /// It ran out; the command that says so is on its way.
    over: bool,
}

/// All leases and their deadlines.
#[derive(Debug)]
pub(crate) struct Leases {
    period: Duration,
    held: HashMap<JobId, Held>,
    deadlines: BTreeSet<(Instant, JobId)>,
    /// Those whose record should be brought up to date.
    stale_records: BTreeSet<JobId>,
}

impl Leases {
    pub(crate) fn new(period: Duration) -> Self {
        Self { period, held: HashMap::new(), deadlines: BTreeSet::new(), stale_records: BTreeSet::new() }
    }

    /// How long a lease is waited for that begins now and is never renewed.
    pub(crate) fn whole(&self) -> Duration {
        self.period + margin(self.period)
    }

    /// A lease began.
    pub(crate) fn begin(&mut self, job: JobId, fence: u64, host: HostId, now: Instant) {
        self.end(&job);
        let deadline = now + self.period + margin(self.period);
        self.deadlines.insert((deadline, job.clone()));
        self.held
            .insert(job, Held { fence, host, deadline, recorded: now, renewed_since: false, over: false });
    }

    /// A lease is over.
    pub(crate) fn end(&mut self, job: &JobId) {
        if let Some(held) = self.held.remove(job) {
            self.deadlines.remove(&(held.deadline, job.clone()));
            self.stale_records.remove(job);
        }
    }

    /// Starts all leases anew.
    pub(crate) fn restart(&mut self, all: impl IntoIterator<Item = (JobId, u64, HostId)>, now: Instant) {
        *self = Self::new(self.period);
        for (job, fence, host) in all {
            self.begin(job, fence, host, now);
        }
    }

    /// A host named a run as its own. False when it holds no such lease, or held it too long.
    pub(crate) fn renew(&mut self, host: &HostId, job: &JobId, fence: u64, now: Instant) -> bool {
        let Some(held) = self.held.get_mut(job) else { return false };
        if held.fence != fence || held.host != *host || held.over || held.deadline <= now {
            return false;
        }
        let deadline = now + self.period + margin(self.period);
        self.deadlines.remove(&(held.deadline, job.clone()));
        self.deadlines.insert((deadline, job.clone()));
        held.deadline = deadline;
        held.renewed_since = true;
        if now.duration_since(held.recorded) > self.period / 2 {
            self.stale_records.insert(job.clone());
        }
        true
    }

    /// The leases that ran out, at most `limit`. They are named again each time until they are over,
    /// and cannot be renewed any more.
    pub(crate) fn run_out(&mut self, now: Instant, limit: usize) -> Vec<LeaseRef> {
        let mut all = Vec::new();
        for (_, job) in self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now).take(limit) {
            if let Some(held) = self.held.get_mut(job) {
                held.over = true;
                all.push(LeaseRef { job: job.clone(), fence: held.fence });
            }
        }
        all
    }

    /// The renewed leases whose record should learn of it, at most `limit`. Each is named once.
    pub(crate) fn take_unrecorded(&mut self, now: Instant, limit: usize) -> Vec<LeaseRef> {
        let mut all = Vec::new();
        while all.len() < limit {
            let Some(job) = self.stale_records.pop_first() else { break };
            if let Some(held) = self.held.get_mut(&job).filter(|held| held.renewed_since && !held.over) {
                held.recorded = now;
                held.renewed_since = false;
                all.push(LeaseRef { job, fence: held.fence });
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(60);

    fn job() -> JobId {
        JobId::parse("j").expect("an id")
    }

    fn host(name: &str) -> HostId {
        HostId::parse(name).expect("an id")
    }

    fn one_lease(start: Instant) -> Leases {
        let mut leases = Leases::new(PERIOD);
        leases.begin(job(), 7, host("a"), start);
        leases
    }

    #[test]
    fn a_lease_runs_out_after_its_period_and_a_margin() {
        let start = Instant::now();
        let mut leases = one_lease(start);
        assert!(leases.run_out(start + PERIOD, 10).is_empty(), "the margin is waited out");
        let late = start + PERIOD + margin(PERIOD);
        assert_eq!(leases.run_out(late, 10), [LeaseRef { job: job(), fence: 7 }]);
        assert_eq!(leases.run_out(late, 10).len(), 1, "named again until it is over");
        leases.end(&job());
        assert!(leases.run_out(late, 10).is_empty());
    }

    #[test]
    fn a_renewed_lease_lasts_a_period_longer() {
        let start = Instant::now();
        let mut leases = one_lease(start);
        let later = start + Duration::from_secs(50);
        assert!(leases.renew(&host("a"), &job(), 7, later));
        assert!(leases.run_out(start + PERIOD + margin(PERIOD), 10).is_empty());
        assert_eq!(leases.run_out(later + PERIOD + margin(PERIOD), 10).len(), 1);
    }

    #[test]
    fn only_the_holder_of_this_very_lease_renews_it() {
        let start = Instant::now();
        let mut leases = one_lease(start);
        assert!(!leases.renew(&host("b"), &job(), 7, start));
        assert!(!leases.renew(&host("a"), &job(), 6, start));
        assert!(leases.renew(&host("a"), &job(), 7, start));
    }

    #[test]
    fn a_lease_that_ran_out_is_not_renewed_even_before_it_is_recorded_as_over() {
        let start = Instant::now();
        let mut leases = one_lease(start);
        let late = start + PERIOD + margin(PERIOD);
        assert!(!leases.renew(&host("a"), &job(), 7, late), "too late, whoever looked first");
        leases.run_out(late, 10);
        assert!(!leases.renew(&host("a"), &job(), 7, start), "named as run out is final");
    }

    #[test]
    fn a_record_is_brought_up_to_date_once_half_of_what_it_says_has_passed() {
        let start = Instant::now();
        let mut leases = one_lease(start);
        leases.renew(&host("a"), &job(), 7, start + PERIOD / 4);
        assert!(leases.take_unrecorded(start + PERIOD / 4, 10).is_empty());
        let late = start + PERIOD * 3 / 4;
        leases.renew(&host("a"), &job(), 7, late);
        assert_eq!(leases.take_unrecorded(late, 10).len(), 1);
        assert!(leases.take_unrecorded(late, 10).is_empty(), "once");
    }

    #[test]
    fn a_new_leader_gives_every_lease_a_full_period() {
        let start = Instant::now();
        let mut leases = one_lease(start);
        let takeover = start + Duration::from_secs(59);
        leases.restart([(job(), 7, host("a"))], takeover);
        assert!(leases.run_out(takeover + PERIOD, 10).is_empty());
        assert_eq!(leases.run_out(takeover + PERIOD + margin(PERIOD), 10).len(), 1);
    }
}
