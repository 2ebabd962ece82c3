//! Nothing acknowledged is lost, nothing is done twice: clients at full speed, `kill -9` at random
//! moments, and a ledger of every answer that was given.

mod client;
mod ledger;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use skyclaw_tests::{Coordinator, Options, json, outside};

use client::Client;
use ledger::{Events, Ledger};

const CLIENTS: usize = 32;
const ROUNDS: usize = 50;
/// How long clients run before the daemon is killed, in milliseconds: anything from the very first
/// requests to a well-filled queue.
const LOAD_MS: std::ops::Range<u64> = 50..800;

#[test]
fn what_was_acknowledged_survives_fifty_kills() {
    let seed = outside::seed(rand::random());
    let mut rng = StdRng::seed_from_u64(seed);
    let mut node = Options::default().env("SKYCLAW_LEASE_MS", "3600000").start();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|i| Client::new(i, rng.random())).collect();
    for client in &clients {
        node.wire().host(client.host(), &[], 100_000);
    }
    let mut ledger = Ledger::default();
    for round in 0..ROUNDS {
        let load = Duration::from_millis(rng.random_range(LOAD_MS));
        let mut events = run(&mut node, &mut clients, round, load);
        node.restart();
        for client in &mut clients {
            client.settle(&node.wire(), &mut events);
        }
        ledger.absorb(events);
        ledger.check_round(&node.wire(), round, seed);
    }
    ledger.check_all(&node.wire(), seed);
    let log = node.log();
    assert!(!log.contains("panicked"), "{log}");
    println!("{}", ledger.summary());
}

/// Lets all clients work until the daemon is killed under them.
fn run(node: &mut Coordinator, clients: &mut [Client], round: usize, load: Duration) -> Events {
    let killed = AtomicBool::new(false);
    let wire = node.wire();
    std::thread::scope(|scope| {
        let killed = &killed;
        let running: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                let wire = wire.clone();
                scope.spawn(move || client.work(&wire, round, killed))
            })
            .collect();
        // Not to wait for anything: this is how long the load lasts.
        std::thread::sleep(load);
        node.kill9();
        killed.store(true, Ordering::Relaxed);
        let mut all = Events::default();
        for client in running {
            all.extend(client.join().expect("a client"));
        }
        all
    })
}

#[test]
fn an_acknowledged_write_survives_a_kill_that_comes_with_the_answer() {
    let mut node = Options::default().start();
    let mut known = Vec::new();
    for i in 0..10 {
        let job = node.wire().enqueue_with(&json!({"submittedBy": format!("s{i}")}));
        node.kill9();
        known.push(job);
        node.restart();
        assert_eq!(node.wire().get("/v1/state").ok()["jobs"], json!(known));
    }
}
