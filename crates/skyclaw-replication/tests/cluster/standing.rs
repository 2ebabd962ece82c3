//! Who may serve and who may not, and that it says why; the leadership handed on without a scratch.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::node_task;

const FOREIGN: &str = "http://d";

impl Member {
    fn why(&self) -> String {
        self.node.health().reason.unwrap_or_default()
    }

    fn leads(&self) -> bool {
        let all = self.node.members();
        all.iter().any(|m| m.role == Role::Leader && m.url.as_deref() == Some(self.url))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_removed_hands_over_first_and_knows_that_it_is_out() {
    let mut cluster = Cluster::form(3).await;
    let leader = cluster.led().await;
    let out = cluster.members.remove(leader);
    let name = out.node.node_id().to_string();
    let removed = removed(&out.node, &name).await;
    assert_eq!(removed.node_id.as_ref(), Some(out.node.node_id()));
    assert!(out.why().contains("was removed from the cluster"), "{}", out.why());
    let refused = out.node.write(None, enqueue()).await;
    assert!(matches!(refused, Err(WriteError::NotServing(_))), "{refused:?}");
    let refused = out.node.claim(&host(), 1, Duration::from_secs(60), None).await;
    assert!(matches!(refused, Err(WriteError::NotServing(_))), "its hosts are sent elsewhere: {refused:?}");
    cluster.led().await;
    for member in &cluster.members {
        enqueue_at(&member.node).await;
        wait_until("it is gone for all", || member.node.members().len() == 2).await;
    }
    assert!(!out.leads());
    cluster.members.push(out);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_removed_while_it_is_down_learns_so_when_it_starts() {
    let mut cluster = Cluster::form(3).await;
    let leader = cluster.led().await;
    let gone = cluster.members.remove((leader + 1) % 3);
    let (name, url) = (gone.node.node_id().to_string(), gone.url);
    let dir = gone.stop(&cluster.net).await;
    let leader = cluster.led().await;
    removed(&cluster.members[leader].node, &name).await;
    let back = Member::start(&cluster.net, url, dir, &URLS).await;
    let mut said = String::new();
    wait_until("it knows", || {
        let why = back.why();
        if why != said {
            println!("{why}; {:?}", back.node.cluster());
            said.clone_from(&why);
        }
        why.contains("was removed from the cluster")
    })
    .await;
    assert!(!back.leads());
    enqueue_at(&cluster.members[0].node).await;
    cluster.members.push(back);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_voter_cannot_be_removed() {
    let net = Arc::new(Net::default());
    let dir = tempfile::tempdir().expect("a directory");
    let only = Member::start(&net, FOREIGN, dir, &[FOREIGN]).await;
    let refused = only.node.remove_member(only.node.node_id().as_str()).await;
    assert!(matches!(refused, Err(ChangeError::LastVoter(_))), "{refused:?}");
    only.stop(&net).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_sees_an_unknown_outcome_while_the_leadership_goes_round() {
    let cluster = Cluster::form(3).await;
    let (done, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..12)
        .map(|i| {
            let node = cluster.members[i % 3].node.clone();
            let (done, written) = (Arc::clone(&done), Arc::clone(&written));
            node_task(&node.clone(), async move {
                while !done.load(Ordering::Relaxed) {
                    // Without a key: nobody would try it again.
                    let outcome = node.write(None, enqueue()).await;
                    assert!(outcome.is_ok(), "{outcome:?}");
                    written.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut rounds = 0;
    // One that comes to nothing, as everybody is busy, must not be noticed either.
    while rounds < 6 {
        let before = written.load(Ordering::Relaxed);
        let leader = cluster.led().await;
        rounds += u32::from(cluster.members[leader].node.hand_over(None).await);
        wait_until("writes go on", || written.load(Ordering::Relaxed) > before + 24).await;
    }
    done.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("every write was done");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_one_among_the_members_of_another_takes_no_work_and_says_why() {
    let mut cluster = Cluster::form(3).await;
    let dir = tempfile::tempdir().expect("a directory");
    let alone = Member::start(&cluster.net, FOREIGN, dir, &[FOREIGN]).await;
    let own = alone.node.cluster().cluster_id.expect("a cluster of its own");
    let theirs = cluster.members[0].node.cluster().cluster_id.expect("a cluster");
    let dir = alone.stop(&cluster.net).await;
    let lost =
        Member::start(&cluster.net, FOREIGN, dir, &["http://a", "http://b", "http://c", FOREIGN]).await;
    wait_until("it has asked", || lost.why().contains("two clusters never merge")).await;
    for part in [own.as_str(), theirs.as_str(), "SKYCLAW_PEER_URLS"] {
        assert!(lost.why().contains(part), "{part} is not in {}", lost.why());
    }
    let refused = lost.node.write(None, enqueue()).await;
    assert!(matches!(refused, Err(WriteError::NotServing(_))), "{refused:?}");
    assert_eq!(lost.node.cluster().cluster_id.as_ref(), Some(&own), "it stays what it was");
    // That the others cannot be asked any more makes them no friends: two more looks change nothing.
    cluster.net.isolate(FOREIGN, &["http://a", "http://b", "http://c", FOREIGN]);
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert!(!lost.node.health().ready, "it begins to serve");
    }
    cluster.net.heal();
    for member in &cluster.members {
        assert_eq!(member.node.members().len(), 3);
        enqueue_at(&member.node).await;
    }
    cluster.members.push(lost);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_address_among_the_right_ones_stops_no_member() {
    let mut cluster = Cluster::form(3).await;
    let dir = tempfile::tempdir().expect("a directory");
    let stranger = Member::start(&cluster.net, FOREIGN, dir, &[FOREIGN]).await;
    let leader = cluster.led().await;
    let member = cluster.members.remove((leader + 1) % 3);
    let url = member.url;
    let dir = member.stop(&cluster.net).await;
    let peers = ["http://a", "http://b", "http://c", FOREIGN];
    let back = Member::start(&cluster.net, url, dir, &peers).await;
    wait_until("it serves", || back.node.health().ready).await;
    enqueue_at(&back.node).await;
    cluster.members.push(back);
    cluster.members.push(stranger);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_ready_says_what_is_missing() {
    let net = Arc::new(Net::default());
    let dir = tempfile::tempdir().expect("a directory");
    let forming = Member::start(&net, URLS[0], dir, &URLS).await;
    wait_until("it has looked around", || forming.why().contains("waiting for 3 blank nodes")).await;
    forming.stop(&net).await;

    let dir = tempfile::tempdir().expect("a directory");
    let short = Member::start(&net, FOREIGN, dir, &[FOREIGN]).await;
    assert!(short.why().contains("insufficient peers: requires at least 1 known peers"), "{}", short.why());
    short.stop(&net).await;

    let cluster = Cluster::form(3).await;
    let leader = cluster.led().await;
    let (left, others) = (&cluster.members[leader], URLS);
    cluster.net.isolate(left.url, &others);
    wait_until("it does not lead or reaches nobody", || {
        left.why().contains("no leader") || left.why().contains("replication target not met")
    })
    .await;
    cluster.net.heal();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_member_tells_what_the_autopilot_of_the_leader_has_found() {
    let cluster = Cluster::form(3).await;
    let leader = cluster.led().await;
    let name = cluster.members[leader].node.node_id().clone();
    for member in &cluster.members {
        let deadline = Instant::now() + Duration::from_secs(30);
        let found = loop {
            let found = member.node.autopilot().await.expect("an answer");
            // It looks four times a second, and may not have seen the last one vote.
            if found.healthy && found.voters == 3 {
                break found;
            }
            assert!(Instant::now() < deadline, "{found:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!((&found.node_id, found.failure_tolerance), (&name, 1));
        assert!(found.members.iter().all(|m| m.healthy && m.why.is_none()), "{found:?}");
    }
    cluster.stop().await;
}
