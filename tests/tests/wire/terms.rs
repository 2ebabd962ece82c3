//! How a job is to be run, and which hosts may run it. (Ours.)

use skyclaw_tests::mesh::id;
use skyclaw_tests::{Coordinator, Options, json, shape};

fn node() -> Coordinator {
    Options::default().start()
}

#[test]
fn what_a_job_asks_for_is_kept_and_shown() {
    let node = node();
    let wire = node.wire();
    let terms = json!({
        "onLost": "hold", "isolation": "podman", "image": "localhost/busybox:latest", "agentId": "bot-7",
        "resources": {"cpuMillis": 500, "memoryBytes": 67_108_864, "pids": 32, "tmpfsBytes": 1_048_576},
        "network": "host", "mounts": [{"source": "/srv/data", "target": "/data", "readOnly": true}],
        "graceMs": 2500,
    });
    let job = wire.enqueue_with(&terms);
    shape::JOB.assert(&job);
    for (name, value) in terms.as_object().expect("an object") {
        assert_eq!(&job[name], value, "{name}");
    }
    assert_eq!(wire.job(&id(&job)), job);
    let plain = wire.enqueue_with(&json!({"onLost": "retry", "mounts": []}));
    for name in terms.as_object().expect("an object").keys() {
        assert!(plain.get(name).is_none(), "{name}: what is not said is not there: {plain}");
    }
    let mount = wire.enqueue_with(&json!({"isolation": "podman", "mounts": [{"source": "/srv"}]}));
    assert_eq!(mount["mounts"], json!([{"source": "/srv", "target": "/srv", "readOnly": true}]));
}

#[test]
fn what_only_a_container_can_have_is_refused_without_one() {
    let node = node();
    for (name, value) in
        [("image", json!("a")), ("network", json!("host")), ("mounts", json!([{"source": "/a"}]))]
    {
        for isolation in [json!({}), json!({"isolation": "process"})] {
            let mut body = skyclaw_tests::mesh::shell_job(&isolation);
            body[name] = value.clone();
            let refused = node.wire().post("/v1/jobs", &body).send();
            refused.refused(400, &format!("{name} can only be given with the isolation \"podman\""));
            assert_eq!(refused.json()["details"], json!({"field": name}));
        }
    }
}

#[test]
fn a_job_waits_for_a_host_that_can_enforce_what_it_asks_for() {
    let node = node();
    let wire = node.wire();
    wire.host("silent", &[], 9);
    let register = |enforces: skyclaw_tests::Value| {
        let body = json!({"hostId": "able", "name": "able", "maxParallel": 9, "enforces": enforces});
        wire.post("/v1/hosts/register", &body).ok()["host"].clone()
    };
    let host = register(json!({"can": ["process"], "unavailable": {"podman": "there is no socket"}}));
    shape::HOST.assert(&host);
    assert_eq!(host["enforces"]["unavailable"], json!({"podman": "there is no socket"}));
    let bounded = id(&wire.enqueue_with(&json!({"resources": {"memoryBytes": 67_108_864}})));
    let contained = id(&wire.enqueue_with(&json!({"isolation": "podman", "image": "a"})));
    assert!(wire.claim("silent").is_null() && wire.claim("able").is_null());
    register(json!({"can": ["podman"], "bestEffort": ["process.memory"]}));
    assert_eq!(wire.claim("able")["id"], json!(bounded));
    assert_eq!(wire.claim("able")["id"], json!(contained));
    let plain = id(&wire.enqueue_with(&json!({"onLost": "hold", "agentId": "bot", "graceMs": 5})));
    assert_eq!(wire.claim("silent")["id"], json!(plain), "which any host can do");
}

#[test]
fn a_claim_that_waits_is_woken_when_its_host_says_that_it_can_do_more() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 1);
    let job = id(&wire.enqueue_with(&json!({"isolation": "podman", "image": "a"})));
    let claimed = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let body = json!({"waitMs": 30_000});
            node.wire().post("/v1/hosts/h1/claim", &body).ok()["job"]["id"].clone()
        });
        let body = json!({"hostId": "h1", "name": "h1", "enforces": {"can": ["podman"]}});
        wire.post("/v1/hosts/register", &body).ok();
        waiting.join().expect("the answer")
    });
    assert_eq!(claimed, json!(job));
}
