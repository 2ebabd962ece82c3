//! Clients at all nodes while things happen to the nodes, and what must hold when it is over.

use std::sync::atomic::{AtomicBool, Ordering};

use rand::Rng;
use rand::rngs::StdRng;
use skyclaw_tests::{Cluster, LONG, Value, wait_until};

use super::client::{Client, LEASE};
use super::ledger::Events;
use super::state;

const CLIENTS: usize = 16;

/// Three nodes with the leases of the clients.
pub(super) fn cluster() -> Cluster {
    Cluster::start_with(3, |options| options.env("SKYCLAW_LEASE_MS", LEASE.as_millis().to_string()))
}

/// Lets all clients work while `trouble` befalls the nodes, which must all run at its end. Then all nodes
/// must agree on a state that holds what was acknowledged, and nothing else.
pub(super) fn withstand(
    mut cluster: Cluster,
    rng: &mut StdRng,
    trouble: impl FnOnce(&mut Cluster, &mut StdRng),
) {
    let events = under_load(&mut cluster, rng, trouble);
    println!("{}", events.summary());
    assert!(!events.completed.is_empty(), "nothing was done");
    cluster.wait_whole();
    let agreed = agreed(&cluster);
    events.check_state(&agreed);
    events.check_leases();
    for node in 0..3 {
        let log = cluster.log(node);
        assert!(!log.contains("panicked"), "{log}");
    }
}

fn under_load(
    cluster: &mut Cluster,
    rng: &mut StdRng,
    trouble: impl FnOnce(&mut Cluster, &mut StdRng),
) -> Events {
    let wires = cluster.wires();
    let clients: Vec<Client> = (0..CLIENTS).map(|i| Client::new(i, &wires, rng.random())).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        let working: Vec<_> =
            clients.into_iter().map(|client| scope.spawn(move || client.work(stop))).collect();
        // Also when it fails the clients must end, or the failure would never be told.
        let _stop = StopAtEnd(stop);
        trouble(cluster, rng);
        stop.store(true, Ordering::Relaxed);
        let mut all = Events::default();
        for client in working {
            all.extend(client.join().expect("a client"));
        }
        all
    })
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The state that all nodes have once nothing changes any more: the last leases run out first.
fn agreed(cluster: &Cluster) -> Value {
    let wires = cluster.wires();
    wait_until("all nodes have the same state", LONG, || {
        let states: Option<Vec<Value>> = wires.iter().map(state).collect();
        let mut states = states?;
        let first = states.pop()?;
        states.iter().all(|other| *other == first).then_some(first)
    })
}
