//! Services: who is offered what, when, and how a service does as a whole.

use std::time::Duration;

use skyclaw_proto::AssignmentStatus::{self, Failed, Pending, Running};
use skyclaw_proto::ServiceStatus;

use super::kit::{World, host_id, service_id};
use crate::model::Service;
use crate::state::ServiceOffer;

fn world(hosts: &[&str]) -> World {
    let mut world = World::default();
    for host in hosts {
        world.register(host, &[], 1);
    }
    world
}

fn told(world: &mut World, host: &str) -> Option<String> {
    world.claim_service(host).map(|service| service.id.to_string())
}

fn seen(service: &Service) -> Vec<(&str, AssignmentStatus)> {
    service.assignments.iter().map(|a| (a.host.as_str(), a.status)).collect()
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_service_runs_if_any_replica_does_else_is_pending_if_any_is_else_failed() {
    for (reports, want) in [
        (vec![], ServiceStatus::Pending),
        (vec![Pending], ServiceStatus::Pending),
        (vec![Running], ServiceStatus::Running),
        (vec![Failed], ServiceStatus::Failed),
        (vec![Failed, Failed], ServiceStatus::Failed),
        (vec![Failed, Pending], ServiceStatus::Pending),
        (vec![Running, Failed], ServiceStatus::Running),
        (vec![Pending, Running], ServiceStatus::Running),
    ] {
        let mut world = world(&["h0", "h1"]);
        world.deploy("s1", 2);
        for (i, _) in reports.iter().enumerate() {
            world.claim_service(&format!("h{i}"));
        }
        for (i, status) in reports.iter().enumerate() {
            world.report("s1", &format!("h{i}"), *status);
        }
        let status = world.state.service(&service_id("s1")).map(|s| s.status);
        assert_eq!(status, Some(want), "{reports:?}");
    }
}

#[test]
fn a_replica_is_given_once_for_each_asked_for() {
    let mut world = world(&["h1", "h2", "h3"]);
    world.deploy("s1", 2);
    assert_eq!(told(&mut world, "h1").as_deref(), Some("s1"));
    assert_eq!(told(&mut world, "h2").as_deref(), Some("s1"));
    assert_eq!(told(&mut world, "h3"), None);
}

#[test]
fn the_first_run_sets_started_at_and_later_ones_leave_it() {
    let mut world = world(&["h1"]);
    world.deploy("s1", 1);
    world.claim_service("h1");
    let first = world.now();
    assert_eq!(world.report("s1", "h1", Running).assignments[0].started_at, Some(first));
    world.wait(seconds(5));
    world.report("s1", "h1", Failed);
    world.wait(seconds(5));
    world.claim_service("h1");
    assert_eq!(world.report("s1", "h1", Running).assignments[0].started_at, Some(first));
}

#[test]
fn a_host_waits_longer_after_each_failure_up_to_five_minutes() {
    let mut world = world(&["h1"]);
    world.deploy("s1", 1);
    let mut waits = Vec::new();
    for _ in 0..11 {
        assert!(world.claim_service("h1").is_some());
        world.report("s1", "h1", Failed);
        let mut waited = 0;
        while world.state.service_offer(&host_id("h1"), None, None, world.now()) == ServiceOffer::Nothing {
            world.wait(seconds(1));
            waited += 1;
        }
        waits.push(waited);
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
}

#[test]
fn a_replica_that_ran_for_long_before_it_failed_starts_its_waiting_anew() {
    let mut world = world(&["h1"]);
    world.deploy("s1", 1);
    for failures in 1..5 {
        world.wait(seconds(300));
        world.claim_service("h1");
        assert_eq!(world.report("s1", "h1", Failed).assignments[0].failures, failures);
    }
    world.wait(seconds(300));
    world.claim_service("h1");
    world.report("s1", "h1", Running);
    world.wait(seconds(301));
    assert_eq!(world.report("s1", "h1", Failed).assignments[0].failures, 1);
}

#[test]
fn another_host_steps_in_for_a_failed_replica_at_once() {
    let mut world = world(&["h1", "h2"]);
    world.deploy("s1", 1);
    world.claim_service("h1");
    world.report("s1", "h1", Failed);
    let service = world.claim_service("h2").expect("its place is free");
    assert_eq!(seen(&service), [("h2", Pending)]);
}

#[test]
fn a_service_that_cannot_run_does_not_go_round_between_hosts_without_waiting() {
    let hosts = ["h1", "h2", "h3"];
    let mut world = world(&hosts);
    world.deploy("s1", 1);
    let mut starts = 0;
    for _ in 0..3600 {
        for host in hosts {
            if world.claim_service(host).is_some() {
                starts += 1;
                world.report("s1", host, Failed);
            }
        }
        world.wait(seconds(1));
    }
    assert!((10..30).contains(&starts), "{starts} starts in an hour");
}

#[test]
fn a_failed_replica_stays_to_be_seen_while_its_place_is_not_needed() {
    let mut world = world(&["h1", "h2", "h3"]);
    world.deploy("s1", 2);
    world.claim_service("h1");
    world.report("s1", "h1", Failed);
    let service = world.claim_service("h2").expect("a place is free");
    assert_eq!(seen(&service), [("h1", Failed), ("h2", Pending)]);
    let service = world.claim_service("h3").expect("the place of h1 is free");
    assert_eq!(seen(&service), [("h2", Pending), ("h3", Pending)]);
}

#[test]
fn a_host_that_does_not_say_what_runs_is_told_of_its_services_in_turn() {
    let mut world = world(&["h1"]);
    for service in ["s1", "s2", "s3"] {
        world.deploy(service, 1);
        world.claim_service("h1");
    }
    world.report("s2", "h1", Failed);
    let mut last = None;
    let mut order = Vec::new();
    for _ in 0..4 {
        let service = world.claim_service_after("h1", last.as_deref()).expect("it has two");
        last = Some(service.id.to_string());
        order.extend(last.clone());
    }
    assert_eq!(order, ["s1", "s3", "s1", "s3"]);
}

#[test]
fn a_host_that_says_what_runs_is_told_of_the_rest_only() {
    let mut world = world(&["h1"]);
    for service in ["s1", "s2"] {
        world.deploy(service, 1);
        world.claim_service("h1");
    }
    let offer = |running: &[&str]| {
        let running: Vec<_> = running.iter().map(|id| service_id(id)).collect();
        match world.state.service_offer(&host_id("h1"), Some(&running), None, world.now()) {
            ServiceOffer::Held(service) => Some(service.id.to_string()),
            ServiceOffer::Nothing => None,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(offer(&[]).as_deref(), Some("s1"));
    assert_eq!(offer(&["s1"]).as_deref(), Some("s2"));
    assert_eq!(offer(&["s1", "s2"]), None);
}

#[test]
fn a_report_that_says_nothing_new_changes_nothing() {
    let mut world = world(&["h1"]);
    world.deploy("s1", 1);
    world.claim_service("h1");
    let first = world.report("s1", "h1", Running);
    world.wait(seconds(1));
    assert_eq!(world.report("s1", "h1", Running), first);
}

#[test]
fn a_service_deployed_anew_keeps_its_place_and_loses_its_replicas() {
    let mut world = world(&["h1"]);
    let first = world.deploy("s1", 1);
    world.deploy("s2", 1);
    world.claim_service("h1");
    world.wait(seconds(1));
    let again = world.deploy("s1", 3);
    assert_eq!((again.created_at, again.seq), (first.created_at, first.seq));
    assert_eq!((again.replicas, again.status), (3, ServiceStatus::Pending));
    assert!(again.assignments.is_empty() && again.version > first.version);
    let order: Vec<_> = world.state.services().map(|s| s.id.to_string()).collect();
    assert_eq!(order, ["s1", "s2"]);
}
