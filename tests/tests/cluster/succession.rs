//! When the leader goes, another takes over and writes go on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use skyclaw_tests::mesh::shell_job;
use skyclaw_tests::{Cluster, LONG, Wire, json};

#[test]
fn writes_go_on_after_a_clean_stop_and_after_the_death_of_the_leader() {
    let mut cluster = Cluster::start(3);
    for (what, end) in [("a clean stop", Cluster::terminate as fn(&mut _, _)), ("kill -9", Cluster::kill9)] {
        for _ in 0..3 {
            let leader = cluster.leader();
            let gap = longest_gap(&mut cluster, leader, end);
            println!("{what} of the leader: no write was acknowledged for {gap:?}");
            cluster.restart(leader);
            cluster.wait_whole();
        }
    }
}

/// Ends the leader while jobs are enqueued, one after the other, at the nodes that stay. The longest time
/// between two acknowledgements, up to the first of a write that began after the end.
pub(super) fn longest_gap(cluster: &mut Cluster, leader: usize, end: fn(&mut Cluster, usize)) -> Duration {
    let stay: Vec<Wire> = (0..3).filter(|node| *node != leader).map(|node| cluster.wire(node)).collect();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut last = write(&stay);
        let mut longest = Duration::ZERO;
        let ending = scope.spawn(|| {
            end(cluster, leader);
            ended.store(true, Ordering::Relaxed);
        });
        loop {
            let began_after = ended.load(Ordering::Relaxed) || ending.is_finished();
            let now = write(&stay);
            longest = longest.max(now - last);
            last = now;
            if began_after {
                return longest;
            }
        }
    })
}

/// Enqueues a job at one node or the other. Says when that was acknowledged.
fn write(nodes: &[Wire]) -> Instant {
    let start = Instant::now();
    for node in nodes.iter().cycle() {
        let reply = node.post("/v1/jobs", &shell_job(&json!({}))).try_send();
        if reply.as_ref().is_ok_and(|reply| reply.status == 200) {
            break;
        }
        assert!(start.elapsed() < LONG, "writes do not go on: {reply:?}");
    }
    Instant::now()
}
