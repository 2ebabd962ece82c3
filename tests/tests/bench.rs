//! `skyctl bench` against a coordinator, and against one of the reference mesh.

use std::process::Stdio;

use nix::sys::signal::Signal;
use skyclaw_tests::ctl::{Ran, skyctl, skyctl_with};
use skyclaw_tests::process::{Process, command};
use skyclaw_tests::{Coordinator, LONG, Options, TOKEN, Value, wait_until};

use crate::moving::reference::Reference;

const INTERRUPTED: i32 = 130;

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn report(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e} in {text}"))
}

fn ended_well(ran: Ran) -> Value {
    report(&ran.ok())
}

fn operation<'a>(report: &'a Value, name: &str) -> &'a Value {
    let all = report["operations"].as_array().expect("operations");
    all.iter().find(|operation| operation["name"] == name).unwrap_or_else(|| panic!("no {name} in {report}"))
}

fn jobs(node: &Coordinator) -> Vec<Value> {
    node.wire().get("/v1/state").ok()["jobs"].as_array().cloned().expect("jobs")
}

fn hosts(node: &Coordinator) -> Vec<String> {
    let state = node.wire().get("/v1/state").ok();
    let hosts = state["hosts"].as_array().expect("hosts");
    hosts.iter().map(|host| host["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn every_job_is_put_through_and_measured_and_nothing_open_is_left() {
    let node = Options::default().start();
    let line = "bench --jobs 60 --enqueuers 4 --hosts 3 --payload-bytes 400 -o json";
    let report = ended_well(skyctl(&node.url(), &words(line)));
    let run = report["runId"].as_str().expect("an id");
    assert_eq!((&report["accepted"], &report["completed"]), (&60.into(), &60.into()));
    assert_eq!((&report["interrupted"], &report["stalled"]), (&false.into(), &false.into()));
    for name in ["enqueue", "claim", "complete", "enqueueToClaimed"] {
        let measured = operation(&report, name);
        assert_eq!((&measured["count"], &measured["failed"]), (&60.into(), &0.into()), "{report}");
        assert!(measured["perSecond"].as_f64().is_some_and(|rate| rate > 0.0), "{report}");
    }
    for name in ["enqueue", "complete", "enqueueToClaimed"] {
        let latency = &operation(&report, name)["latencyUs"];
        let times = ["p50", "p90", "p99", "max"].map(|name| latency[name].as_u64().expect("a time"));
        assert!(times.is_sorted() && times[0] > 0 && latency["samples"] == 60, "{report}");
    }
    assert_eq!(hosts(&node), Vec::<String>::new());
    let jobs = jobs(&node);
    assert_eq!(jobs.len(), 60);
    for job in &jobs {
        assert_eq!((&job["status"], &job["submittedBy"]), (&"completed".into(), &run.into()), "{job}");
        assert_eq!(job["requirement"]["requiredCapabilities"], serde_json::json!([run]));
        assert_eq!(job["payload"].to_string().len(), 400, "{job}");
    }
    let table = skyctl(&node.url(), &words("bench --jobs 5")).ended(0);
    assert!(table.stdout.starts_with("OPERATION") && table.stdout.contains("enqueueToClaimed"), "{table:?}");
    assert!(!table.stderr.contains('\u{1b}'), "no bar where nobody watches: {table:?}");
}

#[test]
fn separately_every_claim_is_of_a_job_that_was_there() {
    let node = Options::default().start();
    let line = "bench --jobs 40 --enqueuers 4 --hosts 4 --separately -o json";
    let report = ended_well(skyctl(&node.url(), &words(line)));
    assert_eq!(operation(&report, "claim")["latencyUs"]["samples"], 40, "{report}");
}

#[test]
fn further_tries_are_counted_and_not_hidden() {
    let node = Options::default().start();
    let urls = format!("{},http://127.0.0.1:1", node.url());
    let env = [("SKYCLAW_COORDINATOR_URLS", urls.as_str()), ("SKYCLAW_TOKEN", TOKEN)];
    let line = "bench --jobs 10 --enqueuers 2 --hosts 2 -o json";
    let report = ended_well(skyctl_with(&env, &words(line)));
    let claim = operation(&report, "claim");
    let retries = claim["retries"].as_u64().expect("a number");
    assert!(retries > 0, "the second host asks where nobody is first: {report}");
    assert_eq!(claim["errors"]["unreachable"].as_u64(), Some(retries), "{report}");
    assert!(report["firstError"].as_str().is_some_and(|text| text.contains("refused")), "{report}");
    assert_eq!(report["completed"], 10);
}

#[test]
fn coordinators_that_others_use_are_not_loaded_by_a_slip() {
    let node = Options::default().start();
    node.wire().host("other", &["shell"], 4);
    let refused = skyctl(&node.url(), &words("bench --jobs 5")).ended(2);
    assert!(refused.stderr.contains("1 other hosts") && refused.stderr.contains("--yes"), "{refused:?}");
    assert_eq!((jobs(&node).len(), hosts(&node)), (0, vec!["other".to_owned()]));
    skyctl(&node.url(), &words("bench --jobs 5 --yes")).ended(0);
    assert_eq!(hosts(&node), ["other"], "only its own hosts are removed");
    assert!(jobs(&node).iter().all(|job| job["assignedHostId"] != "other"));
    let url = node.url();
    skyctl_with(&[("SKYCLAW_COORDINATOR_URL", &url)], &words("bench")).ended(4);
    skyctl("http://127.0.0.1:1", &words("bench")).ended(5);
}

/// Starts a bench in the background.
fn begun(url: &str, dir: &std::path::Path, line: &str) -> Process {
    let env = [("SKYCLAW_COORDINATOR_URL", url), ("SKYCLAW_TOKEN", TOKEN)];
    let mut command = command("skyctl", dir, env);
    command.args(words(line)).stdin(Stdio::null());
    Process::start("skyctl", dir, command)
}

#[test]
fn an_interrupted_bench_says_what_it_has_and_calls_off_what_is_left() {
    let node = Options::default().start();
    let line = "bench --duration 10m --enqueuers 8 --hosts 1 --max-queued 50 -o json";
    let mut bench = begun(&node.url(), node.data(), line);
    wait_until("some jobs are completed", LONG, || {
        let done = jobs(&node).iter().filter(|job| job["status"] == "completed").count();
        (done >= 5).then_some(())
    });
    bench.signal(Signal::SIGINT);
    assert_eq!(bench.wait(LONG).code(), Some(INTERRUPTED), "{}", bench.stderr());
    let report = report(&bench.stdout());
    assert_eq!(
        (&report["interrupted"], &report["leftBehind"]["jobs"]),
        (&true.into(), &0.into()),
        "{report}"
    );
    assert!(report["completed"].as_u64().is_some_and(|done| done >= 5), "{report}");
    assert_eq!(hosts(&node), Vec::<String>::new());
    let open = jobs(&node)
        .into_iter()
        .filter(|job| !matches!(job["status"].as_str(), Some("completed" | "cancelled")));
    assert_eq!(open.collect::<Vec<_>>(), Vec::<Value>::new());
}

fn statuses(reference: &Reference) -> Vec<String> {
    let state = reference.snapshot();
    let jobs = state["jobs"].as_array().expect("jobs");
    jobs.iter().map(|job| job["status"].as_str().expect("a status").to_owned()).collect()
}

#[test]
fn a_coordinator_of_the_reference_is_measured_too() {
    let reference = Reference::start(Vec::new());
    let line = "bench --jobs 40 --enqueuers 2 --hosts 4 -o json";
    let report = ended_well(skyctl(reference.url(), &words(line)));
    assert_eq!((&report["accepted"], &report["completed"]), (&40.into(), &40.into()));
    let is_waited = report["emptyClaims"] == 0;
    assert_eq!(report["longPoll"], is_waited, "it answers at once that there is nothing: {report}");
    assert_eq!(report["leftBehind"], serde_json::json!({"jobs": 0, "hosts": 4, "unremovable": true}));
    assert_eq!(statuses(&reference), vec!["completed"; 40]);
}

#[test]
fn where_no_job_can_be_called_off_the_hosts_complete_what_is_left() {
    let reference = Reference::start(Vec::new());
    let dir = tempfile::tempdir().expect("a temporary directory");
    let line = "bench --jobs 1000000 --enqueuers 1 --hosts 2 --separately -o json";
    let mut bench = begun(reference.url(), dir.path(), line);
    wait_until("some jobs are queued", LONG, || (statuses(&reference).len() >= 10).then_some(()));
    bench.signal(Signal::SIGINT);
    assert_eq!(bench.wait(LONG).code(), Some(INTERRUPTED), "{}", bench.stderr());
    let statuses = statuses(&reference);
    assert_eq!(statuses, vec!["completed"; statuses.len()]);
    assert_eq!(report(&bench.stdout())["leftBehind"]["jobs"], 0, "{}", bench.stdout());
}
