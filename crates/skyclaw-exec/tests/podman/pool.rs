//! Containers that are made ahead.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use skyclaw_exec::podman::{Config, Podman, PoolConfig, Spec, User};

use super::kit::{Ended, Kit, config, end, sh};

super::with_both!(
    what_is_asked_for_often_is_made_ahead_and_used_once,
    what_is_asked_for_without_a_pause_is_made_ahead_all_the_same,
    what_was_made_ahead_is_bounded_and_fits_exactly,
    what_was_made_ahead_is_given_back,
    what_was_made_ahead_and_died_is_not_used,
);

/// Asked for once is often, and nobody waits long.
fn eager(kit: &Kit) -> Config {
    let pool = PoolConfig {
        max: 3,
        per_shape: 2,
        often: 1,
        pause: Duration::from_millis(20),
        min_available_bytes: 0,
        ..PoolConfig::default()
    };
    Config { pool, ..config(&kit.service, "eager") }
}

async fn until_ready(podman: &Podman, count: usize) {
    let start = Instant::now();
    while podman.ready().await != count {
        assert!(start.elapsed() < skyclaw_tests::LONG, "{} are ready, not {count}", podman.ready().await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn run(podman: &Podman, spec: Spec) -> Ended {
    end(podman.start(spec).await.expect("it starts")).await
}

async fn what_is_asked_for_often_is_made_ahead_and_used_once(kit: &mut Kit) {
    let podman = kit.beside(eager(kit)).await;
    assert_eq!(run(&podman, sh("echo first")).await.stdout, "first\n");
    until_ready(&podman, 1).await;
    let ahead = kit.service.containers();
    let mut spec = sh("echo $0 $GIVEN $OWN; cat /.skyclaw/run/secrets/key; echo x > /tmp/x; exit 3");
    spec.env.insert("OWN".to_owned(), "second".to_owned());
    spec.secrets.insert("key".to_owned(), skyclaw_exec::podman::Secret::new("s3cret\n"));
    let second = podman.start(spec).await.expect("it starts");
    assert_eq!([second.id()], [ahead[0].as_str()], "the one that was ready was used");
    let ended = end(second).await;
    assert_eq!((ended.stdout.as_str(), ended.code()), ("sh by the job second\ns3cret\n", 3), "{ended:?}");
    let third = run(&podman, sh("ls /tmp /.skyclaw/run/secrets; echo $OWN")).await;
    assert_eq!(third.stdout, "/.skyclaw/run/secrets:\n\n/tmp:\n\n", "nothing of the second: {third:?}");
    podman.drain().await;
    assert_eq!(podman.ready().await, 0);
}

async fn what_is_asked_for_without_a_pause_is_made_ahead_all_the_same(kit: &mut Kit) {
    // Longer than any test: no pause comes.
    let pause = Duration::from_secs(86_400);
    let pool = PoolConfig { pause, patience: Duration::from_millis(50), ..eager(kit).pool };
    let podman = kit.beside(Config { pool, ..eager(kit) }).await;
    assert_eq!(run(&podman, sh("echo first")).await.stdout, "first\n");
    until_ready(&podman, 1).await;
    podman.drain().await;
}

async fn what_was_made_ahead_is_bounded_and_fits_exactly(kit: &mut Kit) {
    let podman = kit.beside(eager(kit)).await;
    let as_user = |uid: u32| Spec { user: Some(User { uid, gid: 7 }), ..sh("id -u") };
    for uid in [501, 502, 501, 502, 503] {
        assert_eq!(run(&podman, as_user(uid)).await.stdout, format!("{uid}\n"));
    }
    until_ready(&podman, 3).await;
    for uid in [504, 503, 502, 501] {
        assert_eq!(run(&podman, as_user(uid)).await.stdout, format!("{uid}\n"));
        assert!(podman.ready().await <= 3);
    }
    if kit.is_bounded() {
        // Limits are set when it starts, whatever it was made for.
        let mut spec = sh("head -c 99000000 /dev/zero | tail -c 98000000 | wc -c");
        run(&podman, sh("true")).await;
        spec.limits.memory_bytes = Some(24 << 20);
        assert!(run(&podman, spec).await.report.out_of_memory);
    }
    podman.drain().await;
}

async fn what_was_made_ahead_is_given_back(kit: &mut Kit) {
    let forgetful = PoolConfig { window: Duration::from_secs(1), ..eager(kit).pool };
    let podman = kit.beside(Config { pool: forgetful, ..eager(kit) }).await;
    // On a slow machine it is forgotten before it is made, and asked for again.
    while podman.ready().await == 0 {
        run(&podman, sh("true")).await;
        let asked = Instant::now();
        while podman.ready().await == 0 && asked.elapsed() < Duration::from_secs(2) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    // Nobody asks any more.
    until_ready(&podman, 0).await;
    let short = PoolConfig { min_available_bytes: u64::MAX, ..eager(kit).pool };
    let poor = kit.beside(Config { pool: short, ..eager(kit) }).await;
    for _ in 0..3 {
        run(&poor, sh("true")).await;
    }
    assert_eq!(poor.ready().await, 0, "there is no memory for it");
    // What a daemon that was killed had made ahead is nobody's.
    let left = kit.beside(eager(kit)).await;
    run(&left, sh("true")).await;
    until_ready(&left, 1).await;
    let later = kit.beside(eager(kit)).await;
    let swept = later.sweep(&BTreeSet::new()).await.expect("a sweep");
    assert_eq!(swept.containers.len(), 1, "{swept:?}");
    left.drain().await;
}

async fn what_was_made_ahead_and_died_is_not_used(kit: &mut Kit) {
    let podman = kit.beside(eager(kit)).await;
    run(&podman, sh("true")).await;
    until_ready(&podman, 1).await;
    let ahead = kit.service.containers();
    kit.service.podman_ok(&["rm", "--force", "--time", "0", &ahead[0]]);
    assert_eq!(run(&podman, sh("echo well")).await.stdout, "well\n");
    podman.drain().await;
}
