//! What the daemon acknowledged, and whether it still stands by it.

use std::collections::{BTreeMap, BTreeSet};

use skyclaw_tests::mesh::id;
use skyclaw_tests::{Value, Wire};

/// An acknowledged job.
#[derive(Debug)]
pub(super) struct Enqueued {
    pub(super) marker: String,
    pub(super) id: String,
}

/// An acknowledged completion.
#[derive(Debug)]
pub(super) struct Completed {
    pub(super) job: String,
    pub(super) stdout: String,
}

/// What clients were told in one round.
#[derive(Debug, Default)]
pub(super) struct Events {
    pub(super) enqueued: Vec<Enqueued>,
    /// Job and host.
    pub(super) claimed: Vec<(String, String)>,
    pub(super) completed: Vec<Completed>,
    /// Markers of jobs without a key and without an answer: they may or may not be there, but not twice.
    pub(super) perhaps: Vec<String>,
    pub(super) claims_without_answer: usize,
}

impl Events {
    pub(super) fn extend(&mut self, other: Self) {
        self.enqueued.extend(other.enqueued);
        self.claimed.extend(other.claimed);
        self.completed.extend(other.completed);
        self.perhaps.extend(other.perhaps);
        self.claims_without_answer += other.claims_without_answer;
    }
}

/// Everything that was acknowledged so far.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Job by marker.
    jobs: BTreeMap<String, String>,
    perhaps: BTreeSet<String>,
    /// Host by job.
    leases: BTreeMap<String, String>,
    /// Output by job.
    done: BTreeMap<String, String>,
    /// Jobs that the last round touched.
    touched: BTreeSet<String>,
    claims_without_answer: usize,
}

impl Ledger {
    pub(super) fn absorb(&mut self, events: Events) {
        self.touched.clear();
        for Enqueued { marker, id } in events.enqueued {
            self.touched.insert(id.clone());
            assert_eq!(self.jobs.insert(marker.clone(), id), None, "{marker} was acknowledged twice");
        }
        for (job, host) in events.claimed {
            self.touched.insert(job.clone());
            let before = self.leases.insert(job.clone(), host.clone());
            assert_eq!(before, None, "{job} was leased to {host} as well");
        }
        for Completed { job, stdout } in events.completed {
            self.touched.insert(job.clone());
            assert_eq!(self.done.insert(job.clone(), stdout), None, "{job} was completed twice");
        }
        self.perhaps.extend(events.perhaps);
        self.claims_without_answer += events.claims_without_answer;
    }

    /// Checks what the last round made or changed.
    pub(super) fn check_round(&self, wire: &Wire, round: usize, seed: u64) {
        let mut jobs = list(wire, &format!("label=round={round}"));
        let listed: BTreeSet<String> = jobs.iter().map(id).collect();
        jobs.extend(self.touched.difference(&listed).map(|id| wire.job(id)));
        self.check(&jobs, seed);
        let there: BTreeSet<String> = jobs.iter().map(id).collect();
        let lost: Vec<_> = self.touched.difference(&there).collect();
        assert!(lost.is_empty(), "seed {seed}, round {round}: lost {lost:?}");
    }

    /// Checks everything there is.
    pub(super) fn check_all(&self, wire: &Wire, seed: u64) {
        let state = wire.get("/v1/state").ok();
        let jobs = state["jobs"].as_array().expect("jobs");
        self.check(jobs, seed);
        let there: BTreeSet<String> = jobs.iter().map(id).collect();
        let lost: Vec<_> = self.jobs.values().filter(|id| !there.contains(*id)).collect();
        assert!(lost.is_empty(), "seed {seed}: lost {lost:?}");
        let leased = jobs.iter().filter(|job| job["status"] == "leased").count();
        let known = self.leases.len() - self.done.len();
        let allowed = known..=known + self.claims_without_answer;
        assert!(allowed.contains(&leased), "seed {seed}: {leased} leases, not {allowed:?}");
    }

    /// Checks each of `jobs` against what was acknowledged.
    fn check(&self, jobs: &[Value], seed: u64) {
        let mut seen = BTreeSet::new();
        for job in jobs {
            let (id, marker) = (id(job), job["submittedBy"].as_str().expect("a marker"));
            assert!(seen.insert(marker), "seed {seed}: {marker} is there twice: {job}");
            match self.jobs.get(marker) {
                Some(known) => assert_eq!(*known, id, "seed {seed}: {marker} is another job"),
                None => assert!(self.perhaps.contains(marker), "seed {seed}: nobody asked for {job}"),
            }
            let status = job["status"].as_str().expect("a status");
            match (self.done.get(&id), self.leases.get(&id)) {
                (Some(stdout), _) => {
                    assert_eq!(status, "completed", "seed {seed}: a completion was forgotten: {job}");
                    assert_eq!(job["result"]["stdout"], *stdout, "seed {seed}: {job}");
                }
                (None, Some(host)) => {
                    assert_eq!(status, "leased", "seed {seed}: a lease was forgotten: {job}");
                    assert_eq!(job["assignedHostId"], *host, "seed {seed}: {job}");
                }
                // A claim without an answer may have taken it.
                (None, None) => assert!(matches!(status, "queued" | "leased"), "seed {seed}: {job}"),
            }
        }
    }

    pub(super) fn summary(&self) -> String {
        let (jobs, leases, done) = (self.jobs.len(), self.leases.len(), self.done.len());
        let perhaps = self.perhaps.len();
        format!(
            "{jobs} jobs, {leases} leases and {done} completions acknowledged; {perhaps} jobs without answer"
        )
    }
}

/// All jobs that pass a filter.
fn list(wire: &Wire, filter: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let mut page = wire.get(&format!("/v1/jobs?limit=1000&{filter}{cursor}")).ok();
        if let Value::Array(jobs) = page["jobs"].take() {
            all.extend(jobs);
        }
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}
