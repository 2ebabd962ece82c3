//! A blank follower and a long history.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use skyclaw_tests::cluster::{find, view};
use skyclaw_tests::{Cluster, Options, Plan, Value, Wire, database, json, wait_until};

use super::load::{assert_same_on_disk, under_load, with_leases};

/// How many jobs are merged by one request.
const AT_ONCE: usize = 20_000;
const WITHIN: Duration = Duration::from_secs(3600);

pub(super) fn measure(jobs: usize, clients: usize, rng: &mut StdRng) {
    // What is old and very much is what is wanted here.
    let keep = |options: Options| {
        options
            .env("SKYCLAW_JOB_RETENTION_MS", "never")
            .env("SKYCLAW_JOB_RETENTION_MAX", "never")
            .env("SKYCLAW_EVENT_RETENTION_MAX", "1000000000")
    };
    let mut cluster = with_leases(Plan::on_loopback(3)).each(|_, options| keep(options)).start();
    fill(&cluster, jobs);
    let blank = cluster.follower();
    let mut last_gap = Duration::ZERO;
    let events = under_load(&mut cluster, clients, rng, |cluster, _| {
        cluster.kill9(blank);
        cluster.wipe(blank);
        let start = Instant::now();
        cluster.restart(blank);
        last_gap = writes_until_caught_up(cluster, blank);
        let took = start.elapsed();
        println!("a blank follower has {jobs} finished jobs and votes after {took:?}");
        println!("meanwhile no write was acknowledged for {last_gap:?} at the most");
    });
    println!("{}", events.summary());
    assert!(!events.completed.is_empty(), "nothing was done meanwhile");
    events.check_leases();
    cluster.wait_whole();
    for (marker, job) in &events.enqueued {
        let found = cluster.wire(blank).get(&format!("/v1/jobs/{job}?consistent=true")).ok();
        assert_eq!(found["job"]["submittedBy"], marker.as_str());
    }
    wait_until("no lease is left", WITHIN, || {
        let reply = cluster.wire(blank).get("/v1/jobs?status=leased&limit=1&consistent=true").send();
        (reply.json()["jobs"] == json!([])).then_some(())
    });
    assert_same_on_disk(&mut cluster);
    let there = database::count(cluster.data(blank), "jobs");
    println!("{there} jobs are on the disk of each node");
    assert!(there >= u64::try_from(jobs + events.enqueued.len()).unwrap_or(u64::MAX), "some are missing");
}

/// Finished jobs, as another coordinator would hand them over.
fn fill(cluster: &Cluster, jobs: usize) {
    let start = Instant::now();
    let wire = cluster.wire(cluster.leader()).with_patience(Duration::from_secs(600));
    for from in (0..jobs).step_by(AT_ONCE) {
        let part: Vec<Value> = (from..jobs.min(from + AT_ONCE)).map(finished).collect();
        let state = json!({"nodeId": "history", "hosts": [], "jobs": part, "services": []});
        wire.post("/v1/replicate/snapshot", &state).ok();
    }
    println!("{jobs} finished jobs were made in {:?}", start.elapsed());
}

fn finished(number: usize) -> Value {
    let at = "2026-01-01T00:00:00.000Z";
    json!({
        "id": format!("job_history-{number:08}"), "createdAt": at, "updatedAt": at, "updatedBy": "history",
        "version": 3, "status": "completed", "attempts": 1, "assignedHostId": "host-of-history",
        "requirement": {"requiredCapabilities": ["shell"]},
        "payload": {"kind": "shell", "command": "echo", "args": ["hello", "world"]},
        "result": {"finishedAt": at, "durationMs": 12, "exitCode": 0, "stdout": "hello world\n", "stderr": ""},
    })
}

/// Writes until the blank node votes and has what the others have. The longest time without a write.
fn writes_until_caught_up(cluster: &Cluster, blank: usize) -> Duration {
    let name = format!("node-{blank}");
    let probe = cluster.wire((blank + 1) % cluster.size());
    let (start, mut last, mut longest, mut count) = (Instant::now(), Instant::now(), Duration::ZERO, 0);
    loop {
        count += 1;
        if write(&probe, count) {
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        if count % 10 == 0 && has_caught_up(&cluster.wire(blank), &probe, &name) {
            return longest;
        }
        assert!(start.elapsed() < WITHIN, "{name} does not catch up");
    }
}

/// A host that registers again: a write that leaves no job behind.
fn write(wire: &Wire, count: usize) -> bool {
    let body = json!({"hostId": "probe", "name": format!("probe {count}"), "capabilities": ["none"]});
    wire.post("/v1/hosts/register", &body).try_send().is_ok_and(|reply| reply.status == 200)
}

fn has_caught_up(blank: &Wire, other: &Wire, name: &str) -> bool {
    let (Some(own), Some(view)) = (view(blank), view(other)) else { return false };
    let votes = find(&view, name).is_some_and(|member| member["role"] == "follower");
    let is_ready = blank.get("/readyz").try_send().is_ok_and(|reply| reply.status == 200);
    votes
        && is_ready
        && own["applied"].as_u64() >= view["applied"].as_u64().map(|index| index.saturating_sub(1000))
}
