//! What is soft, and for how long it is kept.

use skyclaw_core::{Command, NoArchive, Operation};
use skyclaw_proto::NodeId;

use super::*;

const LEASE: Duration = Duration::from_secs(60);

fn host() -> HostId {
    HostId::parse("h").expect("an id")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1000)
}

/// Applies an operation as the machine does.
fn run(memory: &mut Memory, operation: Operation) {
    let command = Command {
        at: at(1),
        node: NodeId::parse("n").expect("an id"),
        idempotency: None,
        by: None,
        operation,
    };
    let outcome = memory.state.apply(&command, &NoArchive);
    outcome.reply.expect("carried out");
    outcome.changes.iter().for_each(|change| memory.look_at(&command.operation, change));
    memory.take_in(outcome.effects, Instant::now());
}

fn register(memory: &mut Memory) {
    register_as(memory, host(), Capabilities::default());
}

fn register_as(memory: &mut Memory, id: HostId, capabilities: Capabilities) {
    let name = id.to_string();
    run(memory, Operation::RegisterHost { id, name, capabilities, max_parallel: 1, enforces: None });
}

fn beat(memory: &mut Memory, second: i64, now: Instant) -> Option<Timestamp> {
    let beat = memory.beat(&host(), &[], None, at(second), now, false)?;
    Some(beat.answer.host.last_seen_at)
}

#[test]
fn nothing_is_kept_of_a_host_that_is_no_more() {
    let (mut memory, start) = (Memory::new(State::default(), LEASE), Instant::now());
    register(&mut memory);
    assert_eq!(beat(&mut memory, 99, start), Some(at(99)), "what a heartbeat says is kept");
    run(&mut memory, Operation::RemoveHost { id: host(), force: true });
    assert_eq!(beat(&mut memory, 100, start), None);
    // One of the same name that comes later is another.
    register(&mut memory);
    assert_eq!(memory.host(&host()).map(|host| host.last_seen_at), Some(at(1)));
}

#[test]
fn a_host_that_registers_has_given_a_sign_of_life() {
    let (mut memory, start) = (Memory::new(State::default(), LEASE), Instant::now());
    // The leader has listened for long, and has heard of nobody.
    memory.hearing.restart(start.checked_sub(LEASE * 2).expect("the machine is up for that long"));
    register(&mut memory);
    assert!(memory.hosts_news(start, 9).is_empty());
    run(&mut memory, Operation::RemoveHost { id: host(), force: true });
    assert_eq!(memory.hearing.len(), 0);
}

#[test]
fn nothing_is_kept_of_a_host_that_nobody_knows() {
    let mut memory = Memory::new(State::default(), LEASE);
    assert!(matches!(memory.look_for_claim(&host()), ClaimLook::UnknownHost));
    assert_eq!(beat(&mut memory, 5, Instant::now()), None);
    assert_eq!(memory.hearing.len(), 0);
}

fn job(name: &str, more: &str) -> Operation {
    let body = format!("{{\"payload\":{{\"kind\":\"shell\",\"command\":\"true\"}}{more}}}");
    let body: skyclaw_proto::request::EnqueueJobBody = serde_json::from_str(&body).expect("a body");
    Operation::enqueue(JobId::parse(name).expect("an id"), body.check().expect("a job"))
}

#[test]
fn a_claim_is_woken_for_a_job_it_can_have_however_many_wait_for_their_time() {
    let mut memory = Memory::new(State::default(), LEASE);
    register(&mut memory);
    run(&mut memory, job("later", ",\"notBefore\":\"2099-01-01T00:00:00Z\""));
    let ClaimLook::Wait(mut woken) = memory.look_for_claim(&host()) else { panic!("there is nothing yet") };
    memory.sweep();
    assert!(woken.try_recv().is_err(), "nothing of it can be claimed");
    run(&mut memory, job("now", ""));
    assert!(matches!(woken.try_recv(), Ok(Woken::Look)));
    // The one that was woken did not come: the next that waits is.
    let mut waiting = memory.claims.park(host(), &Capabilities::default());
    memory.sweep();
    assert!(matches!(waiting.try_recv(), Ok(Woken::Look)));
}

#[test]
fn no_more_claims_are_looked_after_than_there_are_jobs_for() {
    let mut memory = Memory::new(State::default(), LEASE);
    for name in ["one", "two"] {
        run(&mut memory, job(name, ""));
    }
    // As many sets as hosts, all of them waiting although there are jobs.
    let names: Vec<_> = (0..20).map(|n| format!("h-{n}")).collect();
    let mut waiting = Vec::new();
    for name in &names {
        let (id, set) = (HostId::parse(name).expect("an id"), Capabilities::new([name]));
        register_as(&mut memory, id.clone(), set.clone());
        waiting.push(memory.claims.park(id, &set));
    }
    let mut woken = || waiting.iter_mut().map(|claim| usize::from(claim.try_recv().is_ok())).sum::<usize>();
    memory.sweep();
    assert_eq!(woken(), 2);
    memory.sweep();
    assert_eq!(woken(), 2, "should nothing have come of the first ones");
}
