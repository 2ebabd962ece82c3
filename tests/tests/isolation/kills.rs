//! The daemon of a host is killed again and again while it runs jobs, at moments that nobody chose: each job
//! begins once, ends once, and what it wrote and how it ended is told in full.

use std::fmt;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use skyclaw_tests::mesh::id;
use skyclaw_tests::podman::IMAGE;
use skyclaw_tests::{Coordinator, Host, LONG, Options, Value, json, process, wait_until};

/// How many jobs there are at any time, running or waiting.
const AT_ONCE: usize = 8;
const LINES: usize = 60;
/// How long a daemon lives, and how long there is none, in milliseconds.
const LIFE: std::ops::Range<u64> = 50..1200;
const DEATH: std::ops::Range<u64> = 0..600;
/// A daemon that dies with a claim that nobody saw takes the job away for so long, and no job goes on
/// for longer than this.
const LEASE_MS: &str = "20000";

/// A way to run a script on a host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) name: &'static str,
    /// The request that submits the script.
    pub(crate) body: fn(script: &str) -> Value,
}

/// As a plain process.
pub(crate) const PROCESS: Work = Work {
    name: "process",
    body: |script| json!({"payload": {"kind": "shell", "command": "sh", "args": ["-c", script], "timeoutMs": 120_000}}),
};

/// In a container, on a host with the settings of [`Service::settings`](skyclaw_tests::podman::Service).
#[cfg_attr(
    test,
    expect(dead_code, reason = "for long runs; tests of containers kill their hosts themselves")
)]
pub(crate) const CONTAINER: Work = Work {
    name: "container",
    body: |script| {
        let mut body = (PROCESS.body)(script);
        body["isolation"] = json!("podman");
        body["image"] = json!(IMAGE);
        body
    },
};

/// What came of it.
#[derive(Debug)]
pub(crate) struct Survived {
    kills: usize,
    jobs: usize,
    /// Jobs that a daemon had claimed and did not live to begin.
    claimed_in_vain: usize,
    /// Memory of the daemon at the end of each of its lives, in KiB.
    resident: Vec<u64>,
}

impl Survived {
    /// The mean of the first and the last fifth of all lives, in KiB.
    pub(crate) fn resident_kib(&self) -> [u64; 2] {
        let fifth = (self.resident.len() / 5).max(1);
        let mean = |of: &[u64]| of.iter().sum::<u64>() / of.len().max(1) as u64;
        [mean(&self.resident[..fifth]), mean(&self.resident[self.resident.len() - fifth..])]
    }
}

impl fmt::Display for Survived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, jobs, claimed_in_vain, .. } = self;
        let [first, last] = self.resident_kib();
        write!(
            f,
            "{kills} kills, {jobs} jobs, {claimed_in_vain} of them claimed by a daemon that died before they began; \
             the daemon had {first} KiB in the first fifth of its lives and {last} KiB in the last"
        )
    }
}

struct Job {
    id: String,
    work: &'static str,
    number: usize,
}

/// Kills the daemon so often.
///
/// # Panics
/// When a promise was broken.
pub(crate) fn kills(count: usize, works: &[Work], extra: &[(&str, &str)], rng: &mut StdRng) -> Survived {
    let node = Options::default().env("SKYCLAW_LEASE_MS", LEASE_MS).start();
    let extra = [&[("SKYCLAW_MAX_PARALLEL", "6"), ("SKYCLAW_CAPABILITIES", "shell")], extra].concat();
    let mut host = Host::start(&node.url(), "h1", &extra);
    let (mut jobs, mut resident): (Vec<Job>, _) = (Vec::new(), Vec::new());
    for kill in 1..=count {
        top_up(&node, works, &mut jobs);
        last(rng, LIFE);
        resident.extend(process::resident_kib(host.process().pid()));
        host.kill9();
        last(rng, DEATH);
        host.restart();
        println!("kill {kill} of {count}: {} jobs so far", jobs.len());
    }
    let mut claimed_in_vain = 0;
    for job in &jobs {
        let record = wait_until("the job has ended", LONG, || Some(node.wire().job(&job.id)).filter(is_over));
        assert_whole(job, &record);
        claimed_in_vain += usize::from(record["attempts"] != 1);
    }
    let mut left = vec![String::new()];
    let start = Instant::now();
    while !left.is_empty() && start.elapsed() < LONG {
        std::thread::sleep(Duration::from_millis(20));
        left = host.left(&[""; 0]);
    }
    assert!(left.is_empty(), "left of runs that are over: {left:#?}");
    // It gives back what it had made ahead.
    host.terminate();
    let survived = Survived { kills: count, jobs: jobs.len(), claimed_in_vain, resident };
    println!("{survived}");
    survived
}

fn top_up(node: &Coordinator, works: &[Work], jobs: &mut Vec<Job>) {
    let active = jobs.iter().rev().filter(|job| !is_over(&node.wire().job(&job.id))).count();
    for _ in active..AT_ONCE {
        let (work, number) = (works[jobs.len() % works.len()], jobs.len());
        let id = id(&node.wire().enqueue_with(&(work.body)(&script(number))));
        jobs.push(Job { id, work: work.name, number });
    }
}

/// Says in its output that it begins, and then many lines on both streams, each after a while.
fn script(number: usize) -> String {
    format!(
        "echo begun; i=0; while [ $i -lt {LINES} ]; do echo line $i; echo error $i >&2; i=$((i+1)); sleep 0.02; \
         done; echo end; exit {}",
        code(number)
    )
}

fn code(number: usize) -> usize {
    number % 5
}

fn is_over(record: &Value) -> bool {
    !matches!(record["status"].as_str(), Some("queued" | "leased"))
}

fn assert_whole(job: &Job, record: &Value) {
    let code = code(job.number);
    let status = if code == 0 { "completed" } else { "failed" };
    let of = format!("{} job {}: {record}", job.work, job.number);
    assert_eq!((&record["status"], &record["result"]["exitCode"]), (&json!(status), &json!(code)), "{of}");
    let lines = |word: &str| (0..LINES).map(|at| format!("{word} {at}\n")).collect::<String>();
    assert_eq!(record["result"]["stdout"], format!("begun\n{}end\n", lines("line")), "{of}");
    assert_eq!(record["result"]["stderr"], lines("error"), "{of}");
}

/// Not to wait for anything: this is how long a state of things lasts.
fn last(rng: &mut StdRng, ms: std::ops::Range<u64>) {
    std::thread::sleep(Duration::from_millis(rng.random_range(ms)));
}
