//! What a run sees of the world.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use skyclaw_exec::{Cwd, RunSpec};
use skyclaw_proto::HostId;
use skyclaw_proto::record::{Job, Service};

use crate::{Bench, sh};

fn job(payload: &serde_json::Value) -> Job {
    serde_json::from_value(serde_json::json!({
        "id": "job_1", "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z",
        "updatedBy": "node-a", "version": 2, "status": "leased", "attempts": 3, "fence": 7, "payload": payload,
    }))
    .expect("a job")
}

fn host() -> HostId {
    HostId::parse("host_1").expect("an id")
}

#[tokio::test]
async fn a_jobs_environment_is_exactly_what_was_built() {
    let bench = Bench::new();
    let payload = serde_json::json!({
        "kind": "shell", "command": "sh", "args": ["-c", "exec env -0"],
        "env": { "MINE": "a\nb", "SKYCLAW_FENCE": "99", "LANG": "xx" },
    });
    let outcome = bench.run(RunSpec::job(&job(&payload), &host(), bench.driver.config())).await;
    let seen: BTreeMap<&str, &str> =
        outcome.stdout.split_terminator('\0').filter_map(|entry| entry.split_once('=')).collect();
    let names: Vec<&str> =
        seen.keys().copied().filter(|name| !matches!(*name, "PWD" | "_" | "SHLVL")).collect();
    let want = [
        "HOME",
        "LANG",
        "MINE",
        "PATH",
        "SKYCLAW_ATTEMPT",
        "SKYCLAW_FENCE",
        "SKYCLAW_HOST_ID",
        "SKYCLAW_JOB_ID",
        "SKYCLAW_RUN_ID",
        "TMPDIR",
    ];
    assert_eq!(names, want);
    let values = ["LANG", "MINE", "SKYCLAW_ATTEMPT", "SKYCLAW_FENCE", "SKYCLAW_HOST_ID", "SKYCLAW_JOB_ID"];
    assert_eq!(values.map(|name| seen[name]), ["xx", "a\nb", "3", "7", "host_1", "job_1"]);
    assert!(seen["HOME"].starts_with(&bench.file("runs/run-")));
}

#[tokio::test]
async fn a_service_learns_its_port_and_starts_in_the_base_directory() {
    let bench = Bench::new();
    let service: Service = serde_json::from_value(serde_json::json!({
        "id": "svc_1", "name": "api", "command": "sh", "args": ["-c", "echo $PORT $SKYCLAW_SERVICE_ID; pwd"],
        "env": { "PORT": "1" }, "replicas": 1, "status": "pending", "createdAt": "2026-01-01T00:00:00Z",
        "updatedAt": "2026-01-01T00:00:00Z", "updatedBy": "node-a", "version": 1,
    }))
    .expect("a service");
    let outcome = bench.run(RunSpec::service(&service, &host(), 3100, bench.driver.config())).await;
    assert_eq!(outcome.stdout, format!("3100 svc_1\n{}\n", bench.dir.path().display()));
}

#[tokio::test]
async fn no_open_file_of_the_daemon_reaches_a_run() {
    // One that was inherited from a careless parent: not marked to be closed.
    let file = std::fs::File::open("/dev/null").expect("open");
    let raw = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_DUPFD(200)).expect("dup");
    #[expect(unsafe_code, reason = "the descriptor was just made and is nobody else's")]
    let leaky = unsafe { OwnedFd::from_raw_fd(raw) };
    let outcome = Bench::new().sh("ls /proc/self/fd").await;
    // The last one is the directory that `ls` reads.
    assert_eq!(outcome.stdout.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    assert_eq!(leaky.as_raw_fd(), raw);
}

#[tokio::test]
async fn signals_umask_and_input_are_as_a_fresh_process_expects() {
    let bench = Bench::new();
    // In the place of the shell, which blocks signals for moments while it waits for what it started.
    let masks = bench.sh("exec grep -E '^Sig(Blk|Ign):' /proc/self/status").await;
    // 32 and 33 are the C library's own, which sets them as it needs them.
    let set = |line: &str| u64::from_str_radix(&line[8..], 16).expect("a mask") & !(0b11 << 31);
    let masks: Vec<u64> = masks.stdout.lines().map(set).collect();
    assert_eq!(masks, [0, 0]);
    let outcome = bench.sh("umask; readlink /proc/self/fd/0; cut -d' ' -f5,6 /proc/$$/stat; echo $$").await;
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines[..2], ["0022", "/dev/null"]);
    assert_eq!(lines[2], format!("{0} {0}", lines[3]), "it leads its own group and session");
}

#[tokio::test]
async fn a_run_starts_where_it_is_told_to() {
    let bench = Bench::new();
    std::fs::create_dir(bench.dir.path().join("below")).expect("mkdir");
    let base = bench.dir.path().display().to_string();
    for (cwd, want) in [
        (Cwd::Base, base.clone()),
        (Cwd::At("below".into()), format!("{base}/below")),
        (Cwd::At("/usr".into()), "/usr".into()),
    ] {
        let outcome = bench.run(RunSpec { cwd, ..sh("pwd -P") }).await;
        assert_eq!(outcome.stdout.trim(), want);
    }
    let outcome = bench.sh("pwd -P; ls -A; ls -ld $HOME | cut -c1-10; touch $TMPDIR/x $HOME/x x").await;
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert!(lines[0].starts_with(&format!("{base}/runs/run-")) && lines[0].ends_with("/work"), "{lines:?}");
    assert_eq!(lines[1..], ["drwx------"]);
    assert!(outcome.success);
}
