//! How long no write is acknowledged when the leader goes.

use std::time::Duration;

use skyclaw_tests::Cluster;

use super::succession::longest_gap;

pub(super) fn measure(times: usize, kill_goal_ms: u64, stop_goal_ms: u64) {
    let mut cluster = Cluster::start(3);
    let kill = median("kill -9", &mut cluster, times, Cluster::kill9);
    let stop = median("a clean stop", &mut cluster, times, Cluster::terminate);
    let within = |gap: Duration, goal_ms| gap <= Duration::from_millis(goal_ms);
    assert!(within(kill, kill_goal_ms), "kill -9: {kill:?}, the goal is {kill_goal_ms} ms");
    assert!(within(stop, stop_goal_ms), "a clean stop: {stop:?}, the goal is {stop_goal_ms} ms");
}

fn median(what: &str, cluster: &mut Cluster, times: usize, end: fn(&mut Cluster, usize)) -> Duration {
    let mut gaps = Vec::new();
    for _ in 0..times.max(1) {
        let leader = cluster.leader();
        gaps.push(longest_gap(cluster, leader, end));
        cluster.restart(leader);
        cluster.wait_whole();
    }
    gaps.sort();
    let median = gaps[gaps.len() / 2];
    let (least, most) = (gaps[0], gaps[gaps.len() - 1]);
    println!(
        "{what} of the leader, {} times: no write for {median:?} (median), {least:?} to {most:?}",
        gaps.len()
    );
    median
}
