//! Which leases this host holds, and until when it can be sure of each.
//!
//! Time is passed in. A lease is counted from when the request that gave or renewed it was *sent*: the
//! coordinator cannot have counted from any earlier, so it cannot run out there before it does here.
//!
//! ```text
//! sent ──────────────────────────────────── stop_at ── grace ── margin ── held_until
//!        sure of it: runs, and is renewed      │ stopped, killed            │ may be another's
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use skyclaw_exec::BootTime;
use skyclaw_proto::JobId;
use skyclaw_proto::record::Job;
use skyclaw_proto::request::RunningJob;
use tokio::time::Instant;

/// Longest time between the last moment a run can be killed and the end of its lease.
const MAX_MARGIN: Duration = Duration::from_secs(5);
/// However short a lease, heartbeats are no closer than this.
const MIN_INTERVAL: Duration = Duration::from_millis(50);

/// A lease as a claim gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Its fencing token.
    pub(crate) fence: u64,
    /// How long it lasts from each renewal.
    pub(crate) length: Duration,
    /// When the claim was first sent.
    pub(crate) since: Instant,
    /// The same moment, or an earlier one, on the clock that shims go by.
    pub(crate) boot: BootTime,
    /// How long the run under it may take to stop.
    pub(crate) grace: Duration,
}

impl Lease {
    /// The lease of a claimed job, its length told by the coordinator's clock alone; `wanted` is how long its
    /// run may take to stop, as far as the lease is long enough for that. `None` from a coordinator that renews
    /// no leases, as the reference.
    pub(crate) fn of(job: &Job, since: Instant, boot: BootTime, wanted: Duration) -> Option<Self> {
        let length = job.lease_expires_at?.since(job.updated_at);
        Some(Self { fence: job.fence?, length, since, boot, grace: wanted.min(length / 4) })
    }

    /// How long before its end nothing of a run may be left.
    pub(crate) fn margin(&self) -> Duration {
        (self.length / 6).min(MAX_MARGIN)
    }

    /// How long after each renewal a run is stopped that was not renewed again.
    pub(crate) fn stop_after(&self) -> Duration {
        self.length.saturating_sub(self.margin() + self.grace)
    }

    fn stop_at(&self) -> Instant {
        self.since + self.stop_after()
    }

    /// The lease of a run that is stopped so long after each renewal.
    pub(crate) fn found(
        fence: u64,
        length: Duration,
        stop_after: Duration,
        since: Instant,
        boot: BootTime,
    ) -> Self {
        let lease = Self { fence, length, since, boot, grace: Duration::ZERO };
        Self { grace: length.saturating_sub(lease.margin() + stop_after), ..lease }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not started: it is not sure that the lease is still held.
    Waiting,
    Running,
    /// Being stopped for want of a renewal, and not renewed any more.
    GivenUp,
}

#[derive(Debug)]
struct Held {
    lease: Option<Lease>,
    phase: Phase,
}

/// All jobs of this host that are not over, by id.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    held: BTreeMap<JobId, Held>,
}

impl Leases {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Takes in a claimed job and says whether it may start now, or only once its lease was renewed.
    pub(crate) fn insert(&mut self, job: JobId, lease: Option<Lease>, now: Instant) -> bool {
        let sure = lease.is_none_or(|lease| now < lease.stop_at());
        let phase = if sure { Phase::Running } else { Phase::Waiting };
        self.held.insert(job, Held { lease, phase });
        sure
    }

    /// A job that is over, or not this host's any more.
    pub(crate) fn remove(&mut self, job: &JobId) {
        self.held.remove(job);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.held.len()
    }

    /// Those whose leases the next heartbeat is to renew.
    pub(crate) fn to_renew(&self) -> Vec<RunningJob> {
        let wanted = self.held.iter().filter(|(_, held)| held.phase != Phase::GivenUp);
        wanted
            .filter_map(|(id, held)| Some(RunningJob { job_id: id.clone(), fence: held.lease?.fence }))
            .collect()
    }

    /// Whether the job is held under this very lease.
    pub(crate) fn holds(&self, job: &RunningJob) -> bool {
        let lease = self.held.get(&job.job_id).and_then(|held| held.lease);
        lease.is_some_and(|lease| lease.fence == job.fence)
    }

    /// A heartbeat sent at `sent` renewed this lease. Says whether a job that waited may start.
    pub(crate) fn renew(&mut self, job: &RunningJob, sent: Instant) -> bool {
        let Some(Held { lease: Some(lease), phase }) = self.held.get_mut(&job.job_id) else { return false };
        if lease.fence != job.fence || *phase == Phase::GivenUp {
            return false;
        }
        lease.since = lease.since.max(sent);
        std::mem::replace(phase, Phase::Running) == Phase::Waiting
    }

    /// Until when the shim of a run may let it go on after a heartbeat sent at `sent` renewed its lease.
    pub(crate) fn deadline(&self, job: &RunningJob, sent: BootTime) -> Option<BootTime> {
        let held = self.held.get(&job.job_id).filter(|held| held.phase != Phase::GivenUp)?;
        let lease = held.lease.filter(|lease| lease.fence == job.fence)?;
        Some(sent.after(lease.stop_after()))
    }

    /// Gives up the runs whose leases cannot be relied on any longer; they must be stopped.
    pub(crate) fn give_up(&mut self, now: Instant) -> Vec<JobId> {
        let due: Vec<JobId> =
            self.running().filter(|(_, at)| *at <= now).map(|(job, _)| job.clone()).collect();
        for job in &due {
            if let Some(held) = self.held.get_mut(job) {
                held.phase = Phase::GivenUp;
            }
        }
        due
    }

    /// When the next run will have to be given up.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        self.running().map(|(_, at)| at).min()
    }

    /// Whether a heartbeat must be sent and answered at once: a job waits for it, or a run might have to be
    /// given up before the next but one is answered.
    pub(crate) fn is_urgent(&self, now: Instant, interval: Duration) -> bool {
        let waiting = self.held.values().any(|held| held.phase == Phase::Waiting);
        waiting || self.next_end().is_some_and(|end| end <= now + 2 * interval)
    }

    fn running(&self) -> impl Iterator<Item = (&JobId, Instant)> {
        self.held.iter().filter(|(_, held)| held.phase == Phase::Running).filter_map(|(job, held)| {
            let lease = held.lease.as_ref()?;
            Some((job, lease.stop_at()))
        })
    }

    /// How often heartbeats must be sent: as configured, or more often when a lease is short.
    pub(crate) fn interval(&self, configured: Duration) -> Duration {
        let shortest = self.held.values().filter_map(|held| held.lease).map(|lease| lease.length / 6).min();
        shortest.map_or(configured, |short| configured.min(short.max(MIN_INTERVAL)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    fn job(text: &str) -> JobId {
        JobId::parse(text).expect("an id")
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn minute(fence: u64, since: Instant) -> Option<Lease> {
        Some(Lease { fence, length: secs(60), since, boot: BootTime::now(), grace: GRACE })
    }

    #[test]
    fn a_lease_that_is_not_renewed_is_given_up_in_time_to_stop_the_run() {
        let start = Instant::now();
        let mut leases = Leases::new();
        assert!(leases.insert(job("a"), minute(1, start), start + secs(25)));
        assert_eq!(leases.next_end(), Some(start + secs(50)));
        assert!(leases.give_up(start + secs(49)).is_empty());
        assert_eq!(leases.give_up(start + secs(50)), [job("a")]);
        assert!(leases.give_up(start + secs(51)).is_empty(), "it is stopped once");
        assert!(leases.to_renew().is_empty());
        assert!(!leases.renew(&RunningJob { job_id: job("a"), fence: 1 }, start + secs(51)));
        assert_eq!(leases.count(), 1);
    }

    #[test]
    fn a_renewal_counts_from_when_it_was_sent_and_never_shortens() {
        let start = Instant::now();
        let mut leases = Leases::new();
        leases.insert(job("a"), minute(7, start), start);
        let named = leases.to_renew();
        assert_eq!(named, [RunningJob { job_id: job("a"), fence: 7 }]);
        leases.renew(&named[0], start + secs(20));
        assert_eq!(leases.next_end(), Some(start + secs(70)));
        leases.renew(&named[0], start + secs(10));
        assert_eq!(leases.next_end(), Some(start + secs(70)));
        leases.renew(&RunningJob { job_id: job("a"), fence: 6 }, start + secs(40));
        assert_eq!(leases.next_end(), Some(start + secs(70)), "another lease's renewal is not this one's");
    }

    #[test]
    fn a_shim_may_let_a_run_go_on_until_grace_and_margin_before_the_end_of_the_lease() {
        let start = Instant::now();
        let mut leases = Leases::new();
        leases.insert(job("a"), minute(7, start), start);
        let (named, sent) = (leases.to_renew(), BootTime::now());
        assert_eq!(leases.deadline(&named[0], sent), Some(sent.after(secs(50))));
        assert_eq!(leases.deadline(&RunningJob { job_id: job("a"), fence: 6 }, sent), None);
        leases.give_up(start + secs(50));
        assert_eq!(leases.deadline(&named[0], sent), None, "what is given up is not renewed");
    }

    #[test]
    fn a_run_has_the_grace_that_its_job_asked_for_at_first_and_after_each_renewal() {
        let start = Instant::now();
        let mut leases = Leases::new();
        for (name, grace) in [("quick", secs(1)), ("usual", GRACE)] {
            let lease = Lease { grace, ..minute(7, start).expect("a lease") };
            leases.insert(job(name), Some(lease), start);
        }
        assert_eq!(leases.next_end(), Some(start + secs(50)));
        let sent = BootTime::now();
        let until = |leases: &Leases, name| {
            leases.deadline(&RunningJob { job_id: job(name), fence: 7 }, sent).expect("a deadline")
        };
        assert_eq!(
            (until(&leases, "quick"), until(&leases, "usual")),
            (sent.after(secs(54)), sent.after(secs(50)))
        );
        assert_eq!(leases.give_up(start + secs(50)), [job("usual")]);
        assert_eq!(leases.next_end(), Some(start + secs(54)));
        // The daemon that finds the run goes by it as well.
        let lease = Lease { grace: secs(1), ..minute(7, start).expect("a lease") };
        assert_eq!(Lease::found(7, lease.length, lease.stop_after(), start, lease.boot), lease);
    }

    #[test]
    fn a_job_whose_claim_was_answered_late_starts_only_after_a_renewal() {
        let start = Instant::now();
        let mut leases = Leases::new();
        let late = start + secs(55);
        assert!(!leases.insert(job("a"), minute(1, start), late));
        assert_eq!((leases.next_end(), leases.give_up(late + secs(60))), (None, vec![]));
        let named = leases.to_renew();
        assert!(leases.is_urgent(late, Duration::ZERO));
        assert!(leases.renew(&named[0], late), "it may start now");
        assert!(!leases.renew(&named[0], late), "and is not started twice");
        assert_eq!(leases.next_end(), Some(late + secs(50)));
    }

    #[test]
    fn a_short_lease_shortens_grace_and_interval() {
        let start = Instant::now();
        let mut leases = Leases::new();
        assert_eq!(leases.interval(secs(5)), secs(5));
        let job_of = |seconds: i64| {
            serde_json::from_value(serde_json::json!({
                "id": "a", "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z",
                "leaseExpiresAt": format!("2026-01-01T00:00:{seconds}Z"), "updatedBy": "n", "version": 2,
                "status": "leased", "attempts": 1, "fence": 1, "payload": { "kind": "shell", "command": "sh" },
            }))
            .expect("a job")
        };
        let lease = Lease::of(&job_of(12), start, BootTime::now(), GRACE).expect("a lease");
        assert_eq!(lease.grace, secs(3));
        leases.insert(job("a"), Some(lease), start);
        assert_eq!(leases.interval(secs(5)), secs(2));
        assert!(!leases.is_urgent(start + secs(2), secs(2)), "the usual pace is enough");
        assert!(leases.is_urgent(start + secs(3), secs(2)));
        assert_eq!(leases.next_end(), Some(start + secs(12 - 3 - 2)));
    }

    #[test]
    fn a_job_of_a_coordinator_without_fences_is_counted_and_left_alone() {
        let start = Instant::now();
        let mut leases = Leases::new();
        assert!(leases.insert(job("a"), None, start));
        assert_eq!((leases.count(), leases.to_renew().len(), leases.next_end()), (1, 0, None));
        leases.remove(&job("a"));
        assert_eq!(leases.count(), 0);
    }
}
