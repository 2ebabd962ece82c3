//! One node of three has a disk that fills up, or that fails.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use skyclaw_tests::failing_disk::FailingDisk;
use skyclaw_tests::outside::{self, SmallDisk};
use skyclaw_tests::{Cluster, LONG, Plan, Wire, json, wait_until};

use super::load::{CLIENTS, with_leases, withstand};

/// The node with the disk.
const WEAK: usize = 1;
const FILLER: &str = "filler";
const PATIENCE: Duration = Duration::from_secs(3);

#[test]
fn a_node_whose_disk_is_full_holds_nobody_up_and_catches_up_when_there_is_room() {
    /// Enough for a node that starts, and little more: segments are 16 MiB and made ahead.
    const SMALL: u64 = 160 * 1024 * 1024;
    let mut rng = StdRng::seed_from_u64(outside::seed(rand::random()));
    for leads in [false, true] {
        let disk = SmallDisk::mount(SMALL);
        let cluster = with_leases(Plan::on_loopback(3).on_disk(WEAK, disk.path())).start();
        withstand(cluster, CLIENTS, &mut rng, |cluster, rng| {
            cluster.transfer(if leads { WEAK } else { 0 });
            disk.fill(FILLER);
            use_up(cluster);
            last(rng);
            goes_on(cluster);
            disk.free(FILLER);
            if cluster.has_ended(WEAK) {
                cluster.restart(WEAK);
            }
            goes_on(cluster);
        });
    }
}

#[test]
fn a_leader_whose_disk_fails_acknowledges_nothing_and_makes_way() {
    const DISK: u64 = 512 * 1024 * 1024;
    let mut rng = StdRng::seed_from_u64(outside::seed(rand::random()));
    let disk = FailingDisk::mount(DISK);
    let cluster = with_leases(Plan::on_loopback(3).on_disk(WEAK, disk.path())).start();
    withstand(cluster, CLIENTS, &mut rng, |cluster, rng| {
        for _ in 0..2 {
            cluster.transfer(WEAK);
            last(rng);
            disk.fail();
            wait_until("another leads", LONG, || {
                let led = others().any(|node| cluster.leads(node));
                (led && !cluster.leads(WEAK)).then_some(())
            });
            goes_on(cluster);
            disk.heal();
            if cluster.has_ended(WEAK) {
                println!("the node ended: {}", cluster.log(WEAK).lines().last().unwrap_or_default());
            } else {
                cluster.kill9(WEAK);
            }
            cluster.restart(WEAK);
            goes_on(cluster);
        }
    });
}

/// Writes as much as was made ready ahead in the log, and more. The clients count jobs, so it is not jobs.
fn use_up(cluster: &Cluster) {
    const WRITES: usize = 100;
    for i in 0..WRITES {
        let wire = cluster.wire(i % cluster.size()).with_patience(PATIENCE);
        let reply = deploy(&wire, 500_000);
        if i == 0 || i == WRITES - 1 {
            println!("write {i}: {reply:?}");
        }
    }
}

/// A write that was asked for now is acknowledged.
#[track_caller]
fn goes_on(cluster: &Cluster) {
    let wires: Vec<Wire> = cluster.wires().iter().map(|wire| wire.with_patience(PATIENCE)).collect();
    wait_until("a write is acknowledged", LONG, || {
        wires.iter().any(|wire| deploy(wire, 10) == Some(200)).then_some(())
    });
}

/// A service that no host can take, always the same one. Says the status of the answer.
fn deploy(wire: &Wire, bytes: usize) -> Option<u16> {
    let body = json!({
        "serviceId": "svc_large", "name": "large", "command": "true", "args": ["x".repeat(bytes)],
        "requiredCapabilities": ["what-no-host-has"],
    });
    wire.post("/v1/services", &body).try_send().ok().map(|reply| reply.status)
}

fn others() -> impl Iterator<Item = usize> {
    (0..3).filter(|node| *node != WEAK)
}

/// Not to wait for anything: this is how long a state of things lasts.
fn last(rng: &mut StdRng) {
    std::thread::sleep(Duration::from_millis(rng.random_range(500..2_000)));
}
