//! Claims and heartbeats that wait. (Ours.)

use std::io::Write as _;
use std::time::{Duration, Instant};

use skyclaw_tests::mesh::id;
use skyclaw_tests::{Coordinator, LONG, Options, Value, Wire, json, raw, shape, wait_until};

fn node() -> Coordinator {
    Options::default().start()
}

/// Far more than anything takes that does not wait, far less than the wait that is asked for.
const AT_ONCE: Duration = Duration::from_secs(15);

/// Runs `ask` aside, does `meanwhile`, and returns the answer, which must not have taken the whole wait.
fn woken(wire: &Wire, path: &str, body: &Value, meanwhile: impl FnOnce()) -> Value {
    std::thread::scope(|scope| {
        let start = Instant::now();
        let asking = scope.spawn(|| wire.post(path, body).ok());
        meanwhile();
        let answer = asking.join().expect("the answer");
        assert!(start.elapsed() < AT_ONCE, "it slept through");
        answer
    })
}

#[test]
fn a_claim_with_max_takes_several_and_lists_them() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 3);
    let jobs: Vec<_> = (0..5).map(|_| id(&wire.enqueue())).collect();
    let claim = |max: u32| wire.post("/v1/hosts/h1/claim", &json!({"max": max})).ok();
    let two = claim(2);
    let ids = |answer: &Value| answer["jobs"].as_array().expect("jobs").iter().map(id).collect::<Vec<_>>();
    assert_eq!(ids(&two), jobs[..2]);
    assert_eq!(two["job"], two["jobs"][0]);
    two["jobs"].as_array().expect("jobs").iter().for_each(|job| shape::JOB.assert(job));
    assert_eq!(ids(&claim(10)), jobs[2..3], "no more than the host may hold");
    assert_eq!(claim(10), json!({"job": null, "jobs": []}));
}

#[test]
fn a_claim_without_max_is_answered_as_the_reference_does() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 3);
    wire.enqueue();
    let answer = wire.post("/v1/hosts/h1/claim", &json!({})).ok();
    assert_eq!(answer.as_object().map(serde_json::Map::len), Some(1));
}

#[test]
fn a_waiting_claim_is_woken_by_an_enqueue() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &["a"], 1);
    let mut job = String::new();
    let answer = woken(&wire, "/v1/hosts/h1/claim", &json!({"waitMs": 30_000, "max": 1}), || {
        job = id(&wire.enqueue_with(&json!({"requirement": {"requiredCapabilities": ["a"]}})));
    });
    assert_eq!(answer["job"]["id"], json!(job));
}

#[test]
fn each_job_wakes_one_of_many_waiting_claims() {
    let node = node();
    let wire = node.wire();
    let hosts: Vec<String> = (0..8).map(|i| wire.host(&format!("h{i}"), &[], 1)).collect();
    let claimed: Vec<String> = std::thread::scope(|scope| {
        let wire = &wire;
        let claims: Vec<_> = hosts
            .iter()
            .map(|host| {
                let path = format!("/v1/hosts/{host}/claim");
                scope.spawn(move || id(&wire.post(&path, &json!({"waitMs": 30_000})).ok()["job"]))
            })
            .collect();
        for _ in &hosts {
            wire.enqueue();
        }
        claims.into_iter().map(|claim| claim.join().expect("a job")).collect()
    });
    let distinct: std::collections::BTreeSet<_> = claimed.iter().collect();
    assert_eq!(distinct.len(), hosts.len(), "{claimed:?}");
}

#[test]
fn a_waiting_claim_ends_empty_when_its_time_is_over() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 1);
    let start = Instant::now();
    assert!(wire.post("/v1/hosts/h1/claim", &json!({"waitMs": 300})).ok()["job"].is_null());
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[test]
fn a_waiting_claim_is_woken_when_a_lease_runs_out() {
    let node = Options::default().env("SKYCLAW_LEASE_MS", "300").start();
    let wire = node.wire();
    wire.host("h1", &[], 1);
    wire.host("h2", &[], 1);
    let job = id(&wire.enqueue());
    wire.claim("h1");
    let answer = woken(&wire, "/v1/hosts/h2/claim", &json!({"waitMs": 30_000}), || ());
    assert_eq!(answer["job"]["id"], json!(job));
}

#[test]
fn a_claim_whose_caller_has_gone_takes_no_job() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 1);
    wire.host("h2", &[], 1);
    let body = r#"{"waitMs":30000}"#;
    let head = format!(
        "POST /v1/hosts/h1/claim HTTP/1.1\r\nhost: a\r\nx-skyclaw-token: {}\r\n",
        skyclaw_tests::TOKEN
    );
    let mut caller = std::net::TcpStream::connect(node.address()).expect("the daemon listens");
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    caller.write_all(request.as_bytes()).expect("the request is sent");
    let from = caller.local_addr().expect("an address");
    let nothing = raw::receive(&mut caller, raw::Until::Answer, Duration::from_millis(300));
    assert!(nothing.bytes.is_empty() && !nothing.closed, "{nothing:?}");
    drop(caller);
    wait_until("the daemon notices that the caller has gone", LONG, || {
        (!raw::is_held(node.address(), from)).then_some(())
    });
    let job = wire.enqueue();
    assert_eq!(wire.claim("h2")["id"], job["id"]);
}

#[test]
fn a_waiting_heartbeat_is_woken_by_a_cancel() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 1);
    let job = id(&wire.enqueue());
    let fence = wire.claim("h1")["fence"].clone();
    let body = json!({"running": [{"jobId": job, "fence": fence}], "waitMs": 30_000});
    let answer = woken(&wire, "/v1/hosts/h1/heartbeat", &body, || {
        wire.call("POST", &format!("/v1/jobs/{job}/cancel")).ok();
    });
    assert_eq!(answer["stop"], json!([{"jobId": job, "reason": "cancelled"}]));
}

#[test]
fn a_wait_that_is_too_long_is_400() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 1);
    for path in ["claim", "heartbeat"] {
        let reply = wire.post(&format!("/v1/hosts/h1/{path}"), &json!({"waitMs": 30_001})).send();
        assert_eq!(reply.status, 400, "{path}");
        assert!(reply.error().contains("waitMs"), "{}", reply.error());
    }
}

#[test]
fn a_reader_of_a_job_can_wait_for_its_end() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 1);
    let job = id(&wire.enqueue());
    let leased = wire.claim("h1");
    let path = format!("/v1/jobs/{job}?waitMs=30000&version={}", leased["version"]);
    let start = Instant::now();
    let done = std::thread::scope(|scope| {
        let asking = scope.spawn(|| wire.get(&path).ok());
        wire.completion(&job, "h1").ok();
        asking.join().expect("the answer")
    });
    assert_eq!(done["job"]["status"], "completed");
    assert!(start.elapsed() < AT_ONCE, "it slept through");
    assert_eq!(wire.get(&path).ok()["job"]["status"], "completed", "what has ended is answered at once");
}

#[test]
fn a_daemon_that_ends_lets_no_waiting_claim_hang() {
    let mut node = node();
    let wire = node.wire();
    wire.host("h1", &[], 1);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let start = Instant::now();
            let answer = wire.post("/v1/hosts/h1/claim", &json!({"waitMs": 30_000})).try_send();
            (answer, start.elapsed())
        });
        // The claim may or may not have arrived by now; neither may hang.
        node.terminate();
        let (answer, took) = asking.join().expect("the claim");
        assert!(took < AT_ONCE, "it hung for {took:?}");
        if let Ok(reply) = answer {
            assert!(matches!(reply.status, 200 | 503), "{} {}", reply.status, reply.text);
        }
    });
}
