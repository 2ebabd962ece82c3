//! Jobs that have ended are forgotten by a running coordinator, and nothing is done twice for it.

use skyclaw_tests::ctl::skyctl;
use skyclaw_tests::mesh::id;
use skyclaw_tests::stream::kept;
use skyclaw_tests::{Cluster, LONG, Options, Value, Wire, json, wait_until};

/// A job that was done by `h1`.
fn done(wire: &Wire, extra: &Value) -> String {
    let job = id(&wire.enqueue_with(extra));
    assert_eq!(wire.claim("h1")["id"], json!(job));
    wire.completion(&job, "h1").ok();
    job
}

/// The ids of all jobs there are, oldest first.
fn there_are(wire: &Wire) -> Vec<String> {
    let listed = wire.get("/v1/jobs?limit=1000").ok();
    listed["jobs"].as_array().expect("jobs").iter().rev().map(id).collect()
}

#[track_caller]
fn wait_for(wire: &Wire, wanted: &[String]) {
    wait_until("only what is to be kept is left", LONG, || (there_are(wire) == wanted).then_some(()));
}

/// How many jobs events tell to be forgotten.
fn told(url: &str) -> u64 {
    let counts = kept(url, "kind=retention&after=0").into_iter().map(|sent| {
        assert_eq!((sent.event.as_str(), &sent.data["type"]), ("retention", &json!("pruned")));
        let detail = sent.data["detail"].as_str().expect("a detail").to_owned();
        detail.split(' ').next().and_then(|count| count.parse::<u64>().ok()).expect("a number")
    });
    counts.sum()
}

fn metric(wire: &Wire, name: &str) -> f64 {
    let text = wire.get("/metrics").send().text;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[test]
fn of_too_many_the_oldest_are_forgotten_and_who_asks_is_told_so() {
    let mut node = Options::default().env("SKYCLAW_JOB_RETENTION_MAX", "5").start();
    let wire = node.wire();
    wire.host("h1", &[], 1);
    let long = done(&wire, &json!({"retainMs": 3_600_000}));
    let key = "the-first";
    let body = json!({"payload": {"kind": "shell", "command": "true"}});
    let first = wire.post("/v1/jobs", &body).key(key).ok();
    let keyed = id(&first["job"]);
    wire.claim("h1");
    wire.completion(&keyed, "h1").ok();
    let usual: Vec<String> = (0..20).map(|_| done(&wire, &json!({"labels": {"team": "a"}}))).collect();
    let queued = id(&wire.enqueue());
    let left = [std::slice::from_ref(&long), &usual[16..], std::slice::from_ref(&queued)].concat();
    wait_for(&wire, &left);
    let unknown = format!("unknown job: {keyed}");
    wire.get(&format!("/v1/jobs/{keyed}")).refused(404, &unknown);
    wire.get(&format!("/v1/jobs/{keyed}/events")).refused(404, &unknown);
    wire.completion(&keyed, "h1").refused(404, &unknown);
    let shown = skyctl(&node.url(), &["job", "get", &keyed]).ended(3);
    assert!(shown.stderr.contains("has ended and was kept long enough"), "{}", shown.stderr);
    let labelled = wire.get("/v1/jobs?label=team%3Da").ok();
    assert_eq!(labelled["jobs"].as_array().map(Vec::len), Some(4));
    assert_eq!(told(&node.url()), 17);
    assert_eq!(metric(&wire, "skyclaw_jobs_pruned_total{reason=\"count\"}"), 17.0);
    // The same request again makes no second job of it.
    assert_eq!(wire.post("/v1/jobs", &body).key(key).ok(), first);
    assert_eq!(there_are(&wire), left);
    node.kill9();
    node.restart();
    let wire = node.wire();
    assert_eq!(there_are(&wire), left);
    assert_eq!(wire.post("/v1/jobs", &body).key(key).ok(), first);
    wait_until("what is kept was counted", LONG, || {
        (metric(&wire, "skyclaw_jobs_finished") == 5.0).then_some(())
    });
}

#[test]
fn what_ended_long_enough_ago_is_forgotten_at_every_coordinator() {
    // Shorter than jobs are left alone in any case.
    let cluster = Cluster::start_with(3, |options| options.env("SKYCLAW_JOB_RETENTION_MS", "1"));
    let wire = cluster.wire(0);
    wire.host("h1", &[], 1);
    let long = done(&wire, &json!({"retainMs": 3_600_000}));
    (0..10).for_each(|_| drop(done(&wire, &json!({}))));
    let queued = id(&wire.enqueue());
    let left = [long, queued];
    for (wire, url) in cluster.wires().iter().zip(cluster.urls()) {
        wait_for(wire, &left);
        assert_eq!(told(&url), 10);
    }
}

#[test]
fn a_bound_is_a_number_or_never_and_nothing_else() {
    for (name, value) in [("SKYCLAW_JOB_RETENTION_MS", "0"), ("SKYCLAW_JOB_RETENTION_MAX", "all")] {
        let dir = tempfile::tempdir().expect("a directory");
        let refused = Options::default().env(name, value).refused_in(dir.path());
        assert!(refused.said.contains(name) && refused.said.contains("or never"), "{}", refused.said);
    }
    let forever = ["SKYCLAW_JOB_RETENTION_MS", "SKYCLAW_JOB_RETENTION_MAX"];
    let options = forever.iter().fold(Options::default(), |options, name| options.env(name, "never"));
    let node = options.start();
    let job = id(&node.wire().enqueue());
    assert_eq!(id(&node.wire().job(&job)), job);
}
