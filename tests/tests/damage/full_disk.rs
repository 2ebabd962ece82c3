//! A disk without room: writes are refused, reads go on, and it recovers when there is room.

use skyclaw_tests::mesh::{id, shell_job};
use skyclaw_tests::outside::SmallDisk;
use skyclaw_tests::{LONG, Options, Reply, Wire, json, wait_until};

const DISK_BYTES: u64 = 128 * 1024 * 1024;

/// Enqueues a job that takes much room.
fn large(wire: &Wire) -> Reply {
    let payload = json!({"kind": "shell", "command": "true", "args": ["x".repeat(600_000)]});
    wire.post("/v1/jobs", &json!({"payload": payload})).send()
}

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() {
    let disk = SmallDisk::mount(DISK_BYTES);
    let mut node = Options::default().start_in(disk.path());
    let wire = node.wire();
    wire.host("h1", &[], 10);
    let mut known = vec![id(&wire.enqueue())];
    // Whoever asks for a list has all that is known written first.
    assert_eq!(wire.get("/v1/state").ok()["jobs"].as_array().map(Vec::len), Some(1));
    disk.fill("filler");
    // What was made ready ahead is used up first.
    let refusal = wait_until("a write is refused", LONG, || {
        let reply = large(&wire);
        if reply.status == 200 {
            known.push(id(&reply.json()["job"]));
            return None;
        }
        Some(reply)
    });
    assert_eq!(
        (refusal.status, &refusal.json()["code"]),
        (503, &json!("storage_unavailable")),
        "{}",
        refusal.text
    );
    assert_eq!(large(&wire).status, 503, "it is still full");
    for job in &known {
        assert_eq!(id(&wire.job(job)), *job, "reads go on");
    }
    // Lists are made from the database, which may be behind the log while it cannot be written.
    assert!(wire.get("/v1/state").ok()["jobs"].as_array().is_some_and(|jobs| !jobs.is_empty()));
    assert_eq!(wire.get("/health").send().status, 200);
    disk.free("filler");
    let first = wait_until("writes are taken again", LONG, || {
        let reply = wire.post("/v1/jobs", &shell_job(&json!({}))).send();
        (reply.status == 200).then(|| id(&reply.json()["job"]))
    });
    known.push(first);
    node.kill9();
    node.restart();
    let state = node.wire().get("/v1/state").ok();
    let there: Vec<_> = state["jobs"].as_array().expect("jobs").iter().map(id).collect();
    assert_eq!(there, known);
}

#[test]
fn a_daemon_that_starts_on_a_full_disk_says_so_or_serves_reads() {
    let disk = SmallDisk::mount(DISK_BYTES);
    let mut node = Options::default().start_in(disk.path());
    let job = id(&node.wire().enqueue());
    node.kill9();
    disk.fill("filler");
    match Options::default().attempt_in(disk.path()) {
        Ok(node) => assert_eq!(id(&node.wire().job(&job)), job),
        Err(refused) => {
            let said = refused.said.to_lowercase();
            assert!(said.contains("space") || said.contains("full"), "{said}");
            assert!(!said.contains("panicked"), "{said}");
        }
    }
    disk.free("filler");
    let node = Options::default().start_in(disk.path());
    assert_eq!(id(&node.wire().job(&job)), job);
}
