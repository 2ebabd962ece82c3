//! Nothing acknowledged is lost and nothing is given out twice, whatever happens to the nodes.

use std::ops::Range;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use skyclaw_tests::{Cluster, outside};

use super::load::{CLIENTS, cluster, withstand};

#[test]
fn what_was_acknowledged_survives_whatever_happens_to_the_nodes() {
    const TROUBLE_FOR: Duration = Duration::from_secs(25);
    let mut rng = StdRng::seed_from_u64(outside::seed(rand::random()));
    withstand(cluster(), CLIENTS, &mut rng, |cluster, rng| {
        let start = Instant::now();
        while start.elapsed() < TROUBLE_FOR {
            last(rng, 200..1_500);
            befall(cluster, rng);
        }
    });
}

fn befall(cluster: &mut Cluster, rng: &mut StdRng) {
    let node = rng.random_range(0..3);
    // Now and then a majority is gone, and nothing can be acknowledged.
    let also_frozen = rng.random_bool(0.25).then_some((node + 1) % 3);
    if let Some(other) = also_frozen {
        cluster.freeze(other);
    }
    match rng.random_range(0..3) {
        0 => {
            cluster.freeze(node);
            last(rng, 500..5_000);
            cluster.thaw(node);
        }
        how => {
            if how == 1 {
                cluster.kill9(node);
            } else {
                cluster.terminate(node);
            }
            last(rng, 0..1_500);
            cluster.restart(node);
        }
    }
    if let Some(other) = also_frozen {
        cluster.thaw(other);
    }
}

#[test]
fn what_was_acknowledged_survives_the_death_of_all_nodes_at_once() {
    const DEATHS: usize = 3;
    let mut rng = StdRng::seed_from_u64(outside::seed(rand::random()));
    withstand(cluster(), CLIENTS, &mut rng, |cluster, rng| {
        for _ in 0..DEATHS {
            last(rng, 1_000..3_000);
            cluster.kill9_all();
            for node in 0..3 {
                cluster.restart(node);
            }
            cluster.wait_whole();
        }
    });
}

/// Not to wait for anything: this is how long a state of things lasts.
fn last(rng: &mut StdRng, ms: Range<u64>) {
    std::thread::sleep(Duration::from_millis(rng.random_range(ms)));
}
