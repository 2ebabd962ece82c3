//! How long a claim and an enqueue take with few and with very many queued jobs.
//!
//! `cargo bench -p skyclaw-core --bench claim` prints medians for several mixes of jobs and hosts, and
//! the ratio of each to the same mix with 1,000 jobs: what is O(log n) stays near 1. An argument limits
//! the mixes to those whose name contains it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skyclaw_core::{Command, NoArchive, Operation, Outcome, Reply, State};
use skyclaw_proto::{Capabilities, HostId, JobId, NodeId, Payload, Timestamp, limits};

type Failure = Box<dyn std::error::Error>;

const SIZES: [usize; 3] = [1_000, 100_000, 1_000_000];
const CLAIMS: usize = 1_000;

/// What the jobs ask for and the hosts have.
struct Mix {
    name: &'static str,
    hosts: fn(&mut Random) -> Vec<Capabilities>,
    /// The requirement of the n-th job.
    job: fn(usize, &mut Random) -> Capabilities,
    /// Asked for by one more job before each claim, at the end of the queue.
    extra: Option<&'static str>,
}

const MIXES: [Mix; 6] = [
    Mix { name: "one requirement", hosts: |_| shells(1), job: |_, _| set(["shell"]), extra: None },
    Mix {
        name: "all but one for others",
        hosts: |_| shells(1),
        job: |_, _| set(["gpu"]),
        extra: Some("shell"),
    },
    Mix {
        name: "unique requirements",
        // Each has some of what the first 1,000 jobs ask for, so that every size has something to claim.
        hosts: |_| {
            (0..10).map(|h| Capabilities::new((0..100).map(|i| format!("only-{}", i * 10 + h)))).collect()
        },
        job: |n, _| Capabilities::new([format!("only-{n}")]),
        extra: None,
    },
    Mix {
        name: "10,000 hosts, one pin each",
        hosts: |_| {
            (0..10_000).map(|h| Capabilities::new(["shell".to_owned(), format!("host-{h}")])).collect()
        },
        job: |n, random| match n % 2 {
            0 => set(["shell"]),
            _ => Capabilities::new([format!("host-{}", random.below(10_000))]),
        },
        extra: None,
    },
    Mix {
        name: "3 of 20, 50 hosts",
        hosts: |random| (0..50).map(|_| random.subset(10)).collect(),
        job: |_, random| random.subset(3),
        extra: None,
    },
    Mix {
        name: "3 of 20, 10,000 hosts",
        hosts: |random| (0..10_000).map(|_| random.subset(10)).collect(),
        job: |_, random| random.subset(3),
        extra: None,
    },
];

fn set<const N: usize>(capabilities: [&str; N]) -> Capabilities {
    Capabilities::new(capabilities)
}

fn shells(n: usize) -> Vec<Capabilities> {
    vec![set(["shell"]); n]
}

/// Numbers that are the same in every run (Knuth's MMIX generator).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    /// So many of 20 capabilities.
    fn subset(&mut self, size: usize) -> Capabilities {
        let mut chosen = std::collections::BTreeSet::new();
        while chosen.len() < size {
            chosen.insert(self.below(20));
        }
        Capabilities::new(chosen.into_iter().map(|n| format!("cap-{n}")))
    }
}

/// A state and what is needed to command it.
struct Bench {
    state: State,
    node: NodeId,
    payload: Arc<Payload>,
    jobs: usize,
}

impl Bench {
    fn apply(&mut self, operation: Operation) -> (Outcome, Duration) {
        let at = Timestamp::from_millis(1_767_225_600_000);
        let command = Command { at, node: self.node.clone(), idempotency: None, by: None, operation };
        let start = Instant::now();
        let outcome = self.state.apply(&command, &NoArchive);
        (outcome, start.elapsed())
    }

    fn enqueue(&mut self, required: Capabilities) -> Result<Duration, Failure> {
        let id = JobId::parse(&format!("job_{}", self.jobs))?;
        self.jobs += 1;
        let payload = Arc::clone(&self.payload);
        let (submitted_by, labels) = (None, BTreeMap::new());
        let operation = Operation::Enqueue {
            id,
            payload,
            required,
            submitted_by,
            priority: limits::DEFAULT_PRIORITY,
            labels,
            terms: None,
            plan: None,
            links: None,
        };
        Ok(self.apply(operation).1)
    }

    /// How long it took, and whether there was a job.
    fn claim(&mut self, host: &HostId) -> (Duration, bool) {
        let (outcome, took) = self.apply(Operation::Claim { host: host.clone(), max: 1, lease_ms: 60_000 });
        (took, matches!(outcome.reply, Ok(Reply::Claimed(jobs)) if !jobs.is_empty()))
    }
}

/// Medians of one mix at one size.
struct Measured {
    claim: Duration,
    worst_claim: Duration,
    enqueue: Duration,
    first_claim: Duration,
}

fn measure(mix: &Mix, size: usize) -> Result<Measured, Failure> {
    let mut random = Random(7);
    let payload = Arc::new(Payload::OpenclawRun(Default::default()));
    let mut bench = Bench { state: State::default(), node: NodeId::parse("node")?, payload, jobs: 0 };
    let mut hosts = Vec::new();
    for (n, capabilities) in (mix.hosts)(&mut random).into_iter().enumerate() {
        let id = HostId::parse(&format!("host_{n}"))?;
        let (name, max_parallel) = (id.to_string(), limits::MAX_PARALLEL);
        let enforces = None;
        bench.apply(Operation::RegisterHost { id: id.clone(), name, capabilities, max_parallel, enforces });
        hosts.push(id);
    }
    for n in 0..size {
        bench.enqueue((mix.job)(n, &mut random))?;
    }
    // Every host asks once, as hosts that wait for work have.
    let mut first_claims: Vec<_> = hosts.iter().map(|host| bench.claim(host).0).collect();
    let (mut claims, mut enqueues) = (Vec::new(), Vec::new());
    for turn in 0..CLAIMS {
        let extra = mix.extra.map_or_else(|| (mix.job)(turn, &mut random), |capability| set([capability]));
        enqueues.push(bench.enqueue(extra)?);
        let host = usize::try_from(random.below(hosts.len() as u64))?;
        let (took, found) = bench.claim(&hosts[host]);
        if found {
            claims.push(took);
        }
    }
    let claim = median(&mut claims);
    let worst_claim = claims.last().copied().unwrap_or_default();
    Ok(Measured {
        claim,
        worst_claim,
        enqueue: median(&mut enqueues),
        first_claim: median(&mut first_claims),
    })
}

fn median(all: &mut [Duration]) -> Duration {
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

fn main() -> Result<(), Failure> {
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let us = |duration: Duration| duration.as_secs_f64() * 1e6;
    println!(
        "{:28} {:>9} {:>9} {:>6} {:>9} {:>9} {:>6} {:>11}",
        "microseconds", "jobs", "claim", "ratio", "worst", "enqueue", "ratio", "first claim"
    );
    for mix in MIXES.iter().filter(|mix| only.as_ref().is_none_or(|part| mix.name.contains(part.as_str()))) {
        let mut base = None;
        for size in SIZES {
            let now = measure(mix, size)?;
            let (claim, enqueue) = *base.get_or_insert((us(now.claim), us(now.enqueue)));
            println!(
                "{:28} {size:>9} {:>9.2} {:>6.2} {:>9.1} {:>9.2} {:>6.2} {:>11.1}",
                mix.name,
                us(now.claim),
                us(now.claim) / claim,
                us(now.worst_claim),
                us(now.enqueue),
                us(now.enqueue) / enqueue,
                us(now.first_claim),
            );
        }
    }
    Ok(())
}
