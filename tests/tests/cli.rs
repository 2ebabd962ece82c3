//! `skyctl` as an operator and a script use it.

use std::process::Stdio;

use nix::sys::signal::Signal;
use skyclaw_tests::ctl::{skyctl, skyctl_with};
use skyclaw_tests::mesh::id;
use skyclaw_tests::process::{Process, command};
use skyclaw_tests::{Coordinator, Host, LONG, Options, TOKEN, Value, json, wait_until};

const NOT_RUN: i32 = 125;
const INTERRUPTED: i32 = 130;

fn node() -> Coordinator {
    Options::default().env("SKYCLAW_LEASE_MS", "60000").start()
}

/// Where nobody listens.
const NOBODY: &str = "http://127.0.0.1:1";

fn yaml_or_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e} in {text}"))
}

#[test]
fn submit_and_wait_prints_the_output_and_ends_as_the_job_did() {
    let node = node();
    let _host = Host::start(&node.url(), "h1", &[]);
    let run = |words: &[&str]| skyctl(&node.url(), &[&["job", "submit", "--wait", "--"], words].concat());
    let good = run(&["echo", "hello", "--wait"]).ended(0);
    assert_eq!(good.stdout, "hello --wait\n");
    let bad = run(&["sh", "-c", "echo out; echo err >&2; exit 7"]).ended(7);
    assert_eq!(bad.stdout, "out\n");
    assert!(bad.stderr.contains("err\n"), "{}", bad.stderr);
    let refused = run(&["ls"]).ended(126);
    assert!(refused.stderr.contains("command not allowed: ls"), "{}", refused.stderr);
}

#[test]
fn what_submit_is_told_reaches_the_job() {
    let node = node();
    let words = "job submit --capability a --capability b --timeout 1500ms --env A=1 --env B=x=y --cwd /tmp \
                 --priority 7 --label team=core --submitted-by me -- prog -x";
    let job = skyctl(&node.url(), &words.split_whitespace().collect::<Vec<_>>()).ok();
    let job = node.wire().job(job.trim());
    assert_eq!(
        job["payload"],
        json!({"kind": "shell", "command": "prog", "args": ["-x"], "cwd": "/tmp",
               "env": {"A": "1", "B": "x=y"}, "timeoutMs": 1500})
    );
    assert_eq!(job["requirement"]["requiredCapabilities"], json!(["a", "b"]));
    assert_eq!((&job["priority"], &job["submittedBy"]), (&json!(7), &json!("me")));
    assert_eq!(job["labels"], json!({"team": "core"}));
}

#[test]
fn an_operator_schedules_pauses_triggers_and_deletes() {
    let node = node();
    let create = |name: &str, cron: &str, more: &[&str]| {
        let line = ["schedule", "create", name, "--cron", cron, "--time-zone", "Europe/Berlin"];
        skyctl(&node.url(), &[&line, more, &["--label", "team=a", "--", "echo", "good night"]].concat())
    };
    let id = create("nightly", "30 2 * * *", &["--overlap", "queue", "--catch-up", "5m"]).ok();
    assert!(id.starts_with("sched_"), "{id}");
    let twice = create("nightly", "@daily", &[]).ended(1);
    assert!(twice.stderr.contains("a schedule named nightly is there already"), "{}", twice.stderr);
    let wrong = create("other", "30 25 * * *", &[]).ended(1);
    assert!(wrong.stderr.contains("Number out of bounds"), "{}", wrong.stderr);
    assert!(create("other", "@daily", &["--wait"]).ended(2).stderr.contains("--wait"));

    let run = |line: &str| skyctl(&node.url(), &line.split_whitespace().collect::<Vec<_>>());
    let list = run("schedule list").ok();
    assert!(list.lines().count() == 2 && list.contains("active") && list.contains("30 2 * * *"), "{list}");
    let job = run("schedule trigger nightly").ok();
    let job = node.wire().job(job.trim());
    assert_eq!(job["scheduleId"], id.trim());
    assert_eq!(job["labels"], json!({"team": "a", "skyclaw/schedule": "nightly"}));
    let waits = run("schedule trigger nightly").ended(0);
    assert!(waits.stderr.contains("is submitted as soon as job_"), "{}", waits.stderr);
    assert!(run("schedule trigger nightly").ended(1).stderr.contains("another waits for that already"));
    let paused = run("schedule pause nightly --reason odd").ok();
    assert!(paused.contains("paused") && paused.contains("odd"), "{paused}");
    let shown = run("schedule get nightly").ok();
    assert!(shown.contains("triggered by ") && shown.contains(" (as stated) in request "), "{shown}");
    assert!(run("schedule resume nightly").ok().contains("active"));
    let shown = yaml_or_json(&run("schedule get nightly -o json").ok());
    assert_eq!((&shown["overlap"], &shown["catchUpMs"]), (&json!("queue"), &json!(300_000)));
    assert!(run("schedule delete nightly").ok().contains("nightly"));
    assert!(run("schedule get nightly").ended(3).stderr.contains("schedule not found"));
    assert!(run("schedule delete nightly").ended(3).stderr.contains("unknown schedule: nightly"));
}

#[test]
fn an_operator_freezes_thaws_drains_and_decides() {
    let node = Options::default().env("SKYCLAW_LEASE_MS", "300").start();
    let wire = node.wire();
    wire.host("h1", &[], 4);
    let run = |line: &str| skyctl(&node.url(), &line.split_whitespace().collect::<Vec<_>>());
    let frozen = run("freeze --agent bot --reason odd").ok();
    assert!(frozen.contains("agent bot") && frozen.contains("odd"), "{frozen}");
    let nobodys = run("thaw").ended(3);
    assert!(
        nobodys.stderr.contains("there is no freeze of everything: frozen are freeze_"),
        "{}",
        nobodys.stderr
    );
    assert_eq!(run("freeze list").ok().lines().count(), 2);
    assert!(run("thaw --agent bot").ok().contains("thawed"));
    assert_eq!(run("freeze list").ok().lines().count(), 1);
    assert!(run("freeze list --all").ok().contains("thawed"));

    let drained = run("host drain h1 --deadline 10m --reason disk").ok();
    assert!(drained.contains("draining") && drained.contains("disk"), "{drained}");
    assert!(run("host list").ok().contains("draining"));
    assert!(run("host get h1").ok().contains("until 20"));
    assert!(run("host undrain h1").ok().contains("up"));
    assert!(run("host remove h1").ended(1).stderr.contains("host h1 is up"));

    let job = run("job submit --on-lost hold --agent bot -- prog").ok();
    let job = job.trim();
    wire.host("h1", &["shell"], 4);
    wire.claim("h1");
    wait_until("it is lost", LONG, || (wire.job(job)["status"] == "lost").then_some(()));
    let shown = run(&format!("job get {job}")).ok();
    for word in ["lost", "hold", "bot", "claimed h1", "attempt 1", "lease_expired"] {
        assert!(shown.contains(word), "{word} in {shown}");
    }
    assert!(run(&format!("job resolve {job} --complete --reason seen")).ok().contains("completed"));
    let json = yaml_or_json(&run(&format!("job get {job} -o json")).ok());
    let kinds: Vec<_> = json["events"].as_array().expect("events").iter().map(|e| &e["kind"]).collect();
    assert_eq!(kinds, ["submitted", "claimed", "lease_expired", "lost", "resolved", "completed"]);
    let by = |event: usize, field: &str| json["events"][event]["by"][field].clone();
    assert_eq!((by(2, "kind"), by(2, "nodeId")), (json!("coordinator"), json!("node-a")));
    assert_eq!(by(4, "kind"), "client");
    assert!(by(4, "stated").as_str().is_some_and(|name| name.contains('@')), "{json}");
    assert!(run(&format!("job resolve {job} --fail")).ended(1).stderr.contains("is not lost but completed"));
    wire.host("h2", &[], 1);
    run("host remove h2 --force").ended(0);
    assert_eq!(wire.get("/v1/hosts").ok()["hosts"].as_array().map(Vec::len), Some(1));
}

#[test]
fn the_commands_of_the_reference_send_and_print_what_it_does() {
    let node = node();
    let only_id = |args: &[&str], prefix: &str| {
        let out = skyctl(&node.url(), args).ok();
        let id = out.strip_suffix('\n').expect("a line").to_owned();
        assert!(skyclaw_tests::shape::is_id(&id, prefix), "{out:?}");
        id
    };
    let shell = only_id(&["enqueue-shell", "bash", "-lc", "echo hello", "--help"], "job_");
    let job = node.wire().job(&shell);
    assert_eq!(
        job["payload"],
        json!({"kind": "shell", "command": "bash", "args": ["-lc", "echo hello", "--help"]})
    );
    assert_eq!(job["requirement"], json!({"requiredCapabilities": ["shell"]}));
    let openclaw = only_id(&["enqueue-openclaw", "run"], "job_");
    let job = node.wire().job(&openclaw);
    assert_eq!(job["payload"], json!({"kind": "openclaw-run", "args": ["run"]}));
    assert_eq!(job["requirement"], json!({"requiredCapabilities": ["openclaw"]}));
    let service = only_id(&["deploy-service", "api", "node", "-e", "0"], "svc_");
    let services = node.wire().get("/v1/services").ok();
    assert_eq!(services["services"][0]["id"], json!(service));
    assert_eq!(services["services"][0]["args"], json!(["-e", "0"]));
    let listed = skyctl(&node.url(), &["list-services"]).ok();
    assert_eq!(yaml_or_json(&listed), services);
    assert!(listed.starts_with("{\n  \"services\": [\n    {\n"), "{listed}");
}

#[test]
fn lists_are_plain_in_a_pipe_and_json_or_yaml_on_request() {
    let node = node();
    let jobs: Vec<_> = (0..3).map(|_| id(&node.wire().enqueue())).collect();
    let table = skyctl(&node.url(), &["job", "list"]).ok();
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 4, "a header and three jobs:\n{table}");
    assert!(table.is_ascii() && !table.contains(['|', '\u{1b}']), "{table}");
    for (line, job) in lines[1..].iter().zip(jobs.iter().rev()) {
        assert!(line.contains(job.as_str()) && line.contains("queued"), "{line}");
    }
    let found = yaml_or_json(&skyctl(&node.url(), &["job", "list", "-o", "json"]).ok());
    assert_eq!(found["jobs"].as_array().map(Vec::len), Some(3));
    let yaml = skyctl(&node.url(), &["-o", "yaml", "job", "get", &jobs[0]]).ok();
    assert!(yaml.contains(&format!("id: {}\n", jobs[0])) && yaml.contains("status: queued\n"), "{yaml}");
    let mut one = yaml_or_json(&skyctl(&node.url(), &["-o", "json", "job", "get", &jobs[0]]).ok());
    let events = one.as_object_mut().and_then(|job| job.remove("events")).expect("events");
    assert_eq!(events[0]["kind"], "submitted");
    assert_eq!(one, node.wire().job(&jobs[0]));
}

#[test]
fn a_list_can_be_narrowed() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 1);
    let first = id(&wire.enqueue_with(&json!({"labels": {"team": "a"}, "submittedBy": "ann"})));
    let second = id(&wire.enqueue_with(&json!({"labels": {"team": "b"}})));
    wire.claim("h1");
    let list = |args: &[&str]| {
        let all = [&["job", "list", "-o", "json"], args].concat();
        let found = yaml_or_json(&skyctl(&node.url(), &all).ok());
        found["jobs"].as_array().expect("jobs").iter().map(id).collect::<Vec<_>>()
    };
    assert_eq!(list(&["--status", "leased"]), [first.as_str()]);
    assert_eq!(list(&["--host", "h1"]), [first.as_str()]);
    assert_eq!(list(&["--label", "team=b"]), [second.as_str()]);
    assert_eq!(list(&["--submitter", "ann"]), [first.as_str()]);
    assert_eq!(list(&["--limit", "1"]), [second.as_str()]);
    assert_eq!(list(&["--all"]), [second.as_str(), first.as_str()]);
}

#[test]
fn hosts_services_and_the_state_can_be_looked_at() {
    let node = node();
    node.wire().host("h1", &["a"], 3);
    skyctl(&node.url(), &["deploy-service", "api", "node"]).ended(0);
    let hosts = skyctl(&node.url(), &["host", "list"]).ok();
    assert!(hosts.contains("h1"), "{hosts}");
    let host = yaml_or_json(&skyctl(&node.url(), &["host", "get", "h1", "-o", "json"]).ok());
    assert_eq!(host["maxParallel"], 3);
    let service = yaml_or_json(&skyctl(&node.url(), &["service", "get", "api", "-o", "json"]).ok());
    assert_eq!(service["name"], "api");
    let state = yaml_or_json(&skyctl(&node.url(), &["state", "export"]).ok());
    assert_eq!(state, node.wire().get("/v1/state").ok());
    let file = node.data().join("state.json").display().to_string();
    skyctl(&node.url(), &["state", "export", "--output", &file]).ended(0);
    assert_eq!(yaml_or_json(&std::fs::read_to_string(file).expect("a file")), state);
}

#[test]
fn the_beginning_of_an_id_is_enough_when_only_one_has_it() {
    let node = node();
    let wire = node.wire();
    // Chosen ids, so that it is known what they begin with.
    let record = |id: &str| {
        json!({"id": id, "createdAt": "2026-01-01T00:00:00.000Z", "updatedAt": "2026-01-01T00:00:00.000Z",
               "updatedBy": "r", "version": 1, "status": "queued", "attempts": 0,
               "requirement": {"requiredCapabilities": []}, "payload": {"kind": "openclaw-run"}})
    };
    let jobs = json!([record("job_aa11"), record("job_aa22"), record("job_bb33")]);
    wire.post("/v1/replicate/snapshot", &json!({"nodeId": "r", "jobs": jobs})).ok();
    let get = |wanted: &str| skyctl(&node.url(), &["-o", "json", "job", "get", wanted]);
    for wanted in ["job_bb33", "job_b", "bb"] {
        assert_eq!(yaml_or_json(&get(wanted).ok())["id"], "job_bb33");
    }
    let ambiguous = get("job_aa").ended(2).stderr;
    assert!(ambiguous.contains("job_aa11") && ambiguous.contains("job_aa22"), "{ambiguous}");
    let none = get("cc").ended(3).stderr;
    assert!(none.contains("cc"), "{none}");
}

#[test]
fn the_exit_code_says_what_went_wrong_and_the_text_what_to_do() {
    let node = node();
    let url = node.url();
    let usage = skyctl(&url, &["job", "list", "--colour"]).ended(2);
    assert!(usage.stderr.contains("--colour"), "{}", usage.stderr);
    skyctl(&url, &["job", "submit"]).ended(2);
    skyctl(&url, &["job", "submit", "--timeout", "long", "--", "x"]).ended(2);
    skyctl(&url, &["job", "get", "job_none"]).ended(3);
    skyctl(&url, &["host", "get", "none"]).ended(3);
    skyctl(&url, &["service", "get", "none"]).ended(3);
    skyctl(&url, &["job", "cancel", "job_none"]).ended(3);
    for env in [
        &[("SKYCLAW_COORDINATOR_URL", url.as_str())][..],
        &[("SKYCLAW_COORDINATOR_URL", &url), ("SKYCLAW_TOKEN", "no")],
    ] {
        let refused = skyctl_with(env, &["job", "list"]).ended(4);
        assert!(refused.stderr.contains("SKYCLAW_TOKEN"), "{}", refused.stderr);
    }
    let nobody = skyctl(NOBODY, &["job", "list"]).ended(5);
    assert!(nobody.stderr.contains(NOBODY) && nobody.stderr.contains("skyclawd"), "{}", nobody.stderr);
    let wrong = skyctl("ftp://a", &["job", "list"]).ended(2);
    assert!(wrong.stderr.contains("SKYCLAW_COORDINATOR_URL"), "{}", wrong.stderr);
}

#[test]
fn the_settings_in_effect_are_printed_with_where_they_are_from() {
    let env = [("SKYCLAW_COORDINATOR_URL", "http://one"), ("SKYCLAW_DEADLINE_MS", "5")];
    let printed = skyctl_with(&env, &["--print-config", "--coordinator", "http://a,http://b"]).ok();
    for line in [
        "coordinator_url = \"http://one\"  # SKYCLAW_COORDINATOR_URL",
        "coordinator_urls = [\"http://a\", \"http://b\"]  # --coordinator",
        "# token is not set (SKYCLAW_TOKEN)",
        "deadline_ms = 5  # SKYCLAW_DEADLINE_MS",
        "log = \"warn\"  # default",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line} is not in {printed}");
    }
    let wrong = skyctl_with(&[("SKYCLAW_DEADLINE_MS", "soon")], &["--print-config"]).ended(2);
    assert!(
        wrong.stderr.contains("SKYCLAW_DEADLINE_MS") && wrong.stderr.contains("soon"),
        "{}",
        wrong.stderr
    );
    let nothing = skyctl_with(&[], &["-o", "json"]).ended(2);
    assert!(nothing.stderr.contains("--help"), "{}", nothing.stderr);
}

#[test]
fn errors_go_to_stderr_alone() {
    let node = node();
    for args in [&["job", "get", "job_none"][..], &["nonsense"], &["host", "get", "x"]] {
        let ran = skyctl(&node.url(), args);
        assert_eq!(ran.stdout, "", "{args:?}");
        assert!(!ran.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn a_coordinator_that_is_down_is_passed_over() {
    let node = node();
    let urls = format!("{NOBODY},{}", node.url());
    let env = [("SKYCLAW_COORDINATOR_URLS", urls.as_str()), ("SKYCLAW_TOKEN", TOKEN)];
    let job = skyctl_with(&env, &["enqueue-shell", "true"]).ok();
    assert_eq!(node.wire().job(job.trim())["status"], "queued");
}

#[test]
fn the_same_idempotency_key_gives_the_same_job() {
    let node = node();
    let submit = || skyctl(&node.url(), &["job", "submit", "--idempotency-key", "k", "--", "true"]).ok();
    assert_eq!(submit(), submit());
}

#[test]
fn jobs_are_tied_to_each_other_by_flags_and_shown_and_explained_so() {
    let node = node();
    let submit = |flags: &[&str]| {
        let submitted = skyctl(&node.url(), &[&["job", "submit"], flags, &["--", "true"]].concat()).ok();
        submitted.trim().to_owned()
    };
    let first = submit(&["--unique-key", "nightly"]);
    assert_eq!(submit(&["--unique-key", "nightly"]), first);
    let flags = ["--depends-on", &first, "--on-dependency-failure", "skip", "--concurrency-key", "db"];
    let second = submit(&flags);
    let shown = skyctl(&node.url(), &["job", "get", &second]).ok();
    for line in ["depends on", "waits for", "db, 1 at once", "skip"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let explained = skyctl(&node.url(), &["job", "explain", &second]).ok();
    assert!(explained.contains(&format!("it waits for job {first}")), "{explained}");
    assert!(explained.contains("no host is registered"), "{explained}");
    skyctl(&node.url(), &["job", "cancel", &first]).ended(0);
    assert_eq!(node.wire().job(&second)["status"], "cancelled");
}

#[test]
fn a_queued_job_can_be_cancelled_and_who_waits_for_it_is_told() {
    let node = node();
    let job = id(&node.wire().enqueue());
    skyctl(&node.url(), &["job", "cancel", &job]).ended(0);
    assert_eq!(node.wire().job(&job)["status"], "cancelled");
    skyctl(&node.url(), &["job", "wait", &job]).ended(NOT_RUN);
}

#[test]
fn an_interrupted_wait_leaves_the_job_alone_and_says_how_to_cancel_it() {
    let node = node();
    let wire = node.wire();
    let url = node.url();
    let env = [("SKYCLAW_COORDINATOR_URL", url.as_str()), ("SKYCLAW_TOKEN", TOKEN)];
    let mut wait = command("skyctl", node.data(), env);
    wait.args(["job", "submit", "--wait", "--", "true"]).stdin(Stdio::null());
    let mut waiting = Process::start("skyctl", node.data(), wait);
    let job = wait_until("the job is submitted", LONG, || {
        let jobs = wire.get("/v1/jobs").ok();
        jobs["jobs"].as_array().and_then(|jobs| jobs.first().map(id))
    });
    wait_until("skyctl listens for Ctrl-C", LONG, || waiting.catches(Signal::SIGINT).then_some(()));
    waiting.signal(Signal::SIGINT);
    let status = waiting.wait(LONG);
    assert_eq!(status.code(), Some(INTERRUPTED), "{}", waiting.stderr());
    assert!(waiting.stderr().contains(&format!("skyctl job cancel {job}")), "{}", waiting.stderr());
    assert_eq!(wire.job(&job)["status"], "queued");
}

#[test]
fn every_shell_gets_its_completions_and_every_command_its_help() {
    for shell in ["bash", "zsh", "fish"] {
        let script = skyctl(NOBODY, &["completions", shell]).ok();
        assert!(script.contains("enqueue-shell"), "{shell}");
    }
    for args in [&["--help"][..], &["job", "--help"], &["job", "submit", "--help"], &["demo", "--help"]] {
        assert!(skyctl(NOBODY, args).ok().contains("Usage:"), "{args:?}");
    }
    let help = skyctl(NOBODY, &["--help"]).ok();
    for text in ["Examples:", "SKYCLAW_TOKEN", "Exit codes:"] {
        assert!(help.contains(text), "{text} is not in {help}");
    }
}

#[test]
fn the_demo_runs_a_real_job_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let path = temporary.path().display().to_string();
    let ran = skyctl_with(&[("TMPDIR", &path)], &["demo"]).ended(0);
    assert!(ran.stdout.contains("hello from skyclaw"), "{}", ran.stdout);
    assert!(ran.stdout.contains("completed"), "{}", ran.stdout);
    let left: Vec<_> = std::fs::read_dir(temporary.path()).expect("a directory").collect();
    assert!(left.is_empty(), "{left:?}");
    let lines = skyclaw_tests::process::command_lines();
    assert!(lines.iter().all(|line| !line.contains(&path)), "{lines:?}");
}
