//! Requests that wait at a coordinator that does not lead. (Ours.)

use std::time::{Duration, Instant};

use skyclaw_tests::mesh::id;
use skyclaw_tests::{Cluster, LONG, json, wait_until};

/// Far more than anything takes that does not wait, far less than the wait that is asked for.
const AT_ONCE: Duration = Duration::from_secs(15);

#[test]
fn who_waits_for_a_job_at_a_follower_is_woken_though_the_leader_is_lost_meanwhile() {
    let mut cluster = Cluster::start(3);
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let wire = cluster.wire(follower);
    let job = wire.enqueue();
    let path = format!("/v1/jobs/{}", id(&job));
    wait_until("the follower knows the job", LONG, || (wire.get(&path).send().status == 200).then_some(()));
    let waiting = format!("{path}?waitMs=30000&version={}", job["version"]);
    let (answer, took) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| wire.get(&waiting).ok());
        cluster.kill9(leader);
        let cancelled = wait_until("another leads and calls the job off", LONG, || {
            let reply = cluster.wire(follower).call("POST", &format!("{path}/cancel")).try_send();
            reply.is_ok_and(|reply| reply.status == 200).then(Instant::now)
        });
        let answer = asking.join().expect("the answer");
        (answer, cancelled.elapsed())
    });
    assert_eq!(answer["job"]["status"], json!("cancelled"));
    assert!(took < AT_ONCE, "it slept through");
}
