//! What is promised of runs on real hosts: that two of one job are never there at the same time, that they
//! outlive their daemon, that they are stopped when they must be, and that nothing gets out or is left.

mod blows;
mod escapes;
mod freezing;
mod hogs;
mod kills;
mod overlap;
mod witness;

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use skyclaw_tests::outside;
use skyclaw_tests::podman::{Service, Who};

/// More often than hosts usually do, so that a test need not last for longer than one.
const HEARTBEAT: Duration = Duration::from_secs(2);

#[test]
fn whatever_befalls_a_host_two_runs_of_a_job_never_overlap_and_each_job_ends_as_it_says() {
    let mut rng = StdRng::seed_from_u64(outside::seed(rand::random()));
    overlap::trials(4, 4, Duration::from_secs(5), None, &mut rng);
}

#[test]
fn whatever_befalls_a_host_with_containers_two_runs_of_a_job_never_overlap() {
    overlap_in_containers(Who::Root);
}

#[test]
fn whatever_befalls_a_host_with_containers_of_a_user_two_runs_of_a_job_never_overlap() {
    overlap_in_containers(Who::Rootless);
}

fn overlap_in_containers(who: Who) {
    let mut rng = StdRng::seed_from_u64(outside::seed(rand::random()));
    let service = Service::start(who);
    service.give_witness();
    overlap::trials(2, 2, Duration::from_secs(5), Some(&service), &mut rng);
}

#[test]
fn jobs_of_a_host_whose_daemon_is_killed_at_any_moment_end_once_and_are_told_in_full() {
    let mut rng = StdRng::seed_from_u64(outside::seed(rand::random()));
    kills::kills(5, &[kills::PROCESS], &[], &mut rng);
}

#[test]
fn all_that_runs_is_stopped_by_a_freeze_and_nothing_begins_before_the_thaw_though_leaders_die() {
    freezing::freeze(freezing::Death::Unheard, HEARTBEAT, None);
}

#[test]
fn all_that_runs_is_stopped_by_a_freeze_of_a_cluster_that_is_well() {
    freezing::freeze(freezing::Death::Later, HEARTBEAT, None);
}

#[test]
fn all_that_runs_is_stopped_by_a_freeze_whose_leader_is_killed_as_soon_as_it_is_acknowledged() {
    freezing::freeze(freezing::Death::AtOnce, HEARTBEAT, None);
}
