//! What is not started, and what is said about it.

use skyclaw_exec::{Cwd, Ending, RunSpec};
use skyclaw_proto::HostId;

use crate::nursery::marked;
use crate::{Bench, sh, wait_until};

#[tokio::test]
async fn a_command_off_the_list_is_not_started() {
    let bench = Bench::new();
    let touched = bench.file("touched");
    let spec = RunSpec { command: "touch".into(), args: vec![touched.clone()], ..sh("") };
    let outcome = bench.run(spec).await;
    assert_eq!((outcome.exit_code, outcome.ending), (126, Ending::Failed));
    assert_eq!(outcome.error.as_deref(), Some("command not allowed: touch"));
    assert!(!std::path::Path::new(&touched).exists());
}

#[tokio::test]
async fn a_program_in_the_jobs_own_path_or_directory_is_not_taken_for_an_allowed_one() {
    let bench = Bench::new();
    let fake = bench.dir.path().join("missing-program");
    std::fs::copy("/bin/true", &fake).expect("copy");
    let mut spec = RunSpec { command: "missing-program".into(), cwd: Cwd::Base, ..sh("") };
    spec.env.insert("PATH".into(), bench.dir.path().display().to_string());
    let outcome = bench.run(spec).await;
    assert_eq!(outcome.exit_code, 127);
    assert!(outcome.error.expect("an error").starts_with("command not found: missing-program: install it"));
}

#[tokio::test]
async fn a_directory_that_cannot_be_entered_is_named() {
    let bench = Bench::new();
    for (dir, fault) in [("/nowhere/at-all", "No such file or directory"), ("/dev/null", "not a directory")] {
        let outcome = bench.run(RunSpec { cwd: Cwd::At(dir.into()), ..sh("true") }).await;
        assert_eq!(outcome.exit_code, 126);
        let error = outcome.error.expect("an error");
        assert!(error.starts_with(&format!("cwd {dir} cannot be entered: {fault}")), "{error}");
    }
}

#[tokio::test]
async fn a_shim_ends_by_itself_when_its_run_cannot_begin() {
    let mark = format!("mark-of-the-shim-{}", std::process::id());
    let bench = Bench::with(|config| config.shim.args.push(mark.clone()));
    let is_there = || !marked(&mark, "skyclaw-shim").is_empty();
    let (stopper, stop) = skyclaw_exec::stop_channel();
    let running = bench.driver.start(sh("sleep 1000")).await.expect("start");
    assert!(is_there(), "it would be seen");
    stopper.stop(skyclaw_exec::Stop::Cancelled);
    running.wait(stop).await.forget().await;
    std::fs::remove_dir(bench.file("runs")).expect("it is empty");
    std::fs::write(bench.file("runs"), "no directory").expect("write");
    let error = bench.driver.start(sh("true")).await.expect_err("it has no directory");
    assert!(error.describe().contains("the directory for runs"), "{}", error.describe());
    wait_until("the shim is gone", || !is_there()).await;
}

#[tokio::test]
async fn an_argument_list_that_is_too_long_is_an_outcome() {
    let spec = RunSpec { args: vec!["x".repeat(3 << 20)], ..sh("") };
    let error = Bench::new().run(spec).await.error.expect("an error");
    assert!(error.starts_with("could not start ") && error.contains("too long"), "{error}");
}

#[tokio::test]
async fn openclaw_with_default_arguments_that_fails_says_what_to_do() {
    let bench = Bench::new();
    let run = |payload: serde_json::Value| {
        let job = serde_json::from_value(serde_json::json!({
            "id": "job_1", "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z",
            "updatedBy": "node-a", "version": 2, "status": "leased", "attempts": 1, "payload": payload,
        }))
        .expect("a job");
        let host = HostId::parse("host_1").expect("an id");
        bench.run(RunSpec::job(&job, &host, bench.driver.config()))
    };
    let error = run(serde_json::json!({ "kind": "openclaw-run" })).await.error.expect("an error");
    assert!(error.starts_with("exited with code 3; ") && error.contains("SKYCLAW_OPENCLAW_ARGS"), "{error}");
    let own = serde_json::json!({ "kind": "openclaw-run", "args": ["-c", "exit 4"] });
    assert_eq!(run(own).await.error.as_deref(), Some("exited with code 4"));
}
