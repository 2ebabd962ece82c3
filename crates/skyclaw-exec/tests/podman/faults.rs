//! What becomes of runs when what carries them fails.

use std::collections::BTreeSet;
use std::time::Duration;

use skyclaw_exec::podman::{Exit, Identity};
use skyclaw_tests::podman::{IMAGE, Service};
use skyclaw_tests::{LONG, wait_until};

use super::kit::{Kit, config, end, read, sh, until};

super::with_both!(
    an_exit_code_survives_the_service,
    a_run_can_be_killed_without_the_service,
    a_run_without_its_monitor_is_killed_and_lost,
    a_run_outlives_its_daemon_and_is_taken_up_again,
    a_sweep_clears_away_its_own_and_nothing_else,
);

async fn an_exit_code_survives_the_service(kit: &mut Kit) {
    let mut runs = Vec::new();
    for code in [0, 11] {
        let script = format!("echo ready; sleep 0.5; echo more; exit {code}");
        let mut run = kit.podman.start(sh(&script)).await.expect("it starts");
        let output = until(run.take_output().expect("output"), "ready\n").await;
        runs.push((run, output, code));
    }
    kit.service.kill();
    for (run, output, code) in &mut runs {
        // The stream goes with the service; the run does not.
        while output.next().await.is_some() {}
        assert_eq!(run.wait().await, Exit::Code(*code));
    }
    kit.service.serve();
    for (run, _, code) in runs {
        let (logged, _) = read(run.logged().await.expect("a log")).await;
        assert_eq!(logged, "ready\nmore\n");
        let (report, cleared) = run.finish(Exit::Code(code)).await;
        cleared.expect("it is cleared away");
        assert_eq!(report.exit, Exit::Code(code));
    }
}

async fn a_run_can_be_killed_without_the_service(kit: &mut Kit) {
    let mut run = kit
        .podman
        .start(sh("trap '' TERM; echo ready; while :; do sleep 1000; done"))
        .await
        .expect("it starts");
    let _output = until(run.take_output().expect("output"), "ready\n").await;
    let pid = run.pid().expect("a process");
    kit.service.kill();
    let exit = run.stop(Duration::from_millis(50)).await;
    assert_eq!(exit, Exit::Code(137));
    assert!(!Service::is_alive(pid));
    let refused = kit.podman.start(sh("true")).await.expect_err("nobody answers");
    assert!(refused.is_passing(), "{refused}");
    assert!(refused.to_string().contains("does not answer at"), "{refused}");
    kit.service.serve();
    run.finish(exit).await.1.expect("it is cleared away");
}

async fn a_run_without_its_monitor_is_killed_and_lost(kit: &mut Kit) {
    let mut run = kit.podman.start(sh("echo ready; exec sleep 1000")).await.expect("it starts");
    let _output = until(run.take_output().expect("output"), "ready\n").await;
    let pid = run.pid().expect("a process");
    Service::kill_process(run.conmon_pid().expect("a monitor")).expect("it is there");
    let Exit::Lost(why) = run.wait().await else { panic!("its code cannot be known") };
    assert!(why.contains("conmon"), "{why}");
    assert!(!Service::is_alive(pid));
    run.finish(Exit::Lost(why)).await.1.expect("it is cleared away");
}

async fn a_run_outlives_its_daemon_and_is_taken_up_again(kit: &mut Kit) {
    let identity = Identity { job: "job_9".to_owned(), fence: 3, attempt: 1 };
    let mut names = Vec::new();
    for script in [
        "echo early; exit 6",
        "echo ready; while [ ! -e /tmp/go ]; do sleep 0.05; done",
        "echo ready; sleep 1; exit 8",
    ] {
        let mut spec = sh(script);
        spec.identity = identity.clone();
        let run = kit.podman.start(spec).await.expect("it starts");
        names.push(run.id().to_owned());
    }
    // Another daemon over the same folders: what was dropped above is all that the first knew.
    let later = kit.beside(kit.podman.config().clone()).await;
    let found = later.recorded().await.expect("records");
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|found| found.identity == identity));
    let known: BTreeSet<_> = names.iter().cloned().collect();
    assert_eq!(later.sweep(&known).await.expect("a sweep"), skyclaw_exec::podman::Swept::default());
    for (name, code) in names.iter().zip([Some(6), None, Some(8)]) {
        let run = later.adopt(name).await.expect("it is taken up");
        assert_eq!(run.identity(), &identity);
        let exit = if code.is_none() { run.stop(Duration::from_millis(50)).await } else { run.wait().await };
        if let Some(code) = code {
            assert_eq!(exit, Exit::Code(code), "{name}");
        }
        let (logged, _) = read(run.logged().await.expect("a log")).await;
        assert!(logged == "early\n" || logged == "ready\n", "{logged:?}");
        run.finish(exit).await.1.expect("it is cleared away");
    }
    let gone = later.adopt(&names[0]).await.expect_err("it is gone").to_string();
    assert!(gone.starts_with("there is no run"), "{gone}");
    assert!(later.adopt("../../etc").await.is_err());
}

async fn a_sweep_clears_away_its_own_and_nothing_else(kit: &mut Kit) {
    let stranger = kit.service.podman_ok(&[
        "create",
        "--name",
        "stranger",
        "--label",
        "io.skyclaw.host=other",
        "--label",
        "io.skyclaw.run=skyclaw-0",
        IMAGE,
        "true",
    ]);
    let mut other = config(&kit.service, "neighbour");
    other.runs_dir = kit.service.dir().join("other-runs");
    let neighbour = kit.beside(other).await;
    let theirs = neighbour.start(sh("echo ready; sleep 1000")).await.expect("it starts");
    let lost = kit.podman.start(sh("trap '' TERM; echo ready; sleep 1000")).await.expect("it starts");
    let (name, pid) = (lost.id().to_owned(), lost.pid().expect("a process"));
    // What this daemon still holds is not swept, whatever it is told to know.
    let none = BTreeSet::new();
    assert_eq!(kit.podman.sweep(&none).await.expect("a sweep"), skyclaw_exec::podman::Swept::default());
    drop(lost);
    std::fs::create_dir(kit.service.dir().join("runs/skyclaw-deadbeef")).expect("a folder");
    std::fs::create_dir(kit.service.dir().join("runs/of-somebody-else")).expect("a folder");
    let swept = kit.podman.sweep(&none).await.expect("a sweep");
    assert_eq!((swept.containers, swept.folders), (vec![name], vec!["skyclaw-deadbeef".to_owned()]));
    wait_until("it is killed", LONG, || (!Service::is_alive(pid)).then_some(()));
    assert!(Service::is_alive(theirs.pid().expect("a process")));
    assert!(kit.service.dir().join("runs/of-somebody-else").exists());
    std::fs::remove_dir(kit.service.dir().join("runs/of-somebody-else")).expect("it is there");
    theirs.kill().await;
    end(theirs).await;
    assert_eq!(kit.service.containers(), ["stranger"]);
    kit.service.podman_ok(&["rm", &stranger]);
}
