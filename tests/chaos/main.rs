//! Long runs against a cluster of real processes, with figures. Each ends with an error when a promise
//! was broken or a goal was missed.
//!
//! `tests/chaos/run.sh faults --minutes 10` builds what is needed, in release mode, and runs one.

#![expect(clippy::expect_used, reason = "a promise that was broken ends the run")]

#[path = "../tests/cluster/client.rs"]
mod client;
#[path = "../tests/cluster/ledger.rs"]
mod ledger;
#[path = "../tests/cluster/load.rs"]
mod load;
#[path = "../tests/cluster/succession.rs"]
mod succession;

mod catch_up;
mod failover;
mod faults;

use clap::{Parser, Subcommand};
use rand::SeedableRng;
use rand::rngs::StdRng;
use skyclaw_tests::cluster::state;
use skyclaw_tests::outside;

/// Long runs against a cluster of real processes.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum Run {
    /// Every few seconds a node is killed, stopped, frozen or cut off while keyed clients work; then what
    /// they were told is held against what is there
    Faults {
        /// How long, in minutes; a fraction will do
        #[arg(long, default_value_t = 10.0)]
        minutes: f64,
        /// How many clients work at the same time
        #[arg(long, default_value_t = 32)]
        clients: usize,
    },
    /// All nodes are killed at once while keyed clients work, again and again
    PowerLoss {
        /// How often
        #[arg(long, default_value_t = 20)]
        times: usize,
        /// How many clients work at the same time
        #[arg(long, default_value_t = 32)]
        clients: usize,
    },
    /// How long no write is acknowledged when the leader is killed, and when it is stopped
    Failover {
        /// How often each
        #[arg(long, default_value_t = 20)]
        times: usize,
        /// The median after a kill must not be longer, in milliseconds
        #[arg(long, default_value_t = 1500)]
        kill_goal_ms: u64,
        /// The median after a clean stop must not be longer, in milliseconds
        #[arg(long, default_value_t = 200)]
        stop_goal_ms: u64,
    },
    /// A blank follower joins a cluster with a long history that serves clients meanwhile
    CatchUp {
        /// How many finished jobs there are
        #[arg(long, default_value_t = 1_000_000)]
        jobs: usize,
        /// How many clients work at the same time
        #[arg(long, default_value_t = load::CLIENTS)]
        clients: usize,
    },
}

fn main() {
    let mut rng = StdRng::seed_from_u64(outside::seed(rand::random()));
    match Arguments::parse().run {
        Run::Faults { minutes, clients } => faults::any(minutes, clients, &mut rng),
        Run::PowerLoss { times, clients } => faults::power_loss(times, clients, &mut rng),
        Run::Failover { times, kill_goal_ms, stop_goal_ms } => {
            failover::measure(times, kill_goal_ms, stop_goal_ms);
        }
        Run::CatchUp { jobs, clients } => catch_up::measure(jobs, clients, &mut rng),
    }
    println!("all promises were kept");
}
