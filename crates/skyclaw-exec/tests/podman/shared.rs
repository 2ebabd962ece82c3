//! An agent's processes and containers together.

use std::time::Duration;

use skyclaw_exec::podman::{Agent, Limits};
use skyclaw_exec::{Allowlist, Config, Driver, Ending, Openclaw, RunSpec, Shim, stop_channel};

use super::kit::{Kit, end, sh, until};

super::with_both!(an_agents_processes_and_containers_share_one_bound);

/// Plain processes of the same host.
fn processes(kit: &Kit) -> Driver {
    let path = std::env::var_os("PATH").expect("a PATH");
    Driver::new(Config {
        owner: kit.podman.config().owner.clone(),
        allowlist: Allowlist::new(["sh"], &path),
        openclaw: Openclaw { command: "sh".into(), args: vec![] },
        runs_dir: kit.service.dir().join("processes"),
        base_dir: kit.service.dir().to_owned(),
        default_timeout: Duration::from_secs(60),
        stop_grace: Duration::from_secs(5),
        max_output_bytes: 10_000,
        shim: Shim { program: env!("CARGO_BIN_EXE_skyclaw-shim-under-test").into(), args: vec![] },
        user: None,
        writable: None,
        max_file_bytes: None,
        best_effort: false,
        halt: None,
    })
    .expect("a driver")
}

async fn an_agents_processes_and_containers_share_one_bound(kit: &mut Kit) {
    if !kit.is_bounded() {
        // Refused: that a container of an agent's gets past its bound is shown to be impossible elsewhere.
        return;
    }
    let driver = processes(kit);
    let bound = Limits { memory_bytes: Some(64 << 20), ..Limits::default() };
    let process = |script: String| RunSpec {
        agent: Some("both".to_owned()),
        resources: bound,
        ..RunSpec::plain("sh", vec!["-c".to_owned(), script], driver.config())
    };
    let mut contained = sh("head -c 45000000 /dev/zero > /tmp/held; echo held; exec sleep 1000");
    contained.agent = Some(Agent { id: "both".to_owned(), limits: bound });
    let mut run = kit.podman.start(contained.clone()).await.expect("it starts");
    let output = until(run.take_output().expect("output"), "held\n").await;
    // What the container has is not there for the process, although each alone is within the bound.
    let hog = "x=$(head -c 26000000 /dev/zero | tr '\\0' x); echo fits".to_owned();
    let (_stopper, stop) = stop_channel();
    let outcome = driver.run(process(hog.clone()), stop).await;
    assert_ne!(outcome.stdout, "fits\n", "{outcome:?}");
    assert_eq!(outcome.ending, Ending::OutOfMemory, "{outcome:?}");
    drop(output);
    run.kill().await;
    let exit = run.wait().await;
    run.finish(exit).await.1.expect("it is cleared away");
    let (_stopper, stop) = stop_channel();
    let outcome = driver.run(process(hog), stop).await;
    assert_eq!(outcome.stdout, "fits\n", "with the container gone: {outcome:?}");

    // And the other way round: a process keeps, a container finds what is left.
    let (held, go) = (kit.service.dir().join("held"), kit.service.dir().join("go"));
    let keep = format!(
        "x=$(head -c 20000000 /dev/zero | tr '\\0' x); echo 1 > {}; until [ -e {} ]; do sleep 0.01; done",
        held.display(),
        go.display()
    );
    let (_stopper, stop) = stop_channel();
    let keeping = driver.run(process(keep), stop);
    let contained = async {
        while !held.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // It has more than the process when memory runs out, so that it is the one to be killed.
        contained.args =
            vec!["-c".to_owned(), "x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo held".to_owned()];
        let run = kit.podman.start(contained).await.expect("it starts");
        let ended = end(run).await;
        std::fs::write(&go, "").expect("write");
        ended
    };
    let (kept, ended) = tokio::join!(keeping, contained);
    assert!(ended.report.out_of_memory, "{ended:?}");
    assert!(!ended.stdout.contains("held"), "{ended:?}");
    assert_eq!(kept.ending, Ending::Exited(0), "{kept:?}");
}
