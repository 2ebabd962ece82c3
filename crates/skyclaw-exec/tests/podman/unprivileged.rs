//! A daemon that is not root, with the service of its own user: the way it is meant to be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use skyclaw_exec::podman::{
    AllowedMount, Config, Exit, IdRange, Mount, Podman, Policy, PoolConfig, Secret, Spec,
};
use skyclaw_exec::{Driver, stop_channel};
use skyclaw_tests::podman::{IMAGE, Service, Who};
use tokio_util::task::TaskTracker;

use super::kept;
use super::kit::{GRACE, end, read, sh, until};

const SOCKET: &str = "SKYCLAW_TEST_SOCKET";
const FOLDER: &str = "SKYCLAW_TEST_FOLDER";
const SHIM: &str = "SKYCLAW_TEST_SHIM";

#[test]
fn a_daemon_that_is_not_root_runs_adopts_stops_and_sweeps() {
    let service = Service::start(Who::Rootless);
    // Where the user can reach it.
    let program = service.dir().join("daemon");
    copy(&std::env::current_exe().expect("this test"), &program);
    let shim = service.dir().join("shim");
    copy(Path::new(kept::SHIM), &shim);
    let mut daemon = service.as_user(&program);
    daemon.args(["--exact", "unprivileged::in_the_place_of_that_daemon", "--ignored", "--nocapture"]);
    let done = daemon
        .env(SOCKET, service.socket())
        .env(FOLDER, service.own_dir())
        .env(SHIM, shim)
        .current_dir("/")
        .output();
    let done = done.expect("it starts");
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
    assert_eq!(service.containers(), Vec::<String>::new());
}

/// By a program of its own: what this process has open for writing, a child of another test may have for a
/// moment too, and then it cannot be started.
fn copy(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").args([from, to]).status().expect("cp starts");
    assert!(done.success(), "{} is copied", from.display());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the test above, as another user"]
async fn in_the_place_of_that_daemon() {
    assert!(!nix::unistd::geteuid().is_root());
    let place = |name| PathBuf::from(std::env::var_os(name).expect("it is given"));
    let folder = place(FOLDER);
    let shared = folder.join("shared");
    std::fs::create_dir(&shared).expect("a folder");
    std::fs::write(shared.join("file"), "shown\n").expect("a file");
    let config = Config {
        socket: place(SOCKET),
        owner: "unprivileged".to_owned(),
        runs_dir: folder.join("runs"),
        state_dir: folder.join("state"),
        policy: Policy {
            images: [IMAGE.to_owned()].into(),
            mounts: vec![AllowedMount { path: shared.clone(), writable: false }],
            ..Policy::default()
        },
        ids: IdRange::default(),
        log_bytes: 64 << 10,
        pool: PoolConfig {
            max: 1,
            often: 1,
            pause: Duration::from_millis(20),
            min_available_bytes: 0,
            ..PoolConfig::default()
        },
    };
    let tracker = TaskTracker::new();
    let podman = Podman::connect(config.clone(), &tracker).await.expect("it answers");
    let spec = Spec {
        mounts: vec![Mount { source: shared, target: "/data".into(), writable: false }],
        secrets: BTreeMap::from([("key".to_owned(), Secret::new("s3cret\n"))]),
        ..sh("cat /data/file /.skyclaw/run/secrets/key; echo $GIVEN >&2; exit 3")
    };
    // The second has one that was made ahead.
    for _ in 0..2 {
        let ended = end(podman.start(spec.clone()).await.expect("it starts")).await;
        let found = (ended.stdout.as_str(), ended.stderr.as_str(), ended.code());
        assert_eq!(found, ("shown\ns3cret\n", "by the job\n", 3));
        while podman.ready().await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let mut run = podman
        .start(sh("trap 'exit 4' TERM; echo ready; while :; do sleep 0.05; done"))
        .await
        .expect("it starts");
    let output = until(run.take_output().expect("output"), "ready\n").await;
    let name = run.id().to_owned();
    assert!(run.exit_file().is_some(), "it can read what the monitor writes");
    drop((run, output));
    let later = Podman::connect(config, &tracker).await.expect("it answers");
    let run = later.adopt(&name).await.expect("it is taken up");
    let exit = run.stop(GRACE).await;
    assert_eq!(exit, Exit::Code(4));
    assert_eq!(read(run.logged().await.expect("a log")).await.0, "ready\n");
    run.finish(exit).await.1.expect("it is cleared away");
    keeps(&podman, &folder, &place(SHIM)).await;
    podman.drain().await;
    drop(podman.start(sh("sleep 1000")).await.expect("it starts"));
    let swept = later.sweep(&std::collections::BTreeSet::new()).await.expect("a sweep");
    assert_eq!(swept.containers.len(), 1);
}

/// Runs that are kept: what is told of one, and that another ends in time.
async fn keeps(podman: &Podman, folder: &Path, shim: &Path) {
    let driver = Driver::new(kept::config(folder, &shim.display().to_string())).expect("a driver");
    let (soon, grace) = (kept::SOON, Duration::from_millis(100));
    let heedless = sh("trap '' TERM; while :; do sleep 1000; done");
    for (spec, keep, code) in
        [(sh("echo out; exit 6"), kept::keep(), 6), (heedless, kept::within(soon, grace), 137)]
    {
        let (_stopper, stop) = stop_channel();
        let ended = podman.start_kept(spec, keep, &driver).await.expect("it starts").wait(stop).await;
        assert_eq!(ended.outcome().exit_code, code, "{:?}", ended.outcome());
        let container = ended.container().expect("a container").to_owned();
        ended.forget().await;
        podman.clear(&container).await.expect("it is cleared away");
    }
}
