//! Why a queued job is not running.
//!
//! It is answered from the replicated state alone, so every node that has applied as much says the same. What
//! is found out here decides nothing: it tells people what claims are answered by.

use std::collections::BTreeMap;
use std::time::Duration;

use skyclaw_proto::explanation::{Explanation, Reason as Told, ReasonCode};
use skyclaw_proto::{Capabilities, HostId, JobId};

use crate::model::{Host, Job, Phase};
use crate::standing::Reason;
use crate::state::State;

/// How many jobs or hosts are named at most.
const NAMED: usize = 10;
/// Up to how many jobs that come first are counted.
const COUNTED: usize = 1000;
/// How many different hosts are asked whether a job that comes first could be theirs.
const OFFERS: usize = 64;

impl State {
    /// What keeps a job from running.
    #[must_use]
    pub fn explain(&self, job: &Job) -> Explanation {
        let mut reasons = Vec::new();
        if matches!(job.phase, Phase::Queued) {
            reasons.extend(self.reasons(job).map(|reason| self.told(job, reason)));
            self.explain_claims(job, &mut reasons);
            self.explain_turn(job, &mut reasons);
            let hosts = self.explain_hosts(job, &mut reasons);
            if reasons.is_empty() {
                self.explain_queue(job, &hosts, &mut reasons);
            }
            if reasons.is_empty() {
                let message = "it can be claimed: a host that has room takes it as soon as it asks";
                let told = Told::new(ReasonCode::Claimable, message);
                reasons.push(Told { host_ids: first_ids(&hosts), ..told });
            }
        }
        Explanation { job_id: job.id.clone(), status: job.status(), reasons }
    }

    /// The hosts that could take a job now, as far as the records tell.
    #[must_use]
    pub fn free_hosts(&self, job: &Job) -> Vec<&Host> {
        self.explain_hosts(job, &mut Vec::new())
    }

    /// That of the hosts which could take a job all have kept silent, the one that did so most briefly for this long.
    #[must_use]
    pub fn explain_silence(hosts: &[&Host], silent_for: Duration) -> Told {
        let (host_ids, seconds) = (first_ids(hosts), silent_for.as_secs());
        let message = match hosts.len() {
            1 => {
                let host = list(&host_ids, 1);
                format!("the host {host} could take it and has not been heard of for {seconds} s")
            }
            n => {
                let all = list(&host_ids, n);
                format!("{n} hosts could take it and none has been heard of for {seconds} s: {all}")
            }
        };
        let count = u64::try_from(hosts.len()).ok();
        Told { count, host_ids, ..Told::new(ReasonCode::HostsSilent, message) }
    }

    fn told(&self, job: &Job, reason: Reason) -> Told {
        match reason {
            Reason::NotBefore(until) => {
                let told =
                    Told::new(ReasonCode::NotBefore, format!("it is not to be claimed before {until}"));
                Told { until: Some(until), ..told }
            }
            Reason::Dependencies => {
                let all = job.waits_for();
                let job_ids: Vec<JobId> = all.iter().take(NAMED).cloned().collect();
                let message = match all.len() {
                    1 => format!(
                        "it waits for job {}, which it depends on, to be completed",
                        list(&job_ids, 1)
                    ),
                    n => format!("it waits for {n} jobs that it depends on: {}", list(&job_ids, n)),
                };
                let count = u64::try_from(all.len()).ok();
                Told { count, job_ids, ..Told::new(ReasonCode::Dependencies, message) }
            }
            Reason::Frozen => {
                let freeze = self.freeze_of(job);
                let which = freeze.map_or_else(|| "a freeze".to_owned(), |freeze| freeze.described());
                let told = Told::new(ReasonCode::Frozen, format!("it is frozen by {which}"));
                Told { freeze_id: freeze.map(|freeze| freeze.id.clone()), ..told }
            }
        }
    }

    /// What holds back all claims alike.
    fn explain_claims(&self, job: &Job, reasons: &mut Vec<Told>) {
        let is_told = reasons.iter().any(|reason| reason.code == ReasonCode::Frozen);
        if self.is_all_frozen() && !is_told {
            reasons.push(self.told(job, Reason::Frozen));
        }
        if self.claims_held() {
            let message = "no job is given to anybody for some time after the restore of a snapshot: what ran \
                           before may run still";
            reasons.push(Told::new(ReasonCode::ClaimsHeld, message));
        }
    }

    fn explain_turn(&self, job: &Job, reasons: &mut Vec<Told>) {
        let Some(turn) = job.turn() else { return };
        let running = self.lanes.running(&turn.key);
        let (key, limit) = (job.links().and_then(|links| links.concurrency.as_ref()), turn.limit);
        let key = key.map_or("", |concurrency| &concurrency.key);
        let ahead = self.lanes.ahead(&turn, job, COUNTED + 1);
        let message = match (running >= limit, ahead) {
            (true, 0) => format!(
                "{running} jobs with its concurrency key {key:?} run, and it begins only while fewer than {limit} do"
            ),
            (true, n) => format!(
                "{running} jobs with its concurrency key {key:?} run, it begins only while fewer than {limit} do, \
                 and {} with the key come first",
                jobs(n)
            ),
            (false, 0) => return,
            (false, n) => format!("{} with its concurrency key {key:?} come first", jobs(n)),
        };
        let count = u64::try_from(ahead).ok();
        reasons.push(Told { count, ..Told::new(ReasonCode::Concurrency, message) });
    }

    /// The hosts that could take it now, or why there are none.
    fn explain_hosts<'a>(&'a self, job: &Job, reasons: &mut Vec<Told>) -> Vec<&'a Host> {
        if self.hosts.is_empty() {
            reasons.push(Told::new(ReasonCode::NoHost, "no host is registered"));
            return Vec::new();
        }
        let needs = job.needs();
        let covers = |host: &&Host| self.offers.get(&host.id).is_some_and(|offers| offers.covers(&needs));
        let capable: Vec<&Host> = self.hosts.values().map(|host| &**host).filter(covers).collect();
        if capable.is_empty() {
            reasons.push(self.nobody_can(&needs));
            return Vec::new();
        }
        let mut why: BTreeMap<Obstacle, Vec<&Host>> = BTreeMap::new();
        let mut free = Vec::new();
        for host in capable {
            match Obstacle::of(host) {
                Some(obstacle) => why.entry(obstacle).or_default().push(host),
                None => free.push(host),
            }
        }
        if free.is_empty() {
            reasons.extend(why.iter().map(|(obstacle, hosts)| obstacle.told(hosts)));
        }
        free
    }

    fn nobody_can(&self, needs: &Capabilities) -> Told {
        let by_none = |word: &&std::sync::Arc<str>| {
            let one = Capabilities::new([word.to_string()]);
            !self.offers.values().any(|offers| offers.covers(&one))
        };
        let missing: Vec<String> = needs.iter().filter(by_none).map(|word| readable(word)).collect();
        let message = match missing.as_slice() {
            [] => {
                let all: Vec<_> = needs.iter().map(|word| readable(word)).collect();
                format!("no host has all of what it asks for at once: {}", all.join(", "))
            }
            some => format!("no host has {}", some.join(", ")),
        };
        Told { missing, ..Told::new(ReasonCode::NoCapableHost, message) }
    }

    /// How many jobs come first for the hosts that could take it.
    fn explain_queue(&self, job: &Job, hosts: &[&Host], reasons: &mut Vec<Told>) {
        let mut offers: Vec<&Capabilities> = Vec::new();
        for set in hosts.iter().filter_map(|host| self.offers.get(&host.id)) {
            if offers.len() < OFFERS && !offers.contains(&set) {
                offers.push(set);
            }
        }
        let ahead = self.queue.ahead(job, COUNTED + 1, &|needs| offers.iter().any(|set| set.covers(needs)));
        if ahead == 0 {
            return;
        }
        let message = format!(
            "{} that the same hosts could take come first: older, or of higher priority",
            jobs(ahead)
        );
        reasons.push(Told { count: u64::try_from(ahead).ok(), ..Told::new(ReasonCode::Queue, message) });
    }
}

/// Why a host that could take a job is not given it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Obstacle {
    Down,
    Frozen,
    Draining,
    Full,
}

impl Obstacle {
    fn of(host: &Host) -> Option<Self> {
        let all = [
            (Self::Down, host.down_since().is_some()),
            (Self::Frozen, host.frozen().is_some()),
            (Self::Draining, host.drain().is_some()),
            (Self::Full, host.active_leases >= host.max_parallel),
        ];
        all.into_iter().find(|(_, is_so)| *is_so).map(|(obstacle, _)| obstacle)
    }

    fn told(self, hosts: &[&Host]) -> Told {
        let (code, one, many) = match self {
            Self::Down => (
                ReasonCode::HostsDown,
                "has not been heard of for some time",
                "have not been heard of for some time",
            ),
            Self::Frozen => {
                (ReasonCode::HostsFrozen, "was frozen on its machine", "were frozen on their machines")
            }
            Self::Draining => (ReasonCode::HostsDraining, "takes no more work", "take no more work"),
            Self::Full => {
                (ReasonCode::HostsFull, "runs as many jobs as it may", "run as many jobs as they may")
            }
        };
        let host_ids = first_ids(hosts);
        let message = match hosts.len() {
            1 => format!("the host {} could take it and {one}", list(&host_ids, 1)),
            n => format!("{n} hosts could take it and {many}: {}", list(&host_ids, n)),
        };
        Told { count: u64::try_from(hosts.len()).ok(), host_ids, ..Told::new(code, message) }
    }
}

fn first_ids(hosts: &[&Host]) -> Vec<HostId> {
    hosts.iter().take(NAMED).map(|host| host.id.clone()).collect()
}

/// The first of `all`, and that there are more.
fn list(first: &[impl ToString], all: usize) -> String {
    let names: Vec<_> = first.iter().map(ToString::to_string).collect();
    let more = if all > first.len() { format!(" and {} more", all - first.len()) } else { String::new() };
    format!("{}{more}", names.join(", "))
}

fn jobs(count: usize) -> String {
    match count {
        1 => "1 job".to_owned(),
        n if n > COUNTED => format!("more than {COUNTED} jobs"),
        n => format!("{n} jobs"),
    }
}

/// A capability, or a word about what is enforced, as people write it.
fn readable(word: &str) -> String {
    match word.strip_prefix('\0') {
        Some(enforced) => format!("the enforcement {enforced:?}"),
        None => format!("the capability {word:?}"),
    }
}
