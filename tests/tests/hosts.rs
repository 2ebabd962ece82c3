//! Hosts that run work: its results, its limits, and what becomes of it when something dies.

use std::fs;
use std::path::Path;
use std::time::Duration;

use skyclaw_tests::mesh::id;
use skyclaw_tests::{Coordinator, Host, LONG, Options, Value, json, process, wait_until};

/// Long enough that no lease runs out while a test of something else goes on.
fn node() -> Coordinator {
    Options::default().env("SKYCLAW_LEASE_MS", "60000").start()
}

fn script(text: &str) -> Value {
    json!({"payload": {"kind": "shell", "command": "sh", "args": ["-c", text], "timeoutMs": 60_000}})
}

fn submit(node: &Coordinator, text: &str) -> String {
    id(&node.wire().enqueue_with(&script(text)))
}

#[track_caller]
fn ended(node: &Coordinator, job: &str) -> Value {
    wait_until("the job has ended", LONG, || {
        Some(node.wire().job(job)).filter(|job| !matches!(job["status"].as_str(), Some("queued" | "leased")))
    })
}

#[track_caller]
fn exists(path: &Path) {
    wait_until(&format!("{} is there", path.display()), LONG, || path.exists().then_some(()));
}

/// A text that a job has in its command line and nothing else has.
fn mark(node: &Coordinator) -> String {
    format!("1000.{}", node.address().ip().to_string().replace('.', ""))
}

#[track_caller]
fn gone(mark: &str) {
    wait_until("every process of the job is gone", LONG, || {
        process::command_lines().iter().all(|line| !line.contains(mark)).then_some(())
    });
}

#[test]
fn a_job_is_run_and_its_output_and_exit_code_come_back() {
    let node = node();
    let _host = Host::start(&node.url(), "h1", &[]);
    let good = ended(&node, &submit(&node, "echo out; echo err >&2"));
    assert_eq!((&good["status"], &good["assignedHostId"]), (&json!("completed"), &json!("h1")));
    let result = &good["result"];
    assert_eq!((&result["stdout"], &result["stderr"]), (&json!("out\n"), &json!("err\n")));
    assert_eq!(result["exitCode"], 0);
    let bad = ended(&node, &submit(&node, "echo out; exit 3"));
    assert_eq!((&bad["status"], &bad["result"]["exitCode"]), (&json!("failed"), &json!(3)));
    assert_eq!(bad["result"]["stdout"], "out\n");
}

#[test]
fn jobs_run_in_the_order_of_what_they_depend_on_also_when_the_coordinator_dies_in_between() {
    let mut node = node();
    let _host = Host::start(&node.url(), "h1", &[("SKYCLAW_MAX_PARALLEL", "4")]);
    let (log, gate) = (node.data().join("order"), node.data().join("gate"));
    let step = |node: &Coordinator, name: &str, on: &[&str]| {
        let wait = format!("until [ -e {} ]; do sleep 0.01; done; ", gate.display());
        let wait = if name == "b" { wait.as_str() } else { "" };
        let mut body = script(&format!("{wait}echo {name} >> {}", log.display()));
        body["dependsOn"] = json!(on);
        id(&node.wire().enqueue_with(&body))
    };
    let a = step(&node, "a", &[]);
    let (b, c) = (step(&node, "b", &[&a]), step(&node, "c", &[&a]));
    let d = step(&node, "d", &[&b, &c]);
    assert_eq!(ended(&node, &c)["status"], "completed");
    node.kill9();
    node.restart();
    assert_eq!(node.wire().job(&d)["waitsFor"], json!([b]));
    fs::write(&gate, "").expect("the gate opens");
    for job in [&a, &b, &c, &d] {
        let job = ended(&node, job);
        assert_eq!((&job["status"], &job["attempts"]), (&json!("completed"), &json!(1)), "{job}");
    }
    assert_eq!(fs::read_to_string(&log).expect("what was run"), "a\nc\nb\nd\n");
}

#[test]
fn a_command_off_the_list_is_not_started() {
    let node = node();
    let _host = Host::start(&node.url(), "h1", &[]);
    let trap = node.data().join("trap");
    let body = json!({"payload": {"kind": "shell", "command": "touch", "args": [trap]}});
    let job = ended(&node, &id(&node.wire().enqueue_with(&body)));
    assert_eq!((&job["status"], &job["result"]["exitCode"]), (&json!("failed"), &json!(126)));
    assert_eq!(job["error"], "command not allowed: touch");
    assert!(!trap.exists());
}

#[test]
fn a_job_that_takes_too_long_is_stopped_with_all_its_children() {
    let node = node();
    let _host = Host::start(&node.url(), "h1", &[]);
    let mark = mark(&node);
    let mut body = script(&format!("sleep {mark} & sh -c 'trap \"\" TERM; sleep {mark}; sleep {mark}'"));
    body["payload"]["timeoutMs"] = json!(500);
    let job = ended(&node, &id(&node.wire().enqueue_with(&body)));
    assert_eq!((&job["status"], &job["error"]), (&json!("failed"), &json!("timed out after 500ms")));
    gone(&mark);
}

#[test]
fn output_beyond_the_bound_is_cut_and_marked() {
    let node = node();
    let _host = Host::start(&node.url(), "h1", &[("SKYCLAW_MAX_OUTPUT_BYTES", "1000")]);
    let job = ended(&node, &submit(&node, "head -c 300000 /dev/zero | tr '\\0' x; echo short >&2"));
    let stdout = job["result"]["stdout"].as_str().expect("output");
    assert!(stdout.len() <= 1000, "{}", stdout.len());
    assert!(stdout.starts_with("xxx") && stdout.contains("\n[output truncated]\n"), "{stdout}");
    assert_eq!(job["result"]["stderr"], "short\n");
}

#[test]
fn output_that_grows_when_it_is_encoded_still_arrives() {
    let node = node();
    let _host = Host::start(&node.url(), "h1", &[("SKYCLAW_MAX_OUTPUT_BYTES", "900000")]);
    // Each byte takes six in JSON: more than a request may hold.
    let job = ended(&node, &submit(&node, "head -c 800000 /dev/zero | tr '\\0' '\\1'"));
    assert_eq!(job["status"], "completed");
    assert!(job["result"]["stdout"].as_str().is_some_and(|out| out.contains("[output truncated]")));
}

#[test]
fn as_many_jobs_run_at_once_as_the_host_may() {
    let node = node();
    let _host = Host::start(&node.url(), "h1", &[("SKYCLAW_MAX_PARALLEL", "4")]);
    let meeting = node.data().join("meeting");
    fs::create_dir(&meeting).expect("a directory");
    // Each waits for all the others: in turn, none would ever end.
    let text = format!(
        "cd {}; touch $$; while [ $(ls | wc -l) -lt 4 ]; do sleep 0.05; done; echo met",
        meeting.display()
    );
    let jobs: Vec<_> = (0..4).map(|_| submit(&node, &text)).collect();
    for job in jobs {
        assert_eq!(ended(&node, &job)["result"]["stdout"], "met\n");
    }
}

#[test]
fn a_running_job_that_is_cancelled_is_stopped() {
    let node = node();
    let _host = Host::start(&node.url(), "h1", &[]);
    let mark = mark(&node);
    let started = node.data().join("started");
    let job = submit(&node, &format!("touch {}; sleep {mark}", started.display()));
    exists(&started);
    node.wire().call("POST", &format!("/v1/jobs/{job}/cancel")).ok();
    assert_eq!(ended(&node, &job)["status"], "cancelled");
    gone(&mark);
}

#[test]
fn a_cancel_reaches_the_host_while_its_heartbeat_waits_and_not_with_the_next() {
    const HEARTBEAT_MS: &str = "25000";
    const WELL_BEFORE_IT: Duration = Duration::from_secs(12);
    /// A short lease would make heartbeats come sooner than they are asked for.
    const LEASE_MS: &str = "600000";
    let node = Options::default().env("SKYCLAW_LEASE_MS", LEASE_MS).start();
    let _host = Host::start(&node.url(), "h1", &[("SKYCLAW_HEARTBEAT_MS", HEARTBEAT_MS)]);
    wait_until("the host has registered", LONG, || {
        (node.wire().get("/v1/hosts/h1").send().status == 200).then_some(())
    });
    let mark = mark(&node);
    let started = node.data().join("started");
    // It begins after the heartbeat was sent, which therefore does not name it.
    let job = submit(&node, &format!("touch {}; sleep {mark}", started.display()));
    exists(&started);
    node.wire().call("POST", &format!("/v1/jobs/{job}/cancel")).ok();
    wait_until("the job is cancelled", WELL_BEFORE_IT, || {
        (node.wire().job(&job)["status"] == "cancelled").then_some(())
    });
    gone(&mark);
}

#[test]
fn a_job_that_runs_longer_than_its_lease_is_run_once() {
    let node = Options::default().env("SKYCLAW_LEASE_MS", "1500").start();
    let _hosts = [Host::start(&node.url(), "h1", &[]), Host::start(&node.url(), "h2", &[])];
    let runs = node.data().join("runs");
    let job = submit(&node, &format!("echo run >> {}; sleep 5", runs.display()));
    let done = ended(&node, &job);
    assert_eq!((&done["status"], &done["attempts"]), (&json!("completed"), &json!(1)));
    assert_eq!(fs::read_to_string(runs).expect("a file"), "run\n");
}

#[test]
fn the_job_of_a_host_that_was_killed_is_done_by_another() {
    let node = Options::default().env("SKYCLAW_LEASE_MS", "2000").start();
    let mark = mark(&node);
    let flag = node.data().join("flag");
    let text = format!("if [ -e {0} ]; then echo second; else touch {0}; sleep {mark}; fi", flag.display());
    let mut first = Host::start(&node.url(), "h1", &[]);
    let job = submit(&node, &text);
    exists(&flag);
    first.kill9();
    let _second = Host::start(&node.url(), "h2", &[]);
    let done = ended(&node, &job);
    assert_eq!((&done["status"], &done["result"]["stdout"]), (&json!("completed"), &json!("second\n")));
    assert_eq!((&done["assignedHostId"], &done["attempts"]), (&json!("h2"), &json!(2)));
}

#[test]
fn jobs_of_a_host_that_is_killed_again_and_again_end_once_with_all_they_wrote() {
    const KILLS: usize = 8;
    const LINES: usize = 100;
    let node = node();
    let mut host = Host::start(&node.url(), "h1", &[("SKYCLAW_MAX_PARALLEL", "4")]);
    let begun = |at: usize| node.data().join(format!("begun-{at}"));
    let written = |at: usize| node.data().join(format!("written-{at}"));
    let (ticks, go) = (node.data().join("ticks"), node.data().join("go"));
    let jobs: Vec<_> = (0..4)
        .map(|at| {
            let text = format!(
                "touch {}; i=0; while [ $i -lt {LINES} ]; do echo line $i; echo >> {}; i=$((i+1)); sleep 0.02; done; \
                 touch {}; until [ -e {} ]; do sleep 0.02; done; echo end; exit {at}",
                begun(at).display(),
                ticks.display(),
                written(at).display(),
                go.display()
            );
            submit(&node, &text)
        })
        .collect();
    (0..jobs.len()).for_each(|at| exists(&begun(at)));
    for kill in 1..=KILLS {
        host.restart();
        // They go on, each time, until a part of what they write in all is written.
        let part = (jobs.len() * LINES * kill / (KILLS + 1)) as u64;
        wait_until("more is written", LONG, || {
            ticks.metadata().is_ok_and(|ticks| ticks.len() >= part).then_some(())
        });
    }
    (0..jobs.len()).for_each(|at| exists(&written(at)));
    host.kill9();
    // They end while their host has no daemon, or while it takes them over.
    fs::write(&go, "").expect("a file");
    host.restart();
    for (at, job) in jobs.iter().enumerate() {
        let done = ended(&node, job);
        assert_eq!((&done["attempts"], &done["result"]["exitCode"]), (&json!(1), &json!(at)), "{done}");
        let want: String = (0..LINES).map(|line| format!("line {line}\n")).collect();
        assert_eq!(done["result"]["stdout"], want + "end\n");
    }
}

#[test]
fn a_host_that_the_coordinator_forgot_registers_again() {
    let mut node = node();
    let _host = Host::start(&node.url(), "h1", &[]);
    ended(&node, &submit(&node, "true"));
    node.kill9();
    for entry in fs::read_dir(node.data()).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("removed");
    }
    node.restart();
    let done = ended(&node, &submit(&node, "echo again"));
    assert_eq!((&done["assignedHostId"], &done["result"]["stdout"]), (&json!("h1"), &json!("again\n")));
}

#[test]
fn a_run_that_ends_while_the_coordinator_is_down_is_completed_when_it_is_back() {
    let mut node = node();
    let _host = Host::start(&node.url(), "h1", &[]);
    let at = |name: &str| node.data().join(name);
    let (started, go, over) = (at("started"), at("go"), at("over"));
    let text = format!(
        "touch {}; while [ ! -e {} ]; do sleep 0.05; done; touch {}; echo done",
        started.display(),
        go.display(),
        over.display()
    );
    let job = submit(&node, &text);
    exists(&started);
    node.kill9();
    fs::write(&go, "").expect("a file");
    exists(&over);
    node.restart();
    let done = ended(&node, &job);
    assert_eq!((&done["status"], &done["attempts"]), (&json!("completed"), &json!(1)));
    assert_eq!(done["result"]["stdout"], "done\n");
}

#[test]
fn a_host_that_starts_before_its_coordinator_works_once_it_is_there() {
    let mut node = node();
    node.kill9();
    let _host = Host::start(&node.url(), "h1", &[]);
    node.restart();
    assert_eq!(ended(&node, &submit(&node, "echo hi"))["result"]["stdout"], "hi\n");
}

#[test]
fn a_host_keeps_its_id_over_a_restart() {
    let node = node();
    // A blank id counts as none: it is made by the host itself, and kept.
    let mut host = Host::start(&node.url(), "h1", &[("SKYCLAW_HOST_ID", "")]);
    let first = ended(&node, &submit(&node, "true"))["assignedHostId"].clone();
    host.terminate();
    host.restart();
    assert_eq!(ended(&node, &submit(&node, "true"))["assignedHostId"], first);
    assert_eq!(node.wire().get("/v1/hosts").ok()["hosts"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_host_that_is_told_to_end_leaves_no_process_and_gives_its_job_back() {
    let node = node();
    let mut host = Host::start(&node.url(), "h1", &[]);
    let mark = mark(&node);
    let started = node.data().join("started");
    let job = submit(&node, &format!("touch {}; sleep {mark}", started.display()));
    exists(&started);
    host.terminate();
    gone(&mark);
    let job = wait_until("the job is queued again", LONG, || {
        Some(node.wire().job(&job)).filter(|job| job["status"] == "queued")
    });
    assert_eq!((&job["assignedHostId"], &job["attempts"]), (&json!(null), &json!(1)));
}

#[test]
fn a_host_runs_several_services_each_with_a_port_of_its_own() {
    let node = node();
    let extra = [
        ("SKYCLAW_SERVICE_HOST_ENABLED", "1"),
        ("SKYCLAW_SERVICE_BASE_PORT", "23100"),
        ("SKYCLAW_SERVICE_HOST_PUBLIC_BASE_URL", "http://10.9.8.7"),
    ];
    let mut host = Host::start(&node.url(), "h1", &extra);
    let mark = mark(&node);
    let deploy = |name: &str| {
        let args =
            ["-c".to_owned(), format!("echo $PORT > {}; sleep {mark}", node.data().join(name).display())];
        let body = json!({"name": name, "command": "sh", "args": args});
        id(&node.wire().post("/v1/services", &body).ok()["service"])
    };
    let services = [("a", deploy("a")), ("b", deploy("b"))];
    let ports = services.map(|(name, service)| {
        let running = wait_until("the service runs", LONG, || {
            let service = node.wire().get(&format!("/v1/services/{service}")).ok()["service"].take();
            Some(service).filter(|service| service["status"] == "running")
        });
        let port = wait_until("the service says its port", LONG, || {
            fs::read_to_string(node.data().join(name)).ok().filter(|text| text.ends_with('\n'))
        });
        let port = port.trim().to_owned();
        assert_eq!(running["assignments"][0]["endpoint"], format!("http://10.9.8.7:{port}"));
        port
    });
    assert_ne!(ports[0], ports[1]);
    host.terminate();
    gone(&mark);
}

#[test]
fn a_service_that_ends_is_reported_failed() {
    let node = node();
    let _host = Host::start(&node.url(), "h1", &[("SKYCLAW_SERVICE_HOST_ENABLED", "1")]);
    let body = json!({"name": "brief", "command": "sh", "args": ["-c", "exit 5"]});
    let service = id(&node.wire().post("/v1/services", &body).ok()["service"]);
    let error = wait_until("the service has failed", LONG, || {
        let service = node.wire().get(&format!("/v1/services/{service}")).ok()["service"].take();
        service["assignments"][0]["error"].as_str().map(str::to_owned)
    });
    assert!(error.contains('5'), "{error}");
}

#[test]
fn what_is_frozen_is_stopped_by_its_host_and_begins_anew_after_the_thaw_as_its_job_says() {
    let node = node();
    let _host = Host::start(&node.url(), "h1", &[("SKYCLAW_MAX_PARALLEL", "4")]);
    let started = |name: &str| node.data().join(name);
    let run = |name: &str, on_lost: &str| {
        let text = format!("echo run >> {}; sleep {}", started(name).display(), mark(&node));
        let mut body = script(&text);
        body["onLost"] = json!(on_lost);
        body["labels"] = json!({"book": "a"});
        id(&node.wire().enqueue_with(&body))
    };
    let jobs = ["retry", "hold", "fail"].map(|on_lost| run(on_lost, on_lost));
    let other = submit(&node, &format!("echo run >> {}; sleep 1000", started("other").display()));
    for name in ["retry", "hold", "fail", "other"] {
        exists(&started(name));
    }
    let freeze = node.wire().post("/v1/freezes", &json!({"labels": {"book": "a"}, "reason": "a test"})).ok();
    gone(&mark(&node));
    let status = |job: &str| node.wire().job(job)["status"].as_str().map(str::to_owned);
    for (job, wanted) in jobs.iter().zip(["queued", "lost", "failed"]) {
        wait_until(wanted, LONG, || (status(job).as_deref() == Some(wanted)).then_some(()));
    }
    assert_eq!(status(&other).as_deref(), Some("leased"), "it has no such label");
    let told = node.wire().get(&format!("/v1/jobs/{}/events", jobs[1])).ok();
    let kinds: Vec<_> =
        told["events"].as_array().into_iter().flatten().filter_map(|e| e["kind"].as_str()).collect();
    for kind in ["claimed", "started", "stopping"] {
        assert!(kinds.contains(&kind), "{kind}: {told}");
    }
    let path = format!("/v1/freezes/{}/thaw", freeze["freeze"]["id"].as_str().expect("an id"));
    node.wire().post(&path, &json!({})).ok();
    let runs = |name: &str| fs::read_to_string(started(name)).unwrap_or_default().lines().count();
    wait_until("it runs again", LONG, || (runs("retry") == 2).then_some(()));
    assert_eq!((runs("hold"), runs("fail"), runs("other")), (1, 1, 1));
    for job in [&jobs[0], &other] {
        node.wire().post(&format!("/v1/jobs/{job}/cancel"), &json!({})).ok();
    }
    gone(&mark(&node));
}

#[test]
fn how_a_run_began_can_be_seen_while_it_goes_on_and_is_told_once() {
    let node = node();
    let _host = Host::start(&node.url(), "h1", &[]);
    let go_on = node.data().join("go-on");
    let job = submit(&node, &format!("until [ -e {} ]; do sleep 0.1; done", go_on.display()));
    let kinds = || {
        let told = node.wire().get(&format!("/v1/jobs/{job}/events")).ok();
        let kinds = told["events"].as_array().into_iter().flatten();
        kinds.filter_map(|event| event["kind"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let begun = ["submitted", "claimed", "prepared", "limits", "started"];
    wait_until("its beginning is told", LONG, || (kinds() == begun).then_some(()));
    assert_eq!(node.wire().job(&job)["status"], "leased");
    fs::write(&go_on, "").expect("a file");
    ended(&node, &job);
    assert_eq!(kinds(), [&begun[..], &["exited", "usage", "completed"]].concat());
}
