//! What a run is bounded to, on this machine, for real: these tests need root and control groups.

use std::time::Duration;

use skyclaw_exec::{Ending, Error, Resources, RunSpec, User, What};

use crate::{Bench, sh};

fn bounded(script: &str, resources: Resources) -> RunSpec {
    RunSpec { resources, ..sh(script) }
}

fn memory(bytes: u64) -> Resources {
    Resources { memory_bytes: Some(bytes), ..Resources::default() }
}

/// Processes that carry a text in their command line, besides this one.
fn with(mark: &str) -> usize {
    let entries = std::fs::read_dir("/proc").expect("proc").flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(mark)).count()
}

/// Groups of this bench's driver that are there.
fn groups() -> Vec<std::path::PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let points = mounts.lines().filter(|line| line.contains(" - cgroup"));
    let mut left: Vec<std::path::PathBuf> =
        points.filter_map(|line| Some(line.split(' ').nth(4)?.into())).collect();
    let mut found = Vec::new();
    while let Some(dir) = left.pop() {
        let below = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        left.extend(below.filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir())).map(|it| it.path()));
        found.push(dir);
    }
    found
}

#[tokio::test]
async fn this_machine_can_bound_what_the_tests_need() {
    let bench = Bench::with(|config| config.writable = Some(vec![]));
    let enforcement = bench.driver.enforcement();
    for name in ["controlGroups", "memory", "cpu", "pids", "agentBound", "killAtOnce", "landlock"] {
        assert!(enforcement.is_in_force(name), "{name}: {enforcement:?}");
    }
}

#[tokio::test]
async fn a_run_that_takes_more_memory_than_it_may_is_told_to_be_out_of_memory() {
    let bench = Bench::new();
    let spec = bounded("head -c 300000000 /dev/zero | tail", memory(64 << 20));
    let outcome = bench.run(spec).await;
    assert_eq!((outcome.ending.clone(), outcome.success), (Ending::OutOfMemory, false), "{outcome:?}");
    assert!(outcome.error.as_deref().is_some_and(|error| error.starts_with("out of memory")), "{outcome:?}");
    assert!(outcome.events.iter().any(|event| event.what == What::OutOfMemory));
    assert!(outcome.usage.peak_memory_bytes <= 64 << 20, "{}", outcome.usage.peak_memory_bytes);
    let modest = bench.run(bounded("echo fits", memory(64 << 20))).await;
    assert_eq!(modest.stdout, "fits\n");
}

#[tokio::test]
async fn a_fork_bomb_stays_within_its_bound_and_nothing_of_it_is_left() {
    let bench = Bench::new();
    let resources = Resources { pids: Some(64), ..Resources::default() };
    let mark = format!("bomb-{}", std::process::id());
    // Not this shell itself: one that cannot fork ends.
    let script = format!(": {mark}; b() {{ b | b & }}; (b) 2>/dev/null & while :; do :; done");
    let mut spec = bounded(&script, resources);
    spec.timeout = Some(Duration::from_millis(700));
    spec.grace = Duration::from_millis(100);
    let outcome = bench.run(spec).await;
    assert_eq!(outcome.ending, Ending::TimedOut(Duration::from_millis(700)));
    assert_eq!(with(&mark), 0);
}

#[tokio::test]
async fn a_share_of_a_processor_is_a_share() {
    let bench = Bench::new();
    let resources = Resources { cpu_millis: Some(100), ..Resources::default() };
    let mut spec = bounded("while :; do :; done", resources);
    spec.timeout = Some(Duration::from_millis(2000));
    let outcome = bench.run(spec).await;
    // A tenth of two seconds, and a period or two for rounding.
    assert!(outcome.usage.cpu < Duration::from_millis(600), "{:?}", outcome.usage.cpu);
}

#[tokio::test]
async fn all_runs_of_an_agent_share_one_bound_and_leave_no_group() {
    let bench = Bench::new();
    let agent = format!("agent.{}", std::process::id());
    let go = bench.file("go");
    let spec = |script: String| RunSpec { agent: Some(agent.clone()), ..bounded(&script, memory(96 << 20)) };
    // Each takes less than the bound, and both more.
    let keep =
        format!("x=$(head -c 60000000 /dev/zero | tr '\\0' x); until [ -e {go} ]; do sleep 0.01; done");
    let mut one = std::pin::pin!(bench.run_beside(spec(keep.clone())));
    let mut other = std::pin::pin!(bench.run_beside(spec(keep)));
    // With memory for both, neither would ever end before it is let go.
    let (first, was_one) = tokio::select! {
        outcome = &mut one => (outcome, true),
        outcome = &mut other => (outcome, false),
    };
    assert_eq!(first.ending, Ending::OutOfMemory, "{first:?}");
    std::fs::write(&go, "").expect("write");
    let second = if was_one { other.await } else { one.await };
    assert!(matches!(second.ending, Ending::Exited(_) | Ending::OutOfMemory), "{second:?}");
    let name = bench.dir.path().file_name().expect("a name").to_string_lossy().into_owned();
    let ours = name.trim_start_matches('.');
    let left: Vec<_> = groups().into_iter().filter(|dir| dir.to_string_lossy().contains(ours)).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn what_cannot_be_enforced_is_refused_unless_the_host_says_otherwise() {
    let asked = Resources { tmpfs_bytes: Some(1 << 20), ..Resources::default() };
    let strict = Bench::new();
    let error = strict.driver.start(bounded("true", asked)).await.expect_err("refused");
    assert!(matches!(error, Error::NotEnforceable { .. }), "{error}");
    assert!(error.to_string().contains("SKYCLAW_BEST_EFFORT_LIMITS"), "{error}");
    let lenient = Bench::with(|config| config.best_effort = true);
    let outcome = lenient.run(bounded("true", asked)).await;
    let said = outcome.events.iter().find_map(|event| match &event.what {
        What::InForce(words) => Some(words.join(", ")),
        _ => None,
    });
    assert!(outcome.success && said.is_some_and(|words| words.contains("not enforced: temporary files")));
}

#[tokio::test]
async fn writes_outside_of_its_own_directories_are_denied_where_the_host_says_so() {
    let shared = tempfile::tempdir().expect("temp dir");
    let bench = Bench::with(|config| config.writable = Some(vec![shared.path().to_owned()]));
    let (outside, allowed) = (bench.file("outside"), shared.path().join("x").display().to_string());
    let script = format!(
        "echo a > own && echo a > $HOME/own && echo a > $TMPDIR/own && echo a > {allowed} && echo ok; \
         echo a > /dev/null || echo null; echo a > {outside} || echo denied; echo a > ../control/exit.json || echo record; \
         cat /etc/hostname > /dev/null && echo reads"
    );
    let outcome = bench.sh(&script).await;
    assert_eq!(outcome.stdout, "ok\ndenied\nrecord\nreads\n", "{}", outcome.stderr);
    assert!(!std::path::Path::new(&outside).exists());
}

#[tokio::test]
async fn a_run_has_the_user_it_is_given_and_no_other_rights() {
    let bench = Bench::with(|config| config.user = Some(User { uid: 65534, gid: 65534 }));
    // The driver's directories are below a temporary one that only root may enter.
    std::fs::set_permissions(bench.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711))
        .expect("chmod");
    let script = "id -u; id -g; id -G; touch own $HOME/own $TMPDIR/own && echo own; ls ../control 2>/dev/null || echo hidden; \
                  cat /proc/$PPID/environ 2>/dev/null || echo unread; grep -E '^(NoNewPrivs|CapEff)' /proc/self/status";
    let outcome = bench.sh(script).await;
    let want = "65534\n65534\n65534\nown\nhidden\nunread\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n";
    assert_eq!(outcome.stdout, want, "{}", outcome.stderr);
}

#[tokio::test]
async fn no_run_gains_rights_and_none_leaves_a_memory_image() {
    let outcome = Bench::new().sh("grep NoNewPrivs /proc/self/status; ulimit -c").await;
    assert_eq!(outcome.stdout, "NoNewPrivs:\t1\n0\n");
}
