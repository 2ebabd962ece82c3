//! All nodes forget the same, whoever leads.

use std::sync::atomic::{AtomicI64, Ordering};

use skyclaw_core::Operation;
use skyclaw_proto::Timestamp;
use skyclaw_replication::{JobFilter, JobRetention, Section};

use super::*;
use crate::skyclaw_clock;

static PASSED: AtomicI64 = AtomicI64::new(0);

fn clock() -> Timestamp {
    Timestamp::from_millis(skyclaw_clock().as_millis() + PASSED.load(Ordering::Relaxed))
}

/// Three nodes that would keep jobs for different times, but as many.
async fn form(count: u64) -> Cluster {
    let net = Arc::new(Net::default());
    let mut members = Vec::new();
    for (url, hours) in URLS.into_iter().zip([1, 100, 10_000]) {
        let (dir, tracker) = (tempfile::tempdir().expect("a directory"), TaskTracker::new());
        let age = Some(Duration::from_secs(hours * 3600));
        let jobs = JobRetention { age, count: Some(count) };
        let options = Options { jobs, clock, ..member_options(&net, url, &dir, &URLS) };
        let node = Node::start(options, &tracker).await.expect("the node starts");
        net.plug_in(url, node.clone());
        members.push(Member { node, tracker, dir, url });
    }
    let cluster = Cluster { net, members };
    wait_until("all vote", || cluster.voters() == 3 && cluster.members.iter().all(|m| m.node.health().ready))
        .await;
    cluster
}

/// Everything a node has of jobs, and the numbers that come next.
async fn content(node: &Node) -> String {
    let mut export = node.export().await.expect("an export");
    let mut all = format!("{:?}", export.counters());
    while let Some(section) = export.next().await.expect("a section") {
        if let Section::Jobs(jobs) = section {
            all += &serde_json::to_string(&jobs).expect("json");
        }
    }
    all
}

async fn jobs_at(node: &Node) -> usize {
    node.jobs(&JobFilter::default(), None, 1000).await.expect("a page").len()
}

/// Waits until every node has so many jobs, and just the same ones.
async fn settled(cluster: &Cluster, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut counts = Vec::new();
        for member in &cluster.members {
            counts.push(jobs_at(&member.node).await);
        }
        if counts.iter().all(|n| *n == count) {
            break;
        }
        assert!(Instant::now() < deadline, "{counts:?} jobs are left, and should be {count}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let first = content(&cluster.members[0].node).await;
    for member in &cluster.members[1..] {
        assert_eq!(content(&member.node).await, first, "{} differs", member.url);
    }
}

async fn end_jobs(node: &Node, count: usize) -> Vec<JobId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let id = enqueue_at(node).await;
        node.write(None, Operation::Cancel { id: id.clone() }).await.expect("called off");
        ids.push(id);
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_forget_the_same_jobs_also_when_the_leader_changes_meanwhile() {
    let cluster = form(30).await;
    let leader = cluster.led().await;
    let ids = end_jobs(&cluster.members[leader].node, 300).await;
    let waits = enqueue_at(&cluster.members[leader].node).await;
    PASSED.store(10_000, Ordering::Relaxed);
    let deadline = Instant::now() + Duration::from_secs(60);
    while jobs_at(&cluster.members[leader].node).await == 301 {
        assert!(Instant::now() < deadline, "it has not begun");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(cluster.members[leader].node.hand_over(None).await, "somebody else leads");
    settled(&cluster, 31).await;
    for member in &cluster.members {
        assert!(member.node.job(&ids[269]).await.expect("read").is_none(), "an older one is gone");
        for id in ids[270..].iter().chain([&waits]) {
            assert!(member.node.job(id).await.expect("read").is_some(), "{id} is one of the newest");
        }
    }
    // With others to come, under a leader that finds them by itself.
    let leader = cluster.led().await;
    end_jobs(&cluster.members[(leader + 1) % 3].node, 40).await;
    PASSED.store(20_000, Ordering::Relaxed);
    settled(&cluster, 31).await;
    cluster.stop().await;
}
