//! Services from claim to their end.

use serde_json::json;

use crate::Daemon;
use crate::scripted::{Scripted, service};

const FOREVER: &str = "while :; do sleep 0.05; done";

#[tokio::test]
async fn a_service_is_reported_running_with_its_endpoint_and_failed_when_it_ends() {
    let state = tempfile::tempdir().expect("temp dir");
    let go = state.path().join("go");
    let mut coordinator = Scripted::start(|_| None).await;
    let script =
        format!("until [ -e {} ]; do sleep 0.01; done; echo no database at $PORT >&2; exit 3", go.display());
    coordinator.deploy(service("svc_1", &script));
    let more = [
        ("SKYCLAW_SERVICE_BASE_PORT", "42100"),
        ("SKYCLAW_SERVICE_HOST_PUBLIC_BASE_URL", "http://10.0.0.7/"),
    ];
    let daemon = Daemon::start(&coordinator, &state.path().join("s"), &more);
    let running = coordinator.next("report").await;
    let endpoint = running.body["endpoint"].as_str().expect("an endpoint").to_owned();
    let port: u16 = endpoint.strip_prefix("http://10.0.0.7:").expect("the base").parse().expect("a port");
    assert!(port >= 42100);
    assert_eq!(running.body, json!({ "hostId": "host_1", "status": "running", "endpoint": endpoint }));
    coordinator.next_where("services/claim", |asked| asked.body["running"] == json!(["svc_1"])).await;
    // Asked for again, it is reported again and not started again.
    coordinator.deploy(service("svc_1", &script));
    assert_eq!(coordinator.next("report").await.body, running.body);
    std::fs::write(&go, "").expect("write");
    let failed = coordinator.next("report").await;
    let error = format!("service process exited with code 3; it wrote last: no database at {port}");
    assert_eq!(failed.body, json!({ "hostId": "host_1", "status": "failed", "error": error }));
    coordinator.next_where("services/claim", |asked| asked.body["running"] == json!([])).await;
    daemon.end().await;
}

#[tokio::test]
async fn services_have_ports_of_their_own_and_are_stopped_with_the_daemon() {
    let state = tempfile::tempdir().expect("temp dir");
    let mut coordinator = Scripted::start(|_| None).await;
    coordinator.deploy(service("svc_1", FOREVER));
    coordinator.deploy(service("svc_2", FOREVER));
    let more = [("SKYCLAW_SERVICE_HOST_PUBLIC_BASE_URL", "http://h"), ("SKYCLAW_SERVICE_BASE_PORT", "42200")];
    let daemon = Daemon::start(&coordinator, state.path(), &more);
    let (a, b) = (coordinator.next("report").await, coordinator.next("report").await);
    assert_ne!(a.body["endpoint"], b.body["endpoint"]);
    daemon.end().await;
    for _ in 0..2 {
        let failed = coordinator.next("report").await;
        assert_eq!(failed.body["error"], json!("service process was stopped: host is shutting down"));
    }
}

#[tokio::test]
async fn a_service_is_stopped_when_the_coordinators_want_it_and_others_go_on() {
    let state = tempfile::tempdir().expect("temp dir");
    let frozen = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_frozen = frozen.clone();
    let mut coordinator = Scripted::start(move |asked| {
        let told = asked.what == "heartbeat" && is_frozen.load(std::sync::atomic::Ordering::Relaxed);
        let stop = json!([{ "serviceId": "svc_1", "reason": "frozen" }]);
        told.then(|| (200, json!({ "host": crate::scripted::host(), "stopServices": stop })))
    })
    .await;
    coordinator.deploy(service("svc_1", FOREVER));
    coordinator.deploy(service("svc_2", FOREVER));
    let daemon = Daemon::start(&coordinator, state.path(), &[("SKYCLAW_HEARTBEAT_MS", "50")]);
    coordinator.next("report").await;
    coordinator.next("report").await;
    frozen.store(true, std::sync::atomic::Ordering::Relaxed);
    let stopped = coordinator.next("report").await;
    assert_eq!(stopped.path, "/v1/services/svc_1/report");
    assert_eq!(stopped.body["error"], json!("service process was stopped: it is frozen"));
    coordinator.next_where("services/claim", |asked| asked.body["running"] == json!(["svc_2"])).await;
    daemon.end().await;
}

#[tokio::test]
async fn a_service_that_may_not_run_is_reported() {
    let state = tempfile::tempdir().expect("temp dir");
    let mut coordinator = Scripted::start(|_| None).await;
    let mut forbidden = service("svc_1", "");
    forbidden["command"] = json!("forbidden");
    coordinator.deploy(forbidden);
    let daemon = Daemon::start(&coordinator, state.path(), &[]);
    let failed = coordinator.next("report").await;
    assert_eq!(failed.body["error"], json!("command not allowed: forbidden"));
    daemon.end().await;
}

#[tokio::test]
async fn a_service_that_was_taken_away_is_stopped() {
    let state = tempfile::tempdir().expect("temp dir");
    let (ready, stopped) = (state.path().join("ready"), state.path().join("stopped"));
    let is_ready = ready.clone();
    let mut coordinator = Scripted::start(move |asked| {
        (asked.what == "report" && is_ready.exists())
            .then(|| (409, json!({ "error": "service svc_1 is not assigned to host host_1" })))
    })
    .await;
    let script = format!("trap '> {}; exit' TERM; > {}; {FOREVER}", stopped.display(), ready.display());
    coordinator.deploy(service("svc_1", &script));
    let daemon = Daemon::start(&coordinator, &state.path().join("s"), &[]);
    while !ready.exists() {
        coordinator.next("services/claim").await;
    }
    // Asked for again, it is reported again, and that is refused.
    coordinator.deploy(service("svc_1", &script));
    while !stopped.exists() {
        coordinator.next("services/claim").await;
    }
    coordinator.next_where("services/claim", |asked| asked.body["running"] == json!([])).await;
    daemon.end().await;
}
