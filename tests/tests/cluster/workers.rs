//! Hosts that run work while the leader dies: each run happens once, and its outcome arrives once.

use std::collections::BTreeMap;
use std::fs;

use skyclaw_tests::mesh::id;
use skyclaw_tests::{Cluster, Host, LONG, Value, json, wait_until};

const JOBS: usize = 64;

#[test]
fn every_outcome_arrives_once_though_the_leader_dies_while_jobs_run() {
    let mut cluster = Cluster::start(3);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ran = dir.path().join("ran");
    let urls = cluster.urls().join(",");
    let extra = [("SKYCLAW_COORDINATOR_URLS", urls.as_str()), ("SKYCLAW_MAX_PARALLEL", "4")];
    let hosts = ["h0", "h1"].map(|name| Host::start(&cluster.urls()[0], name, &extra));
    let jobs: Vec<String> = (0..JOBS).map(|i| submit(&cluster, i, &ran.display().to_string())).collect();
    for deaths in 1..=3 {
        wait_until("some more have ended", LONG, || (lines(&ran).len() >= JOBS * deaths / 4).then_some(()));
        let leader = cluster.leader();
        cluster.kill9(leader);
        // Work goes on without it, before it comes back.
        let (ended, others) = (lines(&ran).len(), cluster.leader());
        assert_ne!(leader, others);
        let goes_on = || lines(&ran).len() > ended || ended == JOBS;
        wait_until("jobs are run while it is gone", LONG, || goes_on().then_some(()));
        cluster.restart(leader);
        cluster.wait_whole();
    }
    for (i, job) in jobs.iter().enumerate() {
        let wire = cluster.wire(i % cluster.size());
        let ended = wait_until("the job has ended", LONG, || {
            let job = wire.get(&format!("/v1/jobs/{job}?consistent=true")).try_send().ok()?;
            let job: Value = (job.status == 200).then(|| job.json()["job"].take())?;
            (job["status"] != "queued" && job["status"] != "leased").then_some(job)
        });
        let outcome = (&ended["status"], &ended["attempts"], &ended["result"]["stdout"]);
        assert_eq!(outcome, (&json!("completed"), &json!(1), &json!(format!("out {i}\n"))), "{ended}");
    }
    let mut runs = BTreeMap::new();
    for line in lines(&ran) {
        *runs.entry(line).or_insert(0) += 1;
    }
    let once: BTreeMap<String, i32> = (0..JOBS).map(|i| (format!("run {i}"), 1)).collect();
    assert_eq!(runs, once, "each is run once");
    for mut host in hosts {
        host.terminate();
    }
}

fn submit(cluster: &Cluster, number: usize, file: &str) -> String {
    let script = format!("sleep 1; echo run {number} >> {file}; echo out {number}");
    let payload = json!({"kind": "shell", "command": "sh", "args": ["-c", script], "timeoutMs": 60_000});
    let wire = cluster.wire(number % cluster.size());
    id(&wire.post("/v1/jobs", &json!({"payload": payload})).ok()["job"])
}

fn lines(file: &std::path::Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}
