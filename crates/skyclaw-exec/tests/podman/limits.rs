//! What a run may use, where this machine can hold it to that, and that it is refused where not.

use skyclaw_exec::podman::{Agent, Limits, Policy, Spec};

use super::kit::{Ended, Kit, config, end, groups, sh};

super::with_both!(
    a_fork_bomb_is_held_or_refused,
    a_memory_hog_is_killed_and_said_to_have_run_out_or_refused,
    a_hog_that_is_not_the_first_process_is_reported_too,
    processor_time_is_held_or_refused,
    runs_of_one_agent_share_a_bound_or_are_refused,
    a_limit_that_cannot_be_held_is_accepted_only_as_best_effort,
);

const HOG: &str = "head -c 200000000 /dev/zero | tail -c 190000000 | wc -c";

fn with(script: &str, limits: Limits) -> Spec {
    Spec { limits, ..sh(script) }
}

fn memory(bytes: u64) -> Limits {
    Limits { memory_bytes: Some(bytes), ..Limits::default() }
}

/// Runs it where limits are held; where not, looks that it is refused by the name of `field`.
async fn run_or_refused(kit: &Kit, spec: Spec, field: &str) -> Option<Ended> {
    let started = kit.podman.start(spec).await;
    if kit.is_bounded() {
        return Some(end(started.expect("it starts")).await);
    }
    let refused = started.expect_err("it is refused").to_string();
    let prefix = format!("{field}: cannot be enforced on this host: rootless Podman ignores limits");
    assert!(refused.starts_with(&prefix), "{refused}");
    None
}

async fn a_fork_bomb_is_held_or_refused(kit: &mut Kit) {
    // The shell that looks forks once, at first: it would end when it cannot.
    let script = "b() { b | b & }; (b) 2>/dev/null & most=0; i=0; while [ $i -lt 20000 ]; do \
                  read -r n </sys/fs/cgroup/pids/pids.current && [ $n -gt $most ] && most=$n; i=$((i+1)); \
                  done 2>/dev/null; echo $most";
    let limits = Limits { pids: Some(40), ..Limits::default() };
    let Some(ended) = run_or_refused(kit, with(script, limits), "resources.pids").await else { return };
    let most: u64 = ended.stdout.trim().parse().expect("a number");
    // At the least it has seen itself. The kernel counts a fork and then refuses it: one for each processor may be seen.
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    assert!((1..=40 + processors).contains(&most), "{ended:?}");
}

async fn a_memory_hog_is_killed_and_said_to_have_run_out_or_refused(kit: &mut Kit) {
    let script = format!("exec sh -c '{HOG}; exit 9'");
    let Some(ended) = run_or_refused(kit, with(&script, memory(32 << 20)), "resources.memoryBytes").await
    else {
        return;
    };
    assert!(ended.report.out_of_memory, "{ended:?}");
    let peak = ended.report.usage.peak_memory_bytes.expect("a peak");
    assert!(peak <= 33 << 20, "{peak}");
    // One that stays within its limit has not run out, and can read how much it may have.
    let enough =
        kit.run(with("cat /sys/fs/cgroup/memory/memory.limit_in_bytes; true", memory(64 << 20))).await;
    assert!(!enough.report.out_of_memory, "{enough:?}");
    let shown: u64 = enough.stdout.trim().parse().expect("a limit");
    assert!((64 << 20..65 << 20).contains(&shown), "{shown}");
}

async fn a_hog_that_is_not_the_first_process_is_reported_too(kit: &mut Kit) {
    let script = format!("({HOG}) >/tmp/counted 2>&1; echo went on; exit 4");
    let Some(ended) = run_or_refused(kit, with(&script, memory(32 << 20)), "resources.memoryBytes").await
    else {
        return;
    };
    assert!(ended.report.out_of_memory, "{ended:?}");
}

async fn processor_time_is_held_or_refused(kit: &mut Kit) {
    let script = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us; timeout 2 sh -c 'while :; do :; done'; \
                  grep nr_throttled /sys/fs/cgroup/cpu/cpu.stat";
    let limits = Limits { cpu_millis: Some(100), ..Limits::default() };
    let Some(ended) = run_or_refused(kit, with(script, limits), "resources.cpuMillis").await else { return };
    assert!(ended.stdout.starts_with("10000\n"), "{ended:?}");
    let cpu = ended.report.usage.cpu.expect("a time");
    assert!(cpu.as_millis() < 1000, "a tenth of two seconds, and what starting took: {cpu:?}");
}

async fn runs_of_one_agent_share_a_bound_or_are_refused(kit: &mut Kit) {
    let agent = Agent { id: "agent/with:odd.name".to_owned(), limits: memory(48 << 20) };
    let half = "head -c 30000000 /dev/zero > /tmp/held; echo held; exec sleep 1000";
    let mut first = sh(half);
    first.agent = Some(agent.clone());
    let started = kit.podman.start(first.clone()).await;
    if !kit.is_bounded() {
        let refused = started.expect_err("it is refused").to_string();
        assert!(refused.starts_with("agentId: cannot be enforced on this host"), "{refused}");
        return;
    }
    let mut run = started.expect("it starts");
    let output = super::kit::until(run.take_output().expect("output"), "held\n").await;
    let named = groups()
        .into_iter()
        .filter(|path| path.to_string_lossy().contains("agent-agent%2fwith%3aodd%2ename"));
    assert!(named.count() > 0);
    // The second has no limit of its own, and finds what the first left of the agent's.
    let mut second = sh("head -c 30000000 /dev/zero > /tmp/held; echo held");
    second.agent = Some(agent);
    let ended = kit.run(second).await;
    assert!(ended.report.out_of_memory, "{ended:?}");
    drop(output);
    run.kill().await;
    let exit = run.wait().await;
    run.finish(exit).await.1.expect("it is cleared away");
    // A run of another agent has all of its own.
    let mut other = sh("head -c 30000000 /dev/zero > /tmp/held; echo held");
    other.agent = Some(Agent { id: "other".to_owned(), limits: memory(48 << 20) });
    let ended = kit.run(other).await;
    assert_eq!((ended.stdout.as_str(), ended.report.out_of_memory), ("held\n", false), "{ended:?}");
}

async fn a_limit_that_cannot_be_held_is_accepted_only_as_best_effort(kit: &mut Kit) {
    let mut lax = config(&kit.service, "lax");
    lax.policy = Policy { best_effort: true, ..lax.policy };
    lax.runs_dir = kit.service.dir().join("lax-runs");
    let podman = kit.beside(lax).await;
    let run = podman.start(with("echo ran", memory(64 << 20))).await.expect("it starts");
    assert_eq!(end(run).await.stdout, "ran\n");
    let strict = kit.podman.check(&with("true", memory(64 << 20))).await;
    assert_eq!(strict.is_ok(), kit.is_bounded());
    let told = kit.podman.enforcement();
    assert_eq!(told.is_in_force("memory"), kit.is_bounded());
    assert!(told.is_in_force("podman") && told.is_in_force("noNewPrivileges"), "{told:?}");
}
