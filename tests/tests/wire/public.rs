//! The public routes: keys, capabilities, labels, CORS.

use skyclaw_tests::mesh::id;
use skyclaw_tests::{Coordinator, Options, Value, json};

const KEYS: &str = "key-open:acme:openclaw|gpu, key-shell:ops:shell|openclaw:shell ,key-plain:plain:";

fn node() -> Coordinator {
    Options::default().env("SKYCLAW_PUBLIC_API_KEYS", KEYS).start()
}

fn submit(node: &Coordinator, key: &str, body: &Value) -> skyclaw_tests::Reply {
    node.wire().without_token().post("/v1/public/jobs", body).header("x-api-key", key).send()
}

fn openclaw() -> Value {
    json!({"payload": {"kind": "openclaw-run", "args": ["run"]}})
}

fn shell() -> Value {
    json!({"payload": {"kind": "shell", "command": "true"}})
}

#[test]
fn without_keys_the_public_api_is_disabled() {
    let node = Options::default().start();
    let wire = node.wire();
    wire.post("/v1/public/jobs", &openclaw()).refused(503, "public api is disabled");
    wire.get("/v1/public/jobs/job_x").refused(503, "public api is disabled");
}

#[test]
fn a_key_is_taken_from_either_header() {
    let node = node();
    let wire = node.wire().without_token();
    wire.post("/v1/public/jobs", &openclaw()).header("authorization", "Bearer key-open").ok();
    wire.post("/v1/public/jobs", &openclaw()).header("x-api-key", "key-open").ok();
}

#[test]
fn a_missing_or_wrong_key_is_401_and_the_token_is_no_key() {
    let node = node();
    let wire = node.wire();
    for (name, value) in [
        ("x-other", "1"),
        ("x-api-key", "key-ope"),
        ("x-api-key", "key-openn"),
        ("authorization", "key-open"),
        ("authorization", "Bearer "),
        ("authorization", "Basic a2V5LW9wZW46"),
        ("x-api-key", skyclaw_tests::TOKEN),
    ] {
        wire.post("/v1/public/jobs", &openclaw()).header(name, value).refused(401, "invalid api key");
        wire.get("/v1/public/jobs/job_x").header(name, value).refused(401, "invalid api key");
    }
}

#[test]
fn a_public_key_opens_no_core_route() {
    let node = node();
    let stranger = node.wire().with_token("key-open");
    stranger.get("/v1/state").header("x-api-key", "key-open").refused(401, "unauthorized");
}

#[test]
fn without_a_requirement_all_capabilities_of_the_key_are_required() {
    let node = node();
    let answer = submit(&node, "key-open", &openclaw()).ok();
    assert_eq!(answer["job"]["requirement"], json!({"requiredCapabilities": ["gpu", "openclaw"]}));
    let answer = submit(&node, "key-plain", &openclaw()).ok();
    assert_eq!(answer["job"]["requirement"], json!({"requiredCapabilities": ["openclaw"]}));
}

#[test]
fn a_requirement_within_the_key_is_kept_and_one_beyond_it_is_403() {
    let node = node();
    let ask = |caps: &[&str]| {
        let body =
            skyclaw_tests::mesh::with(&openclaw(), &json!({"requirement": {"requiredCapabilities": caps}}));
        submit(&node, "key-open", &body)
    };
    assert_eq!(ask(&["gpu"]).ok()["job"]["requirement"], json!({"requiredCapabilities": ["gpu"]}));
    let sentence = "requested capabilities are not allowed for this api key";
    ask(&["gpu", "shell"]).refused(403, sentence);
    ask(&["GPU"]).refused(403, sentence);
}

#[test]
fn shell_jobs_need_a_rule_that_ends_in_shell() {
    let node = node();
    submit(&node, "key-open", &shell()).refused(403, "shell jobs are not allowed for this api key");
    submit(&node, "key-shell", &shell()).ok();
}

#[test]
fn who_submitted_is_recorded_by_label_and_not_shown_to_the_public() {
    let node = node();
    let body = skyclaw_tests::mesh::with(&openclaw(), &json!({"submittedBy": "somebody else"}));
    let answer = submit(&node, "key-open", &body).ok();
    assert!(answer["job"].get("submittedBy").is_none(), "{answer}");
    let job = id(&answer["job"]);
    assert_eq!(node.wire().job(&job)["submittedBy"], "public:acme");
    let shown = node.wire().without_token().get(&format!("/v1/public/jobs/{job}"));
    let shown = shown.header("x-api-key", "key-open").ok();
    assert!(shown["job"].get("submittedBy").is_none(), "{shown}");
    assert_eq!(shown["job"]["id"], json!(job));
}

#[test]
fn a_job_of_another_label_or_of_the_core_is_not_found() {
    let node = node();
    let wire = node.wire();
    let own = id(&submit(&node, "key-open", &openclaw()).ok()["job"]);
    let core = id(&wire.enqueue());
    let look = |job: &str, key: &str| {
        wire.without_token().get(&format!("/v1/public/jobs/{job}")).header("x-api-key", key).send()
    };
    look(&own, "key-open").ok();
    look(&own, "key-shell").refused(404, "job not found");
    look(&core, "key-open").refused(404, "job not found");
    look("job_none", "key-open").refused(404, "job not found");
}

#[test]
fn a_payload_is_required_here_too() {
    let node = node();
    submit(&node, "key-open", &json!({})).refused(400, "payload is required");
}

#[test]
fn the_same_idempotency_key_of_two_callers_is_two() {
    let node = node();
    let send = |key: &str, body: &Value| {
        let call = node.wire().without_token().post("/v1/public/jobs", body);
        call.header("x-api-key", key).key("k").send()
    };
    let first = send("key-open", &openclaw()).ok();
    assert_eq!(send("key-open", &openclaw()).ok(), first);
    let other = json!({"payload": {"kind": "openclaw-run"}});
    let sentence = "idempotency key reuse conflict for route /v1/public/jobs";
    send("key-open", &other).refused(409, sentence);
    assert_ne!(send("key-shell", &other).ok()["job"]["id"], first["job"]["id"]);
}

#[test]
fn a_public_job_is_run_like_any_other() {
    let node = node();
    let wire = node.wire();
    let job = id(&submit(&node, "key-open", &openclaw()).ok()["job"]);
    wire.host("h1", &["openclaw", "gpu"], 1);
    assert_eq!(wire.claim("h1")["id"], json!(job));
    wire.completion(&job, "h1").ok();
    let shown = wire.get(&format!("/v1/public/jobs/{job}")).header("x-api-key", "key-open").ok();
    assert_eq!(
        (&shown["job"]["status"], &shown["job"]["result"]["stdout"]),
        (&json!("completed"), &json!("out"))
    );
}

fn list(reply: &skyclaw_tests::Reply, header: &str) -> Vec<String> {
    let mut parts: Vec<_> = reply
        .header(header)
        .unwrap_or_default()
        .split(',')
        .map(|part| part.trim().to_ascii_lowercase())
        .collect();
    parts.sort();
    parts
}

#[test]
fn a_preflight_is_answered_204_with_what_is_allowed() {
    let node = node();
    for path in ["/v1/public/jobs", "/v1/public/jobs/job_x"] {
        let call = node.wire().without_token().call("OPTIONS", path);
        let reply = call
            .header("origin", "https://app.example")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type,x-api-key")
            .send();
        assert_eq!((reply.status, reply.text.as_str()), (204, ""), "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
        assert_eq!(list(&reply, "access-control-allow-methods"), ["get", "options", "post"]);
        assert_eq!(
            list(&reply, "access-control-allow-headers"),
            ["authorization", "content-type", "x-api-key", "x-idempotency-key"]
        );
    }
}

#[test]
fn every_public_answer_names_the_allowed_origin_errors_included() {
    let node = Options::default()
        .env("SKYCLAW_PUBLIC_API_KEYS", KEYS)
        .env("SKYCLAW_PUBLIC_CORS_ORIGIN", "https://app.example")
        .start();
    let replies = [
        submit(&node, "key-open", &openclaw()),
        submit(&node, "wrong", &openclaw()),
        submit(&node, "key-open", &json!({})),
        node.wire().get("/v1/public/jobs/job_x").header("x-api-key", "key-open").send(),
        node.wire().call("OPTIONS", "/v1/public/jobs").send(),
    ];
    for reply in replies {
        assert_eq!(
            reply.header("access-control-allow-origin"),
            Some("https://app.example"),
            "{} {}",
            reply.status,
            reply.text
        );
    }
    let core = node.wire().get("/v1/state").send();
    assert_eq!(core.header("access-control-allow-origin"), None, "core routes are not for browsers");
}
