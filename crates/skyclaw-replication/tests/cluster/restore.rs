//! A cluster goes back to a snapshot as one, whoever fails meanwhile.

use std::time::Duration;

use skyclaw_core::{Refusal, StagedPart};
use skyclaw_proto::{JobStatus, RestoreId};
use skyclaw_replication::WriteError;

use super::*;

fn restore_id(name: &str) -> RestoreId {
    RestoreId::parse(name).expect("an id")
}

async fn snapshot(node: &Node) -> Vec<u8> {
    let backup = node.backup(uuid::Uuid::now_v7(), Duration::from_secs(20)).await.expect("a backup");
    let mut bytes = Vec::new();
    backup.write(&mut bytes).await.expect("a snapshot");
    bytes
}

fn parts(id: &str, bytes: &[u8]) -> Vec<StagedPart> {
    let part = |(part, bytes): (usize, &[u8])| StagedPart {
        restore: restore_id(id),
        part: u32::try_from(part).expect("few parts"),
        bytes: bytes.to_vec(),
    };
    bytes.chunks(16 * 1024).enumerate().map(part).collect()
}

async fn stage(node: &Node, id: &str, bytes: &[u8]) {
    for part in parts(id, bytes) {
        node.stage(part).await.expect("staged");
    }
}

async fn commit(node: &Node, id: &str) -> Result<u64, WriteError> {
    let done = node.restore(restore_id(id), false, Some("me".into()), Duration::ZERO).await;
    done.map(|restore| restore.number)
}

/// All nodes hold the same, and this is whether a job is among it.
async fn known_everywhere(cluster: &Cluster, id: &JobId) -> bool {
    let mut known = BTreeSet::new();
    for member in &cluster.members {
        member.node.catch_up(Duration::from_secs(30)).await.expect("caught up");
        known.insert(member.node.job(id).await.expect("read").is_some());
    }
    assert_eq!(known.len(), 1, "all nodes say the same of {id}");
    known.contains(&true)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_goes_back_as_one_and_its_numbers_go_on() {
    let mut cluster = Cluster::form(3).await;
    let leader = cluster.led().await;
    let follower = (leader + 1) % 3;
    register(&cluster.members[0].node, 4).await;
    let before = enqueue_at(&cluster.members[0].node).await;
    let bytes = snapshot(&cluster.members[follower].node).await;
    let leased = claimed(&cluster.members[0].node, Duration::ZERO, None).await;
    let after = enqueue_at(&cluster.members[0].node).await;
    stage(&cluster.members[follower].node, "r", &bytes).await;

    let refused = commit(&cluster.members[follower].node, "r").await;
    let jobs = vec![before.clone()];
    assert_eq!(
        refused,
        Err(WriteError::Refused(Refusal::JobsLeased { count: 1, jobs })),
        "it may be running"
    );
    let done = cluster.members[0].node.write(None, completion(&before, Some(leased[0].fence))).await;
    assert!(done.is_ok(), "{done:?}");
    assert_eq!(commit(&cluster.members[follower].node, "r").await, Ok(1));
    assert_eq!(
        commit(&cluster.members[leader].node, "r").await,
        Ok(1),
        "asked again, it says what came of it"
    );

    assert!(!known_everywhere(&cluster, &after).await, "it was undone");
    assert!(known_everywhere(&cluster, &before).await);
    let again = claimed(&cluster.members[0].node, Duration::from_secs(20), None).await;
    assert_eq!(again[0].id, before, "it is queued again");
    assert!(again[0].fence > leased[0].fence, "no token is given out twice");

    // A restart in between makes no difference.
    let mut dirs = Vec::new();
    for member in cluster.members.drain(..) {
        dirs.push((member.url, member.stop(&cluster.net).await));
    }
    for (url, dir) in dirs {
        cluster.members.push(Member::start(&cluster.net, url, dir, &URLS).await);
    }
    cluster.led().await;
    assert!(!known_everywhere(&cluster, &after).await);
    for member in &cluster.members {
        let restores = member.node.restores().await.expect("read");
        assert_eq!(restores.len(), 1, "what was done can be shown");
        assert_eq!(restores[0].requested_by.as_deref(), Some("me"));
        let job = member.node.job(&before).await.expect("read").expect("the job");
        assert_eq!((job.status(), job.fence), (JobStatus::Leased, again[0].fence));
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_goes_on_under_another_leader_and_a_node_that_was_cut_off_follows() {
    let cluster = Cluster::form(3).await;
    let leader = cluster.led().await;
    let survivor = (leader + 1) % 3;
    let before = enqueue_at(&cluster.members[0].node).await;
    let bytes = snapshot(&cluster.members[0].node).await;
    let after = enqueue_at(&cluster.members[0].node).await;
    let all = parts("r", &bytes);
    let (early, late) = all.split_at(all.len() / 2);
    for part in early {
        cluster.members[survivor].node.stage(part.clone()).await.expect("staged");
    }
    cluster.net.isolate(cluster.members[leader].url, &URLS);
    for part in late {
        cluster.members[survivor].node.stage(part.clone()).await.expect("staged by the next leader");
    }
    assert_eq!(commit(&cluster.members[survivor].node, "r").await, Ok(1));
    cluster.net.heal();
    assert!(known_everywhere(&cluster, &before).await);
    assert!(!known_everywhere(&cluster, &after).await);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_gone_back_to_is_refused_and_nothing_changes() {
    let dirs = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
    let (one, other) = (crate::start(dirs[0].path()).await, crate::start(dirs[1].path()).await);
    let (node, stranger) = (&one.0, &other.0);
    let own = snapshot(node).await;
    let job = enqueue_at(node).await;
    let refused = |result: Result<u64, WriteError>| match result {
        Err(WriteError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    };
    assert_eq!(refused(commit(node, "r").await), Refusal::NotStaged(restore_id("r")));

    for part in parts("r", &own).into_iter().skip(1) {
        node.stage(part).await.expect("staged");
    }
    let missing = Refusal::RestoreIncomplete { restore: restore_id("r"), part: 0 };
    assert_eq!(refused(commit(node, "r").await), missing);

    let mut damaged = own.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    stage(node, "r", &damaged).await;
    assert!(matches!(refused(commit(node, "r").await), Refusal::SnapshotUnusable(_)));
    assert_eq!(refused(commit(node, "r").await), Refusal::NotStaged(restore_id("r")), "it is not kept");

    let foreign = snapshot(stranger).await;
    stage(node, "f", &foreign).await;
    assert!(matches!(refused(commit(node, "f").await), Refusal::ForeignSnapshot { .. }));
    assert!(node.job(&job).await.expect("read").is_some(), "nothing changed");

    let forced = node.restore(restore_id("f"), true, None, Duration::ZERO).await.expect("by force");
    assert!(forced.foreign && forced.claims_held);
    assert!(node.job(&job).await.expect("read").is_none());
    register(node, 1).await;
    enqueue_at(node).await;
    let held = claimed(node, Duration::ZERO, None).await;
    assert!(held.is_empty(), "runs of the other cluster may not be over yet");
    crate::stop(one).await;
    crate::stop(other).await;
}
