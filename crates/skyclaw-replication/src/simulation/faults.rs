//! What happens to the cluster and when: drawn from the seed before anything begins.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::net::Weather;
use crate::log::sim_disk::End;

/// Which node something happens to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Whom {
    Nth(usize),
    /// Whoever leads then.
    Leader,
}

/// Something that happens.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    Weather(Weather),
    /// One node is cut off, both ways or only one: what it sends is lost, or what is sent to it.
    CutOff {
        whom: Whom,
        sends: bool,
        hears: bool,
    },
    /// The way between two nodes comes and goes.
    Flap {
        from: usize,
        to: usize,
        times: u32,
    },
    Heal,
    Crash {
        whom: Whom,
        end: End,
    },
    CrashAll(End),
    /// Everything that lies dead is started.
    Start,
    /// How long syncs take on one disk.
    Pace {
        whom: usize,
        sync: Duration,
    },
    Compact(usize),
    CopyDatabase(usize),
}

/// What happens, in its order, and the pauses before.
pub(super) fn schedule(seed: u64, nodes: usize, length: Duration) -> Vec<(Duration, Fault)> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut all = Vec::new();
    let mut past = Duration::ZERO;
    while past < length {
        let pause = Duration::from_millis(rng.random_range(30..500));
        past += pause;
        all.push((pause, draw(&mut rng, nodes)));
        // Data to go back to, and something for the log to be purged of.
        if rng.random_bool(0.4) {
            all.push((Duration::ZERO, Fault::CopyDatabase(rng.random_range(0..nodes))));
        }
    }
    all
}

fn draw(rng: &mut StdRng, nodes: usize) -> Fault {
    let nth = rng.random_range(0..nodes);
    let whom = if rng.random_bool(0.5) { Whom::Leader } else { Whom::Nth(nth) };
    let end = if rng.random_bool(0.5) { End::Power } else { End::Kill };
    match rng.random_range(0..100) {
        0..12 => Fault::Weather(Weather {
            loss: [0.0, 0.02, 0.1, 0.3][rng.random_range(0..4)],
            doubled: [0.0, 0.1, 0.5][rng.random_range(0..3)],
            delay_ms: [0..1, 0..5, 0..40, 5..150][rng.random_range(0..4)].clone(),
        }),
        12..24 => {
            let (sends, hears) = [(false, false), (true, false), (false, true)][rng.random_range(0..3)];
            Fault::CutOff { whom, sends, hears }
        }
        24..30 => {
            let to = (nth + rng.random_range(1..nodes)) % nodes;
            Fault::Flap { from: nth, to, times: rng.random_range(2..8) }
        }
        30..44 => Fault::Heal,
        44..60 => Fault::Crash { whom, end },
        60..63 => Fault::CrashAll(end),
        63..84 => Fault::Start,
        84..91 => {
            let sync = Duration::from_millis([0, 0, 10, 40, 120][rng.random_range(0..5)]);
            Fault::Pace { whom: nth, sync }
        }
        _ => Fault::Compact(nth),
    }
}
