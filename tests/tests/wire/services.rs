//! Services: deployment, claims of replicas, reports.

use skyclaw_tests::mesh::id;
use skyclaw_tests::{Coordinator, Options, Value, Wire, json, shape};

fn node() -> Coordinator {
    Options::default().start()
}

fn deploy(wire: &Wire, extra: &Value) -> Value {
    let body = skyclaw_tests::mesh::with(&json!({"name": "api", "command": "node"}), extra);
    wire.post("/v1/services", &body).ok()["service"].take()
}

fn claim(wire: &Wire, host: &str) -> Value {
    wire.post(&format!("/v1/hosts/{host}/services/claim"), &json!({})).ok()["service"].take()
}

fn report(wire: &Wire, service: &str, body: &Value) -> Value {
    wire.post(&format!("/v1/services/{service}/report"), body).ok()["service"].take()
}

#[test]
fn a_new_service_is_pending_with_the_defaults_of_the_contract() {
    let node = node();
    let service = deploy(&node.wire(), &json!({}));
    shape::SERVICE.assert(&service);
    assert!(shape::is_id(&id(&service), "svc_"), "{service}");
    assert_eq!(service["status"], "pending");
    assert_eq!(service["args"], json!([]));
    assert_eq!(service["replicas"], 1);
    assert_eq!(service["requiredCapabilities"], json!(["service-host"]));
    assert_eq!(service["assignments"], json!([]));
    let full = json!({
        "serviceId": "svc-own", "args": ["a.js"], "cwd": "/srv", "env": {"K": "v"}, "replicas": 3,
        "requiredCapabilities": ["b", "a"],
    });
    let service = deploy(&node.wire(), &full);
    assert_eq!(service["id"], "svc-own");
    assert_eq!((&service["args"], &service["cwd"]), (&json!(["a.js"]), &json!("/srv")));
    assert_eq!((&service["env"], &service["replicas"]), (&json!({"K": "v"}), &json!(3)));
    assert_eq!(service["requiredCapabilities"], json!(["a", "b"]));
}

#[test]
fn a_name_and_a_command_are_required() {
    let node = node();
    let wire = node.wire();
    wire.post("/v1/services", &json!({"command": "node"})).refused(400, "name is required");
    wire.post("/v1/services", &json!({"name": "api"})).refused(400, "command is required");
    wire.post("/v1/services", &json!({"name": " ", "command": "node"})).refused(400, "name is required");
    wire.post("/v1/services", &json!({"name": "api", "command": ""})).refused(400, "command is required");
}

#[test]
fn services_are_listed_oldest_first_and_looked_up_by_id() {
    let node = node();
    let wire = node.wire();
    let first = deploy(&wire, &json!({"serviceId": "z"}));
    let second = deploy(&wire, &json!({"serviceId": "a"}));
    assert_eq!(wire.get("/v1/services").ok(), json!({"services": [first, second]}));
    assert_eq!(wire.get("/v1/services/a").ok(), json!({"service": second}));
    wire.get("/v1/services/none").refused(404, "service not found");
}

#[test]
fn a_host_claims_only_what_it_can_run_and_what_lacks_replicas() {
    let node = node();
    let wire = node.wire();
    wire.host("plain", &["shell"], 1);
    wire.host("h1", &["service-host"], 1);
    wire.host("h2", &["service-host"], 1);
    let service = id(&deploy(&wire, &json!({})));
    assert!(claim(&wire, "plain").is_null());
    let claimed = claim(&wire, "h1");
    shape::SERVICE.assert(&claimed);
    assert_eq!(claimed["id"], json!(service));
    assert_eq!(claimed["assignments"][0]["hostId"], "h1");
    assert_eq!(claimed["assignments"][0]["status"], "pending");
    assert!(claim(&wire, "h2").is_null(), "one replica is one replica");
}

#[test]
fn a_host_that_runs_one_service_claims_a_second() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &["service-host"], 1);
    let (first, second) = (id(&deploy(&wire, &json!({}))), id(&deploy(&wire, &json!({"name": "web"}))));
    let one = id(&claim(&wire, "h1"));
    report(&wire, &one, &json!({"hostId": "h1", "status": "running"}));
    let two = id(&claim(&wire, "h1"));
    let mut both = [one, two];
    both.sort();
    let mut want = [first, second];
    want.sort();
    assert_eq!(both, want);
}

#[test]
fn the_first_running_report_sets_the_start_and_the_service_runs() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &["service-host"], 1);
    let service = id(&deploy(&wire, &json!({})));
    claim(&wire, "h1");
    let running = json!({"hostId": "h1", "status": "running", "endpoint": "http://127.0.0.1:3100"});
    let first = report(&wire, &service, &running);
    assert_eq!(first["status"], "running");
    let assignment = &first["assignments"][0];
    assert_eq!(assignment["endpoint"], "http://127.0.0.1:3100");
    assert!(assignment["startedAt"].is_string());
    let moved = json!({"hostId": "h1", "status": "running", "endpoint": "http://127.0.0.1:3101"});
    let again = report(&wire, &service, &moved);
    assert_eq!(again["assignments"][0]["startedAt"], assignment["startedAt"]);
    assert_eq!(again["assignments"][0]["endpoint"], "http://127.0.0.1:3101");
}

#[test]
fn a_service_runs_if_any_replica_does_else_is_pending_if_any_is_else_failed() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &["service-host"], 1);
    wire.host("h2", &["service-host"], 1);
    let service = id(&deploy(&wire, &json!({"replicas": 2})));
    claim(&wire, "h1");
    claim(&wire, "h2");
    let failed = |host: &str| {
        report(&wire, &service, &json!({"hostId": host, "status": "failed", "error": "port taken"}))
    };
    let one = failed("h1");
    assert_eq!(one["status"], "pending");
    assert_eq!(one["assignments"][0]["error"], "port taken");
    let two = report(&wire, &service, &json!({"hostId": "h2", "status": "running"}));
    assert_eq!(two["status"], "running");
    assert_eq!(failed("h2")["status"], "failed");
}

#[test]
fn a_failed_replica_does_not_keep_its_place_from_other_hosts() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &["service-host"], 1);
    wire.host("h2", &["service-host"], 1);
    let service = id(&deploy(&wire, &json!({})));
    claim(&wire, "h1");
    report(&wire, &service, &json!({"hostId": "h1", "status": "failed", "error": "x"}));
    assert_eq!(claim(&wire, "h2")["id"], json!(service));
}

#[test]
fn a_report_on_what_is_unknown_or_elsewhere_is_refused() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &["service-host"], 1);
    let service = id(&deploy(&wire, &json!({})));
    let body = json!({"hostId": "h1", "status": "running"});
    wire.post("/v1/services/svc_none/report", &body).refused(404, "unknown service: svc_none");
    let path = format!("/v1/services/{service}/report");
    wire.post(&path, &body).refused(409, &format!("service {service} is not assigned to host h1"));
    wire.post(&path, &json!({"status": "running"})).refused(400, "hostId is required");
    wire.post(&path, &json!({"hostId": "h1"})).refused(400, "status is required");
    let reply = wire.post(&path, &json!({"hostId": "h1", "status": "fine"})).send();
    assert_eq!(reply.status, 400);
    assert!(reply.error().starts_with("status "), "{}", reply.error());
}
