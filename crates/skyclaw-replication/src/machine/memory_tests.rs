//! What is soft, and for how long it is kept.

use skyclaw_core::{Command, NoArchive, Operation};
use skyclaw_proto::{Capabilities, NodeId};

use super::*;
use crate::machine::claims::ClaimLook;

pub(in crate::machine) const LEASE: Duration = Duration::from_secs(60);

pub(in crate::machine) fn host() -> HostId {
    HostId::parse("h").expect("an id")
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(second * 1000)
}

/// Applies an operation as the machine does.
pub(in crate::machine) fn run(memory: &mut Memory, operation: Operation) {
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

pub(in crate::machine) fn register(memory: &mut Memory) {
    register_as(memory, host(), Capabilities::default());
}

pub(in crate::machine) fn register_as(memory: &mut Memory, id: HostId, capabilities: Capabilities) {
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
