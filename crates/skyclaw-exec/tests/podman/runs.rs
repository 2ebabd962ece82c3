//! What a run is given, and what is heard of it.

use std::time::Duration;

use skyclaw_exec::podman::{Exit, Identity, SECRETS_FOLDER, Secret, Spec};
use skyclaw_tests::podman::IMAGE;

use super::kit::{GRACE, Kit, end, sh, until};

super::with_both!(
    the_exit_code_and_both_outputs_arrive,
    what_cannot_be_started_has_the_code_of_a_shell,
    a_run_gets_what_it_was_given_and_podman_keeps_none_of_it,
    what_is_asked_to_end_may_end_by_itself,
    what_does_not_heed_the_asking_is_killed,
    what_a_run_leaves_behind_ends_with_it,
    usage_is_told_where_it_is_counted,
);

async fn the_exit_code_and_both_outputs_arrive(kit: &mut Kit) {
    let ended = kit.sh("echo one; echo two >&2; echo three; exit 7").await;
    assert_eq!(ended.code(), 7, "{ended:?}");
    assert_eq!(ended.stdout, "one\nthree\n");
    assert_eq!(ended.stderr, "two\n");
    assert!(!ended.report.out_of_memory);
    assert_eq!(kit.sh("kill -9 $$").await.code(), 137);
    assert_eq!(kit.sh("true").await.code(), 0);
}

async fn what_cannot_be_started_has_the_code_of_a_shell(kit: &mut Kit) {
    let command = |command: &str| Spec { command: Some(command.to_owned()), ..sh("") };
    let missing = kit.run(command("no-such-program")).await;
    assert_eq!(missing.code(), 127);
    assert!(missing.stderr.contains("no-such-program: not found in the image"), "{missing:?}");
    assert_eq!(kit.run(command("/etc")).await.code(), 126);
    let elsewhere = kit.run(Spec { cwd: Some("/nowhere".to_owned()), ..sh("true") }).await;
    assert_eq!(elsewhere.code(), 127, "{elsewhere:?}");
    let none = kit.podman.start(Spec { image: IMAGE.to_owned(), ..Spec::default() }).await;
    let refused = none.expect_err("the image has no command of its own").to_string();
    assert!(refused.starts_with("command: "), "{refused}");
}

async fn a_run_gets_what_it_was_given_and_podman_keeps_none_of_it(kit: &mut Kit) {
    let script =
        format!("echo \"$GIVEN in $PWD\"; cat {SECRETS_FOLDER}/key; echo; echo ready; exec sleep 1000");
    let mut spec = sh(&script);
    spec.cwd = Some("/data".to_owned());
    spec.env.insert("HIDDEN".to_owned(), "env-7f3a".to_owned());
    spec.secrets.insert("key".to_owned(), Secret::new("secret-91cd"));
    spec.identity = Identity { job: "job_1".to_owned(), fence: 5, attempt: 2 };
    let mut run = kit.podman.start(spec).await.expect("it starts");
    let output = until(run.take_output().expect("output"), "ready\n").await;
    let known = kit.service.podman_ok(&["inspect", run.id()]);
    for kept in ["env-7f3a", "secret-91cd", "by the job", "sleep"] {
        assert!(!known.contains(kept), "Podman keeps {kept}");
    }
    for label in
        ["\"io.skyclaw.job\": \"job_1\"", "\"io.skyclaw.fence\": \"5\"", "\"io.skyclaw.attempt\": \"2\""]
    {
        assert!(known.contains(label), "{label} in {known}");
    }
    drop(output);
    let logged = super::kit::read(run.logged().await.expect("a log")).await;
    assert_eq!(logged.0, "by the job in /data\nsecret-91cd\nready\n");
    run.kill().await;
    let exit = run.wait().await;
    assert_eq!(exit, Exit::Code(137));
    run.finish(exit).await.1.expect("it is cleared away");
}

async fn what_is_asked_to_end_may_end_by_itself(kit: &mut Kit) {
    let script = "trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let mut run = kit.podman.start(sh(script)).await.expect("it starts");
    let output = until(run.take_output().expect("output"), "ready\n").await;
    let (exit, (stdout, _)) = tokio::join!(run.stop(GRACE), super::kit::read(output));
    assert_eq!(exit, Exit::Code(3));
    assert_eq!(stdout, "asked\n");
    run.finish(exit).await.1.expect("it is cleared away");
    // One that says nothing about it ends as any process does, though it is the first in its container.
    let mut run = kit.podman.start(sh("echo ready; exec sleep 1000")).await.expect("it starts");
    let _output = until(run.take_output().expect("output"), "ready\n").await;
    let exit = run.stop(GRACE).await;
    assert_eq!(exit, Exit::Code(143));
    run.finish(exit).await.1.expect("it is cleared away");
}

async fn what_does_not_heed_the_asking_is_killed(kit: &mut Kit) {
    let script = "trap '' TERM INT HUP; echo ready; while :; do sleep 1000; done";
    let mut run = kit.podman.start(sh(script)).await.expect("it starts");
    let _output = until(run.take_output().expect("output"), "ready\n").await;
    let exit = run.stop(Duration::from_millis(100)).await;
    assert_eq!(exit, Exit::Code(137));
    run.finish(exit).await.1.expect("it is cleared away");
}

async fn what_a_run_leaves_behind_ends_with_it(kit: &mut Kit) {
    let script =
        "(setsid sh -c 'trap \"\" TERM HUP; (sleep 1234 &); sleep 1234' &) ; sleep 0.2; pidof sleep | wc -w";
    let run = kit.podman.start(sh(script)).await.expect("it starts");
    let first = run.pid().expect("a process");
    let space = std::fs::read_link(format!("/proc/{first}/ns/pid")).expect("its namespace");
    let ended = end(run).await;
    assert_eq!(ended.stdout, "2\n", "{ended:?}");
    let same =
        |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|other| other == space);
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let left: Vec<_> =
        all.map(|entry| entry.file_name()).filter(|pid| pid.to_str().is_some_and(same)).collect();
    assert!(left.is_empty(), "{left:?}");
}

async fn usage_is_told_where_it_is_counted(kit: &mut Kit) {
    let ended = kit.sh("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; head -c 20000000 /dev/zero | tail -c 19000000 | wc -c").await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    let usage = ended.report.usage;
    if !kit.podman.enforcement().accounting.is_in_force() {
        assert_eq!((usage.cpu, usage.peak_memory_bytes), (None, None));
        return;
    }
    let cpu = usage.cpu.expect("a time");
    assert!(cpu > Duration::from_millis(20) && cpu < Duration::from_secs(60), "{cpu:?}");
    let peak = usage.peak_memory_bytes.expect("a peak");
    assert!((18 << 20..200 << 20).contains(&peak), "{peak}");
}
