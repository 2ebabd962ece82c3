//! Whatever happens to the nodes.

use std::ops::Range;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use skyclaw_tests::{Cluster, Plan};

use super::load::{cluster, with_leases, withstand};

#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    Stop,
    Freeze,
    Part,
    Deafen,
    Mute,
    Unplug,
    Flap,
}

const ALL: [Fault; 8] = [
    Fault::Kill,
    Fault::Stop,
    Fault::Freeze,
    Fault::Part,
    Fault::Deafen,
    Fault::Mute,
    Fault::Unplug,
    Fault::Flap,
];

/// One fault after the other for so long.
pub(super) fn any(minutes: f64, clients: usize, rng: &mut StdRng) {
    let trouble_for = Duration::from_secs_f64(minutes * 60.0);
    withstand(with_leases(Plan::in_network(3)).start(), clients, rng, |cluster, rng| {
        let start = Instant::now();
        let mut count = 0;
        while start.elapsed() < trouble_for {
            last(rng, 500..2_500);
            // The leader as often as both others together.
            let node = if rng.random_bool(0.3) { cluster.leader() } else { rng.random_range(0..3) };
            let fault = *ALL.choose(rng).expect("a fault");
            println!("{:6.1} s: node-{node}: {fault:?}", start.elapsed().as_secs_f64());
            befall(cluster, node, fault, rng);
            count += 1;
        }
        println!("{count} faults in {:?}", start.elapsed());
    });
}

fn befall(cluster: &mut Cluster, node: usize, fault: Fault, rng: &mut StdRng) {
    match fault {
        Fault::Kill | Fault::Stop => {
            if matches!(fault, Fault::Kill) {
                cluster.kill9(node);
            } else {
                cluster.terminate(node);
            }
            last(rng, 0..2_000);
            cluster.restart(node);
        }
        Fault::Freeze => {
            cluster.freeze(node);
            last(rng, 500..6_000);
            cluster.thaw(node);
        }
        Fault::Part => cluster.network().part(node),
        Fault::Deafen => cluster.network().deafen(node),
        Fault::Mute => cluster.network().mute(node),
        Fault::Unplug => cluster.network().unplug(node),
        Fault::Flap => {
            for _ in 0..10 {
                cluster.network().part(node);
                last(rng, 50..400);
                cluster.network().mend();
                last(rng, 50..400);
            }
        }
    }
    if matches!(fault, Fault::Part | Fault::Deafen | Fault::Mute | Fault::Unplug) {
        last(rng, 1_000..5_000);
        cluster.network().mend();
    }
}

/// All nodes are killed at once, so often.
pub(super) fn power_loss(times: usize, clients: usize, rng: &mut StdRng) {
    withstand(cluster(), clients, rng, |cluster, rng| {
        for death in 1..=times {
            last(rng, 1_000..4_000);
            cluster.kill9_all();
            let start = Instant::now();
            for node in 0..cluster.size() {
                cluster.restart(node);
            }
            cluster.wait_whole();
            println!("death {death} of {times}: whole again after {:?}", start.elapsed());
        }
    });
}

/// Not to wait for anything: this is how long a state of things lasts.
fn last(rng: &mut StdRng, ms: Range<u64>) {
    std::thread::sleep(Duration::from_millis(rng.random_range(ms)));
}
