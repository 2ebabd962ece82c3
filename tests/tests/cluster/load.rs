//! Clients at all nodes while things happen to the nodes, and what must hold when it is over.

use std::sync::atomic::{AtomicBool, Ordering};

use rand::Rng;
use rand::rngs::StdRng;
use skyclaw_tests::{Cluster, LONG, Plan, Value, database, json, wait_until};

use super::client::{Client, LEASE};
use super::ledger::Events;
use super::state;

/// As many clients as two processors serve beside three nodes.
pub(super) const CLIENTS: usize = 16;

/// Three nodes with the leases of the clients.
pub(super) fn cluster() -> Cluster {
    with_leases(Plan::on_loopback(3)).start()
}

/// The same at other places.
pub(super) fn with_leases(plan: Plan) -> Plan {
    plan.each(|_, options| options.env("SKYCLAW_LEASE_MS", LEASE.as_millis().to_string()))
}

/// Lets so many clients work while `trouble` befalls the nodes, which must all run at its end. Then all
/// nodes must agree on a state that holds what was acknowledged, and nothing else, and in the end have
/// the same on their disks, byte for byte.
pub(super) fn withstand(
    mut cluster: Cluster,
    clients: usize,
    rng: &mut StdRng,
    trouble: impl FnOnce(&mut Cluster, &mut StdRng),
) {
    let events = under_load(&mut cluster, clients, rng, trouble);
    println!("{}", events.summary());
    assert!(!events.completed.is_empty(), "nothing was done");
    cluster.wait_whole();
    let agreed = agreed(&cluster);
    events.check_state(&agreed);
    events.check_leases();
    assert_same_on_disk(&mut cluster);
    for node in 0..cluster.size() {
        let log = cluster.log(node);
        assert!(!log.contains("panicked"), "{log}");
    }
}

/// Stops all nodes, and compares what they have on disk: also what no route shows, as kept replies.
pub(super) fn assert_same_on_disk(cluster: &mut Cluster) {
    // Without them nothing can be written any more.
    for node in 0..cluster.size() {
        cluster.terminate(node);
    }
    for node in 1..cluster.size() {
        database::assert_same(cluster.data(0), cluster.data(node));
    }
}

/// Lets so many clients work while `trouble` befalls the nodes, and says what they were told.
pub(super) fn under_load(
    cluster: &mut Cluster,
    clients: usize,
    rng: &mut StdRng,
    trouble: impl FnOnce(&mut Cluster, &mut StdRng),
) -> Events {
    let wires = cluster.wires();
    let clients: Vec<Client> = (0..clients).map(|i| Client::new(i, &wires, rng.random())).collect();
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
    // Asked apart from the rest, as the whole may be large.
    wait_until("no lease is left", LONG, || {
        let reply = wires[0].get("/v1/jobs?status=leased&limit=1&consistent=true").try_send().ok()?;
        (reply.status == 200 && reply.json()["jobs"] == json!([])).then_some(())
    });
    wait_until("all nodes have the same state", LONG, || {
        let mut states: Vec<Value> = wires.iter().map(state).collect::<Option<_>>()?;
        let first = states.pop()?;
        states.iter().all(|other| *other == first).then_some(first)
    })
}
