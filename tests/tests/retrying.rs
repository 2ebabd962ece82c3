//! Jobs that a real host runs more than once, later, or not at all.

use skyclaw_tests::ctl::skyctl;
use skyclaw_tests::mesh::id;
use skyclaw_tests::{Coordinator, Host, LONG, Options, Value, json, wait_until};

fn node() -> Coordinator {
    Options::default().env("SKYCLAW_LEASE_MS", "60000").start()
}

#[track_caller]
fn ended(node: &Coordinator, job: &str) -> Value {
    wait_until("the job has ended", LONG, || {
        Some(node.wire().job(job)).filter(|job| !matches!(job["status"].as_str(), Some("queued" | "leased")))
    })
}

#[test]
fn a_job_that_fails_twice_and_then_succeeds_is_done_and_tells_of_each_run() {
    let mut node = node();
    let _host = Host::start(&node.url(), "h1", &[]);
    let count = node.data().join("count");
    let text = format!("echo x >> {0}; n=$(wc -l < {0}); echo run $n; [ $n -ge 3 ]", count.display());
    let words = ["job", "submit", "--max-attempts", "5", "--backoff", "700ms", "--", "sh", "-c", &text];
    let job = skyctl(&node.url(), &words).ok().trim().to_owned();
    // In the midst of the first backoff the coordinator dies.
    wait_until("the first run has failed", LONG, || {
        node.wire().job(&job)["failedAttempts"].is_u64().then_some(())
    });
    node.kill9();
    node.restart();
    let done = ended(&node, &job);
    assert_eq!((&done["status"], &done["attempts"]), (&json!("completed"), &json!(3)), "{done}");
    assert_eq!(done["result"]["stdout"], "run 3\n");
    let results = done["attemptResults"].as_array().cloned().unwrap_or_default();
    let told: Vec<_> = results.iter().map(|told| (&told["stdout"], &told["exitCode"])).collect();
    assert_eq!(told, [(&json!("run 1\n"), &json!(1)), (&json!("run 2\n"), &json!(1))]);
    let shown = skyctl(&node.url(), &["job", "get", &job]).ok();
    assert!(shown.contains("2 of 5 attempts failed") && shown.contains("attempt 2 on h1 failed"), "{shown}");
}

#[test]
fn a_job_in_a_file_waits_for_its_time_and_one_that_nobody_takes_expires_and_is_retried() {
    let node = node();
    let file = node.data().join("job.yaml");
    let text = "payload: {kind: shell, command: sh, args: [-c, echo hello]}\n\
                requirement: {requiredCapabilities: [rare]}\nttlMs: 3000\n";
    std::fs::write(&file, text).expect("the file is written");
    let file = file.display().to_string();
    let job = skyctl(&node.url(), &["job", "submit", "--file", &file]).ok().trim().to_owned();
    assert_eq!(ended(&node, &job)["status"], "expired");
    let _host = Host::start(&node.url(), "h1", &[("SKYCLAW_CAPABILITIES", "shell,rare")]);
    wait_until("the host is there", LONG, || {
        let hosts = node.wire().get("/v1/hosts").ok();
        (hosts["hosts"][0]["id"] == "h1").then_some(())
    });
    assert!(skyctl(&node.url(), &["job", "retry", &job, "--reason", "there is a host"]).ok().contains(&job));
    let done = ended(&node, &job);
    assert_eq!((&done["status"], &done["result"]["stdout"]), (&json!("completed"), &json!("hello\n")));
    let again = skyctl(&node.url(), &["job", "retry", &job]).ended(1);
    assert!(again.stderr.contains("is not done a second time"), "{}", again.stderr);

    let later = skyctl(&node.url(), &["job", "submit", "-f", &file, "--not-before", "1500ms"]).ok();
    let later = node.wire().job(later.trim());
    let done = ended(&node, &id(&later));
    assert_eq!(done["status"], "completed");
    let time = |value: &Value| value.as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time");
    assert!(time(&done["result"]["finishedAt"]) >= time(&later["notBefore"]), "{done}");
}
