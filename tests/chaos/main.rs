//! Long runs against a cluster of real processes, with figures. Each ends with an error when a promise
//! was broken or a goal was missed.
//!
//! `tests/chaos/run.sh faults --minutes 10` builds what is needed, in release mode, and runs one.

#![expect(clippy::expect_used, clippy::panic, reason = "a promise that was broken ends the run")]

#[path = "../tests/isolation/blows.rs"]
mod blows;
#[path = "../tests/cluster/client.rs"]
mod client;
#[path = "../tests/isolation/freezing.rs"]
mod freezing;
#[path = "../tests/isolation/kills.rs"]
mod kills;
#[path = "../tests/cluster/ledger.rs"]
mod ledger;
#[path = "../tests/cluster/load.rs"]
mod load;
#[path = "../tests/isolation/overlap.rs"]
mod overlap;
#[path = "../tests/cluster/succession.rs"]
mod succession;
#[path = "../tests/isolation/witness.rs"]
mod witness;

mod catch_up;
mod failover;
mod faults;

use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use rand::SeedableRng;
use rand::rngs::StdRng;
use skyclaw_tests::cluster::state;
use skyclaw_tests::podman::{Service, Who};
use skyclaw_tests::{LONG, outside, wait_until};

/// As hosts have it when nobody says anything: a freeze must not have to wait for it.
const HEARTBEAT: Duration = Duration::from_secs(5);

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
    /// A host is cut off, and its daemon and what keeps its runs, processes and containers, are killed and
    /// frozen, while another one is ready to take its jobs: no two runs of a job may overlap
    Overlap {
        /// How many trials
        #[arg(long, default_value_t = 100)]
        trials: usize,
        /// How many pairs of hosts there are, side by side
        #[arg(long, default_value_t = 3)]
        worlds: usize,
        /// How long leases are, in milliseconds
        #[arg(long, default_value_t = 5000)]
        lease_ms: u64,
        /// Whose containers about half of the jobs run in
        #[arg(long, value_enum, default_value = "root")]
        containers: Containers,
    },
    /// The daemon of a host is killed amid running jobs, processes and containers, again and again; with the
    /// system's Podman and with a user's
    HostKills {
        /// How often
        #[arg(long, default_value_t = 50)]
        times: usize,
        /// The daemon's memory must not have grown by more from the first to the last fifth of its lives, in KiB
        #[arg(long, default_value_t = 4096)]
        growth_goal_kib: u64,
    },
    /// Everything is frozen while ten jobs in containers, ten others and two services run, also with the leader
    /// killed in between; with the system's Podman and with a user's in turn
    Freeze {
        /// How often each
        #[arg(long, default_value_t = 5)]
        times: usize,
        /// The median time from the command until nothing runs must not be longer, in milliseconds
        #[arg(long, default_value_t = 1000)]
        goal_ms: u64,
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

/// Whose containers there are.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Containers {
    /// None: all jobs are plain processes
    None,
    /// The system's
    Root,
    /// A user's
    Rootless,
}

fn main() {
    let mut rng = StdRng::seed_from_u64(outside::seed(rand::random()));
    match Arguments::parse().run {
        Run::Faults { minutes, clients } => faults::any(minutes, clients, &mut rng),
        Run::PowerLoss { times, clients } => faults::power_loss(times, clients, &mut rng),
        Run::Failover { times, kill_goal_ms, stop_goal_ms } => {
            failover::measure(times, kill_goal_ms, stop_goal_ms);
        }
        Run::Overlap { trials, worlds, lease_ms, containers } => {
            overlap(trials, worlds.max(1), Duration::from_millis(lease_ms), containers, &mut rng);
        }
        Run::HostKills { times, growth_goal_kib } => host_kills(times, growth_goal_kib, &mut rng),
        Run::Freeze { times, goal_ms } => freeze(times, goal_ms),
        Run::CatchUp { jobs, clients } => catch_up::measure(jobs, clients, &mut rng),
    }
    println!("all promises were kept");
}

fn overlap(trials: usize, worlds: usize, lease: Duration, containers: Containers, rng: &mut StdRng) {
    let service = match containers {
        Containers::None => None,
        Containers::Root => Some(Service::start(Who::Root)),
        Containers::Rootless => Some(Service::start(Who::Rootless)),
    };
    service.iter().for_each(Service::give_witness);
    let tally = overlap::trials(trials, worlds, lease, service.as_ref(), rng);
    let tried = tally.later_runs > 0 && tally.lost > 0 && (service.is_none() || tally.contained > 0);
    assert!(tried || trials < 20, "no job was lost to its host: nothing was tried");
}

fn host_kills(times: usize, growth_goal_kib: u64, rng: &mut StdRng) {
    for who in [Who::Root, Who::Rootless] {
        let service = Service::start(who);
        let settings = service.settings("h1");
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        println!("processes, and containers of {who:?}");
        let works = [kills::PROCESS, kills::CONTAINER];
        let [first, last] = kills::kills(times, &works, &settings, rng).resident_kib();
        assert!(last <= first + growth_goal_kib, "the daemon grew from {first} to {last} KiB");
        wait_until("no container is left", LONG, || service.containers().is_empty().then_some(()));
    }
}

fn freeze(times: usize, goal_ms: u64) {
    use freezing::Death;
    let services = [Service::start(Who::Root), Service::start(Who::Rootless)];
    for death in [Death::Later, Death::AtOnce, Death::Unheard] {
        let podman = services.iter().cycle().take(times.max(1));
        let mut took: Vec<_> =
            podman.map(|podman| freezing::freeze(death, HEARTBEAT, Some(podman))).collect();
        took.sort();
        let (median, most) = (took[took.len() / 2], took[took.len() - 1]);
        println!("leader killed {death:?}: stopped after {median:?} (median), {most:?} at most");
        // A leader that died before it could tell anybody has to be followed by another first.
        let goal = Duration::from_millis(goal_ms);
        assert!(median <= goal || death == Death::Unheard, "{median:?}, the goal is {goal:?}");
        assert!(most <= HEARTBEAT, "{most:?}, longer than a heartbeat");
    }
}
