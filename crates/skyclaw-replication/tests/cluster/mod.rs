//! Several nodes in one process, on disks of their own, over a network that can be cut.

mod restore;
mod retention;
mod standing;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skyclaw_core::Reply;
use skyclaw_proto::response::ClusterMember;
use skyclaw_proto::{JobId, NodeId};
use skyclaw_replication::{ChangeError, Node, Options, Role, WriteError};
use tempfile::TempDir;
use tokio_util::task::TaskTracker;

use crate::net::Net;
use crate::{claimed, completion, enqueue, host, key, options, register};

const URLS: [&str; 3] = ["http://a", "http://b", "http://c"];

struct Member {
    node: Node,
    tracker: TaskTracker,
    dir: TempDir,
    url: &'static str,
}

struct Cluster {
    net: Arc<Net>,
    members: Vec<Member>,
}

fn member_options(net: &Arc<Net>, url: &str, dir: &TempDir, peers: &[&str]) -> Options {
    Options {
        node_id: Some(NodeId::parse(&format!("node-{}", &url[7..])).expect("an id")),
        url: Some(url.to_owned()),
        peer_urls: peers.iter().filter(|peer| **peer != url).map(|peer| (*peer).to_owned()).collect(),
        bootstrap_expect: peers.len(),
        min_replications: 2,
        wire: net.port(url),
        ..options(dir.path())
    }
}

impl Member {
    async fn start(net: &Arc<Net>, url: &'static str, dir: TempDir, peers: &[&str]) -> Self {
        let tracker = TaskTracker::new();
        let node =
            Node::start(member_options(net, url, &dir, peers), &tracker).await.expect("the node starts");
        net.plug_in(url, node.clone());
        Self { node, tracker, dir, url }
    }

    async fn stop(self, net: &Net) -> TempDir {
        self.node.shutdown().await;
        net.unplug(self.url);
        drop(self.node);
        self.tracker.close();
        self.tracker.wait().await;
        self.dir
    }
}

impl Cluster {
    async fn form(count: usize) -> Self {
        let net = Arc::new(Net::default());
        let mut members = Vec::new();
        for url in &URLS[..count] {
            let dir = tempfile::tempdir().expect("a directory");
            members.push(Member::start(&net, url, dir, &URLS[..count]).await);
        }
        let cluster = Self { net, members };
        wait_until("all vote", || {
            cluster.voters() == count && cluster.members.iter().all(|m| m.node.health().ready)
        })
        .await;
        cluster
    }

    fn voters(&self) -> usize {
        let views = self.members.iter().map(|m| m.node.members());
        views.map(|all| all.iter().filter(|m| m.role != Role::Learner).count()).min().unwrap_or(0)
    }

    fn leader(&self) -> Option<usize> {
        self.members.iter().position(|member| {
            let all = member.node.members();
            all.iter().any(|m| m.role == Role::Leader && m.url.as_deref() == Some(member.url))
        })
    }

    async fn led(&self) -> usize {
        wait_until("somebody leads", || self.leader().is_some()).await;
        self.leader().expect("a leader")
    }

    async fn stop(mut self) {
        for member in self.members.drain(..) {
            member.stop(&self.net).await;
        }
    }
}

/// Waits for something that must come about.
async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Has a member taken out. All vote before the change that made the last of them a voter is over.
async fn removed(node: &Node, name: &str) -> ClusterMember {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match node.remove_member(name).await {
            Err(ChangeError::Busy) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            removed => return removed.expect("removed"),
        }
    }
}

async fn enqueue_at(node: &Node) -> JobId {
    match node.write(None, enqueue()).await.expect("enqueued").reply {
        Reply::Job(job) => job.id.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_blank_nodes_form_one_cluster_and_any_takes_writes() {
    let cluster = Cluster::form(3).await;
    let mut ids = BTreeSet::new();
    for member in &cluster.members {
        ids.insert(enqueue_at(&member.node).await);
    }
    for member in &cluster.members {
        member.node.catch_up(Duration::from_secs(10)).await.expect("caught up");
        for id in &ids {
            assert!(member.node.job(id).await.expect("read").is_some(), "{id} is known to all");
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_waits_at_a_follower_is_woken_by_an_enqueue_at_another() {
    let cluster = Cluster::form(3).await;
    let leader = cluster.led().await;
    let followers: Vec<usize> = (0..3).filter(|i| *i != leader).collect();
    let (here, there) = (&cluster.members[followers[0]].node, &cluster.members[followers[1]].node);
    register(here, 1).await;
    let waiting = claimed(here, Duration::from_secs(60), None);
    let (jobs, id) = tokio::join!(waiting, enqueue_at(there));
    assert_eq!(jobs.iter().map(|job| &job.id).collect::<Vec<_>>(), [&id]);
    let done = there.write(None, completion(&id, Some(jobs[0].fence))).await;
    assert!(done.is_ok(), "{done:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_the_leader_and_keys_stay_good() {
    let mut cluster = Cluster::form(3).await;
    let leader = cluster.led().await;
    let first = cluster.members[leader].node.write(Some(key("k")), enqueue()).await.expect("enqueued").reply;
    let gone = cluster.members.remove(leader);
    cluster.net.isolate(gone.url, &URLS);
    let survivor = &cluster.members[0].node;
    let again = survivor.write(Some(key("k")), enqueue()).await.expect("the others go on").reply;
    assert_eq!(first, again, "the key gives the same job at another node");
    cluster.net.heal();
    gone.node.catch_up(Duration::from_secs(30)).await.expect("it finds back");
    cluster.members.push(gone);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_leader_acknowledges_nothing() {
    let cluster = Cluster::form(3).await;
    let leader = cluster.led().await;
    cluster.net.isolate(cluster.members[leader].url, &URLS);
    let written = cluster.members[leader].node.write(None, enqueue()).await;
    assert!(
        matches!(
            written,
            Err(WriteError::OutcomeUnknown | WriteError::NoLeader | WriteError::PeersUnreachable { .. })
        ),
        "{written:?}"
    );
    cluster.net.heal();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handed_over_leadership_is_there_at_once() {
    let cluster = Cluster::form(3).await;
    let leader = cluster.led().await;
    let started = Instant::now();
    assert!(cluster.members[leader].node.hand_over(None).await, "somebody else leads");
    println!("handed over in {:?}", started.elapsed());
    let new = cluster.led().await;
    assert_ne!(new, leader);
    enqueue_at(&cluster.members[leader].node).await;
    println!("written again after {:?}", started.elapsed());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_disk_comes_back_as_another() {
    let mut cluster = Cluster::form(3).await;
    let leader = cluster.led().await;
    let lost = (leader + 1) % 3;
    let member = cluster.members.remove(lost);
    let old = member
        .node
        .members()
        .into_iter()
        .find(|m| m.url.as_deref() == Some(member.url))
        .expect("itself")
        .raft_id;
    let url = member.url;
    drop(member.stop(&cluster.net).await);
    let id = enqueue_at(&cluster.members[0].node).await;
    let dir = tempfile::tempdir().expect("a directory");
    cluster.members.push(Member::start(&cluster.net, url, dir, &URLS).await);
    wait_until("it votes again", || {
        let all = cluster.members[0].node.members();
        all.len() == 3 && all.iter().all(|m| m.raft_id != old && m.role != Role::Learner)
    })
    .await;
    let back = &cluster.members[2].node;
    back.catch_up(Duration::from_secs(10)).await.expect("caught up");
    assert!(back.job(&id).await.expect("read").is_some());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_removed_and_say_so() {
    let cluster = Cluster::form(3).await;
    let leader = cluster.led().await;
    let other = cluster.members[(leader + 1) % 3].node.node_id().to_string();
    removed(&cluster.members[leader].node, &other).await;
    let left = cluster.members[leader].node.members();
    assert!(left.len() == 2 && left.iter().all(|m| m.node_id.as_ref().map(NodeId::as_str) != Some(&other)));
    enqueue_at(&cluster.members[leader].node).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_cluster_has_all_it_acknowledged() {
    let mut cluster = Cluster::form(3).await;
    register(&cluster.members[0].node, 1).await;
    let id = enqueue_at(&cluster.members[1].node).await;
    let mut dirs = Vec::new();
    for member in cluster.members.drain(..) {
        let url = member.url;
        dirs.push((url, member.stop(&cluster.net).await));
    }
    for (url, dir) in dirs {
        cluster.members.push(Member::start(&cluster.net, url, dir, &URLS).await);
    }
    cluster.led().await;
    for member in &cluster.members {
        member.node.catch_up(Duration::from_secs(20)).await.expect("caught up");
        assert!(member.node.job(&id).await.expect("read").is_some());
        assert!(member.node.host(&host()).await.expect("read").is_some());
    }
    cluster.stop().await;
}
