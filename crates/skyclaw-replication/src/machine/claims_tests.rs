//! Who is woken for what.

use skyclaw_core::{Completion, Operation};
use skyclaw_proto::{JobId, JobStatus};

use super::super::memory::tests::{LEASE, host, register, register_as, run};
use super::*;

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

fn named(n: usize) -> HostId {
    HostId::parse(&format!("h-{n}")).expect("an id")
}

/// Many jobs of one key, of which one runs at a time: each asks for a host of its own, and the first one runs.
fn many_of_one_key(count: usize) -> Memory {
    let mut memory = Memory::new(State::default(), LEASE);
    for n in 0..count {
        let more =
            format!(",\"requirement\":{{\"requiredCapabilities\":[\"pin-{n}\"]}},\"concurrencyKey\":\"key\"");
        run(&mut memory, job(&format!("j-{n}"), &more));
        register_as(&mut memory, named(n), Capabilities::new([format!("pin-{n}")]));
    }
    claim(&mut memory, 0);
    memory
}

fn claim(memory: &mut Memory, n: usize) {
    run(memory, Operation::Claim { host: named(n), max: 1, lease_ms: 60_000 });
    assert_eq!(memory.state.jobs_in(JobStatus::Leased), 1, "h-{n} has a job");
}

fn complete(memory: &mut Memory, n: usize) {
    let id = JobId::parse(&format!("j-{n}")).expect("an id");
    run(memory, Operation::Complete(Completion::new(id, named(n), true)));
}

fn wait(memory: &mut Memory, n: usize) -> oneshot::Receiver<Woken> {
    match memory.look_for_claim(&named(n)) {
        ClaimLook::Wait(woken) => woken,
        other => panic!("h-{n} finds {other:?}"),
    }
}

#[test]
fn who_waits_for_its_turn_is_woken_one_after_the_other_however_many_things_a_key_asks_for() {
    let mut memory = many_of_one_key(300);
    let mut waiting: Vec<_> = [70, 299, 8].map(|n| (n, wait(&mut memory, n))).into();
    let mut running = 0;
    while !waiting.is_empty() {
        complete(&mut memory, running);
        let is_woken: Vec<bool> = waiting.iter_mut().map(|(_, woken)| woken.try_recv().is_ok()).collect();
        assert_eq!(is_woken.iter().filter(|woken| **woken).count(), 1, "there is room for one");
        let first = is_woken.iter().position(|woken| *woken).expect("one of them");
        running = waiting.remove(first).0;
        claim(&mut memory, running);
    }
}

#[test]
fn who_can_take_a_job_is_found_among_many_that_cannot_and_by_many_jobs_that_nobody_can_take() {
    // The job is behind very many others, and its host has waited longest.
    let mut memory = many_of_one_key(2 * SEARCHED);
    let mut last = wait(&mut memory, 2 * SEARCHED - 1);
    complete(&mut memory, 0);
    assert!(last.try_recv().is_ok());
    // It is the first, and its host waits behind very many others.
    let mut memory = many_of_one_key(100);
    let others: Vec<_> = (0..2 * SEARCHED)
        .map(|n| {
            let id = HostId::parse(&format!("other-{n}")).expect("an id");
            memory.claims.park(id, &Capabilities::new([format!("other-{n}")]))
        })
        .collect();
    let mut first = wait(&mut memory, 1);
    complete(&mut memory, 0);
    assert!(first.try_recv().is_ok());
    assert!(others.into_iter().all(|mut other| other.try_recv().is_err()));
}

#[test]
fn when_two_can_begin_at_once_both_are_woken() {
    let mut memory = Memory::new(State::default(), LEASE);
    for n in 0..100 {
        // Of another kind each, though anybody can take them.
        let more = format!(",\"concurrencyKey\":\"key\",\"concurrencyLimit\":2,\"priority\":{n}");
        run(&mut memory, job(&format!("j-{n}"), &more));
        register_as(&mut memory, named(n), Capabilities::default());
    }
    let claim = |memory: &mut Memory, n| {
        run(memory, Operation::Claim { host: named(n), max: 1, lease_ms: 60_000 });
    };
    for n in [0, 1] {
        claim(&mut memory, n);
    }
    let mut waiting = [2, 3, 4].map(|n| wait(&mut memory, n));
    let leased = memory.state.leased().map(|(job, lease)| (job.id.clone(), lease.host.clone()));
    for (job, host) in leased.collect::<Vec<_>>() {
        run(&mut memory, Operation::Complete(Completion::new(job, host, true)));
    }
    let mut newly_woken = || -> usize { waiting.iter_mut().map(|w| usize::from(w.try_recv().is_ok())).sum() };
    assert_eq!(newly_woken(), 1);
    claim(&mut memory, 2);
    assert_eq!(newly_woken(), 1, "there is room for another");
    claim(&mut memory, 3);
    assert_eq!(newly_woken(), 0, "there is not");
}
