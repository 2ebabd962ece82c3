//! Records of a reference coordinator: which of two wins, and what cannot be.

use skyclaw_proto::{JobStatus, Timestamp, record};

use super::foreign;
use super::kit::{START_MS, World, host_id, job_id, node_id};
use crate::command::Operation;
use crate::model::Job;
use crate::outcome::Reply;

fn job(id: &str, version: u64, second: i64, node: &str, status: JobStatus) -> record::Job {
    record::Job {
        updated_by: node_id(node),
        version,
        status,
        attempts: 1,
        assigned_host_id: (status != JobStatus::Queued).then(|| host_id("h9")),
        ..foreign::job(id, Timestamp::from_millis(START_MS + second * 1000))
    }
}

fn host(id: &str, version: u64, active_leases: u32) -> record::Host {
    let at = Timestamp::from_millis(START_MS);
    record::Host { version, active_leases, max_parallel: 5, ..foreign::host(id, at) }
}

/// Merges and says whether anything was adopted.
fn merge(world: &mut World, hosts: &[record::Host], jobs: &[record::Job]) -> bool {
    let operation = Operation::Merge { hosts: hosts.to_vec(), jobs: jobs.to_vec(), services: Vec::new() };
    match world.run(operation) {
        Ok(Reply::Merged(changed)) => changed,
        other => panic!("not a merge: {other:?}"),
    }
}

fn record_of(world: &World, id: &str) -> Job {
    (**world.records.jobs.get(&job_id(id)).expect("it was written")).clone()
}

#[test]
fn the_newer_record_wins_by_version_then_time_then_node() {
    use JobStatus::{Completed, Failed};
    let own = job("j1", 5, 10, "m", Failed);
    for (version, second, node, wins) in [
        (6, 0, "a", true),
        (4, 99, "z", false),
        (5, 11, "a", true),
        (5, 9, "z", false),
        (5, 10, "n", true),
        (5, 10, "l", false),
        (5, 10, "m", false),
    ] {
        let mut world = World::default();
        assert!(merge(&mut world, &[], std::slice::from_ref(&own)));
        let incoming = job("j1", version, second, node, Completed);
        assert_eq!(merge(&mut world, &[], &[incoming]), wins, "({version}, {second}, {node})");
        let want = if wins { Completed } else { Failed };
        assert_eq!(record_of(&world, "j1").status(), want);
    }
}

#[test]
fn merging_the_same_records_again_changes_nothing() {
    let mut world = World::default();
    let hosts = [host("h9", 3, 1), host("h8", 3, 0)];
    let jobs = [
        job("j1", 5, 0, "ref", JobStatus::Queued),
        job("j2", 6, 0, "ref", JobStatus::Leased),
        job("j3", 7, 0, "ref", JobStatus::Completed),
    ];
    assert!(merge(&mut world, &hosts, &jobs));
    assert!(!merge(&mut world, &hosts, &jobs));
    assert_eq!(world.state.host(&host_id("h9")).map(|h| (h.version, h.active_leases)), Some((3, 1)));
}

#[test]
fn what_changes_after_a_merge_is_newer_than_what_was_adopted() {
    let mut world = World::default();
    merge(&mut world, &[host("h9", 40, 0)], &[job("j1", 70, 0, "ref", JobStatus::Queued)]);
    let claimed = world.claim("h9", 1);
    assert!(claimed[0].version > 70);
    assert!(!merge(&mut world, &[], &[job("j1", 70, 99, "ref", JobStatus::Queued)]));
}

#[test]
fn jobs_are_adopted_in_the_order_they_were_made() {
    let mut world = World::default();
    world.register("h1", &[], 9);
    let late = job("late", 1, 9, "ref", JobStatus::Queued);
    let early = job("early", 2, 1, "ref", JobStatus::Queued);
    merge(&mut world, &[], &[late, early]);
    assert_eq!(super::generate::ids(&world.claim("h1", 9)), ["early", "late"]);
}

#[test]
fn of_two_records_of_one_id_in_a_snapshot_the_newer_stands() {
    for turned in [false, true] {
        let mut world = World::default();
        let mut jobs =
            [job("j1", 9, 0, "ref", JobStatus::Completed), job("j1", 3, 0, "ref", JobStatus::Queued)];
        if turned {
            jobs.reverse();
        }
        assert!(merge(&mut world, &[], &jobs));
        assert_eq!(record_of(&world, "j1").status(), JobStatus::Completed);
        assert_eq!(world.state.queued(), 0);
        assert!(!merge(&mut world, &[], &jobs));
    }
}

#[test]
fn a_version_that_leaves_no_room_to_grow_is_not_adopted() {
    let mut world = World::default();
    for version in [u64::MAX, 1 << 53] {
        assert!(!merge(&mut world, &[], &[job("j1", version, 0, "ref", JobStatus::Queued)]));
    }
    assert!(merge(&mut world, &[], &[job("j1", (1 << 53) - 1, 0, "ref", JobStatus::Queued)]));
    assert!(record_of(&world, "j1").version < world.cancel("j1").map_or(0, version_of));
}

fn version_of(reply: Reply) -> u64 {
    super::kit::job_of(Ok(reply)).version
}

#[test]
fn a_count_of_attempts_at_its_end_does_not_stop_the_machine() {
    let mut world = World::default();
    world.register("h1", &[], 1);
    let mut tried = job("j1", 1, 0, "ref", JobStatus::Queued);
    tried.attempts = u32::MAX;
    merge(&mut world, &[], &[tried]);
    assert_eq!(world.claim("h1", 1)[0].attempts, u32::MAX);
}

#[test]
fn a_leased_job_without_a_host_is_queued_and_a_lost_one_waits_for_a_decision() {
    let mut world = World::default();
    let mut nobodys = job("j1", 1, 0, "ref", JobStatus::Leased);
    nobodys.assigned_host_id = None;
    let mut lost_by_nobody = job("j3", 1, 0, "ref", JobStatus::Lost);
    lost_by_nobody.assigned_host_id = None;
    merge(&mut world, &[], &[nobodys, job("j2", 1, 0, "ref", JobStatus::Lost), lost_by_nobody]);
    assert_eq!(record_of(&world, "j1").status(), JobStatus::Queued);
    assert_eq!(record_of(&world, "j2").status(), JobStatus::Lost);
    assert_eq!(record_of(&world, "j3").status(), JobStatus::Failed);
    world.register("h9", &[], 5);
    assert_eq!(world.claim("h9", 5).len(), 1, "what was lost is not run again by itself");
}

#[test]
fn a_host_of_another_mesh_that_is_not_heard_of_here_is_still_taken_over() {
    let mut world = World::default();
    assert!(merge(&mut world, &[host("h9", 3, 0)], &[job("j1", 90, 0, "ref", JobStatus::Queued)]));
    let down = Operation::NoteHosts { up: vec![], down: vec![host_id("h9")] };
    world.run(down).expect("noted");
    assert!(merge(&mut world, &[host("h9", 4, 0)], &[]), "its next version is newer all the same");
    let known = world.state.host(&host_id("h9")).expect("it is known");
    assert!(known.version == 4 && known.down_since().is_some(), "{known:?}");
}

#[test]
fn leases_of_a_host_that_is_not_known_count_once_it_registers() {
    let mut world = World::default();
    merge(&mut world, &[], &[job("j1", 1, 0, "ref", JobStatus::Leased)]);
    assert_eq!(world.register("h9", &[], 2).active_leases, 1);
    let done = world.complete("j1", "h9", true).expect("it has the lease");
    assert_eq!(super::kit::job_of(Ok(done)).status(), JobStatus::Completed);
    assert_eq!(world.state.host(&host_id("h9")).map(|h| h.active_leases), Some(0));
}
