//! Where the control groups of runs are, and that none is left: these tests need root and control groups.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use skyclaw_exec::{Driver, Resources, RunSpec, Shim};

use crate::{Bench, config, sh, wait_for_file};

/// Where trees of control groups are mounted.
fn trees() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let points = mounts.lines().filter(|line| line.contains(" - cgroup"));
    points.filter_map(|line| Some(line.split(' ').nth(4)?.into())).collect()
}

/// The groups of this process that bound memory, with their tree: where an older daemon made its own.
fn own_group_of_memory() -> PathBuf {
    let text = std::fs::read_to_string("/proc/self/cgroup").expect("groups");
    let v1 = text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (names, path) = (fields.next()?, fields.next()?);
        names.split(',').any(|name| name == "memory").then(|| path.trim_start_matches('/').to_owned())
    });
    let v2 = || text.lines().find_map(|line| line.strip_prefix("0::/").map(str::to_owned));
    let (is_v1, path) = match v1 {
        Some(path) => (true, path),
        None => (false, v2().expect("a group")),
    };
    let has = |tree: &PathBuf| match is_v1 {
        true => tree.join("memory.limit_in_bytes").exists() || tree.join("memory.use_hierarchy").exists(),
        false => tree.join("cgroup.controllers").exists(),
    };
    trees().into_iter().find(has).expect("a tree").join(path)
}

#[tokio::test]
async fn what_an_older_daemon_left_in_groups_of_its_own_layout_is_ended_and_removed() {
    let dir = tempfile::tempdir().expect("temp dir");
    let runs = dir.path().join("runs");
    std::fs::create_dir(&runs).expect("mkdir");
    let meta = std::fs::metadata(&runs).expect("meta");
    let own = own_group_of_memory();
    let top = own.join(format!("skyclaw-{:x}-{:x}", meta.dev(), meta.ino()));
    let group = top.join("agent-a/run-0123");
    std::fs::create_dir_all(&group).expect("groups");
    let mut left = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep");
    std::fs::write(group.join("cgroup.procs"), left.id().to_string()).expect("it is moved");
    let driver = Driver::new(config(dir.path())).expect("driver");
    driver.recover().await.expect("recover");
    assert!(!left.wait().expect("wait").success(), "it was killed");
    assert!(!top.exists(), "{}", top.display());
    assert!(own.exists());
}

#[tokio::test]
async fn a_later_run_of_an_agent_does_not_cut_short_what_runs_already() {
    let bench = Bench::new();
    let agent = format!("agent.{}", std::process::id());
    let (held, go) = (bench.file("held"), bench.file("go"));
    let spec = |script: String, bytes: u64| RunSpec {
        agent: Some(agent.clone()),
        resources: Resources { memory_bytes: Some(bytes), ..Resources::default() },
        ..sh(&script)
    };
    let keep = format!(
        "x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo 1 > {held}; until [ -e {go} ]; do sleep 0.01; done; echo kept"
    );
    let first = bench.run_beside(spec(keep, 256 << 20));
    let second = async {
        wait_for_file(&held).await;
        let second = bench.run_beside(spec("echo small".to_owned(), 8 << 20)).await;
        std::fs::write(&go, "").expect("write");
        second
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!(first.stdout, "kept\n", "{first:?}");
    assert_eq!(second.stdout, "small\n", "{second:?}");
}

/// Starts a program without the call by which a process is born in a group: as it is on an older kernel, and
/// under some filters of system calls.
#[cfg(target_arch = "x86_64")]
const WITHOUT_CLONE3: &str = "
    my $filter = pack('SCCL' x 4, 0x20, 0, 0, 0, 0x15, 0, 1, 435, 0x06, 0, 0, 0x50026, 0x06, 0, 0, 0x7fff0000);
    my $program = pack('Sx6P', 4, $filter);
    syscall(157, 38, 1, 0, 0, 0) == 0 && syscall(157, 22, 2, $program, 0, 0) == 0 or die;
    exec { $ARGV[0] } @ARGV";

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn a_run_is_in_its_groups_also_where_no_process_can_be_born_in_one() {
    let usual = Bench::new();
    let filtered = Bench::with(|config| {
        let shim = config.shim.program.display().to_string();
        config.shim =
            Shim { program: "/usr/bin/perl".into(), args: vec!["-e".into(), WITHOUT_CLONE3.into(), shim] };
    });
    let agent = format!("agent-of-both.{}", std::process::id());
    let spec = || RunSpec {
        agent: Some(agent.clone()),
        ..sh("cat /proc/self/cgroup; grep Seccomp: /proc/self/status")
    };
    for (bench, is_filtered) in [(usual, false), (filtered, true)] {
        let outcome = bench.run(spec()).await;
        let groups = outcome.stdout.lines().filter(|line| line.contains("/agent-") && line.contains("/run-"));
        // At the least those that can be bounded; all the trees this machine has.
        assert!(groups.count() > 0 && !outcome.stdout.contains("0::/\n"), "{outcome:?}");
        assert!(!is_filtered || outcome.stdout.trim().ends_with('2'), "the filter is in force: {outcome:?}");
    }
}
