//! What very many finished jobs cost: memory, every write from then on, and a restart.

use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::Outcome;
use crate::daemon::{Daemon, Stop};
use crate::verdict::Verdict;
use crate::{fill, growth};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Finished jobs
    #[arg(long, default_value_t = 1_000_000)]
    finished: usize,
    /// Queued jobs beside them at a restart
    #[arg(long, default_value_t = 100_000)]
    queued: usize,
    /// How much more memory the finished jobs may take, in MiB
    #[arg(long, default_value_t = 64.0)]
    memory_goal_mib: f64,
    /// How often each kind of write is measured without and with them, in turns; none for 0
    #[arg(long, default_value_t = 8)]
    rounds: usize,
    /// Writes of a kind in each turn
    #[arg(long, default_value_t = 100)]
    writes: usize,
    /// How much longer a write may take with them
    #[arg(long, default_value_t = 1.2)]
    write_goal: f64,
    /// How often it is restarted after each kind of end; none for 0
    #[arg(long, default_value_t = 3)]
    restarts: usize,
    /// How long it may take until it is ready, in seconds
    #[arg(long, default_value_t = 5.0)]
    restart_goal_s: f64,
    /// The time to come to rest before memory is looked at, in seconds
    #[arg(long, default_value_t = 15)]
    rest_s: u64,
    /// Where the files lie
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// How many jobs went through a coordinator when its memory is looked at on the way.
const ON_THE_WAY: [usize; 2] = [20_000, 200_000];

pub(crate) fn measure(given: &Arguments, runtime: &Runtime, verdict: &mut Verdict) -> Outcome<()> {
    // As much goes through both, so that all that work leaves behind (the newest of the log, buffers, statements) is in
    // both; only one keeps it.
    let mut without = Daemon::start_with(given.dir.as_deref(), |options| {
        options.env("SKYCLAW_JOB_RETENTION_MAX", "1").env("SKYCLAW_EVENT_RETENTION_MAX", "1")
    })?;
    let mut with = Daemon::start(given.dir.as_deref())?;
    memory(given, runtime, [&mut without, &mut with], verdict)?;
    if given.rounds > 0 {
        println!("writes");
        let (rounds, writes, goal) = (given.rounds, given.writes, given.write_goal);
        runtime.block_on(growth::compare(&mut without, &mut with, rounds, writes, goal, verdict))?;
    }
    drop(without);
    restarts(given, runtime, &mut with, verdict)
}

fn memory(
    given: &Arguments,
    runtime: &Runtime,
    [without, with]: [&mut Daemon; 2],
    verdict: &mut Verdict,
) -> Outcome<()> {
    println!("memory");
    let at_rest = |daemon: &mut Daemon, what: &str| {
        std::thread::sleep(Duration::from_secs(given.rest_s));
        let found = daemon.resident_mib();
        println!("  {found:>7.1} MiB {what} ({:.1} at most so far)", daemon.peak_mib());
        found
    };
    let worked = |daemon: &mut Daemon, forgets: bool| -> Outcome<f64> {
        let stops = ON_THE_WAY.into_iter().filter(|stop| *stop < given.finished).chain([given.finished]);
        let how = if forgets { "none kept" } else { "all kept" };
        let mut done = 0;
        let mut found = f64::NAN;
        for stop in stops {
            runtime.block_on(fill::finished(daemon.address(), stop - done))?;
            done = stop;
            if forgets {
                println!("  all forgotten after {:.1} s", daemon.forgotten(1).as_secs_f64());
            }
            found = at_rest(daemon, &format!("after {done} jobs, {how}"));
        }
        println!("  {:>7.1} MiB on the disk", daemon.disk_mib()?);
        Ok(found)
    };
    let new = at_rest(without, "without any job");
    let forgotten = worked(without, true)?;
    let running = worked(with, false)?;
    with.stop(Stop::Clean);
    println!("  restarted with them: ready after {:.2} s", with.restart().as_secs_f64());
    let restarted = at_rest(with, &format!("after a restart with {} jobs", given.finished));
    let goal = given.memory_goal_mib;
    verdict.at_most(
        "memory, beside that after as many of which none is kept",
        running - forgotten,
        "MiB",
        goal,
    );
    verdict.at_most("memory, restarted, beside that without any job", restarted - new, "MiB", goal);
    Ok(())
}

fn restarts(given: &Arguments, runtime: &Runtime, daemon: &mut Daemon, verdict: &mut Verdict) -> Outcome<()> {
    if given.restarts == 0 {
        return Ok(());
    }
    println!("restarts, {} finished and {} queued jobs", given.finished, given.queued);
    runtime.block_on(fill::queued(daemon.address(), 0..given.queued, &fill::plain))?;
    for (how, cold, name) in [
        (Stop::Clean, false, "a clean stop"),
        (Stop::Kill, false, "kill -9 under load"),
        (Stop::Kill, true, "kill -9, files not in memory"),
    ] {
        let mut longest = Duration::ZERO;
        for _ in 0..given.restarts {
            if matches!(how, Stop::Kill) {
                under_load(runtime, daemon)?;
            }
            daemon.stop(how);
            if cold {
                daemon.forget_files()?;
            }
            let took = daemon.restart();
            println!("  after {name}: ready after {:.2} s", took.as_secs_f64());
            longest = longest.max(took);
        }
        verdict.at_most(format!("restart after {name}"), longest.as_secs_f64(), "s", given.restart_goal_s);
    }
    println!("  {:>7.1} MiB are resident with {} queued jobs", daemon.resident_mib(), given.queued);
    Ok(())
}

/// Kills it while jobs are worked on.
fn under_load(runtime: &Runtime, daemon: &mut Daemon) -> Outcome<()> {
    let to = daemon.address();
    let work = async {
        // It is cut off amid its work: that is what it is for.
        let _ = tokio::time::timeout(Duration::from_secs(2), fill::finished(to, usize::MAX)).await;
        daemon.stop(Stop::Kill);
    };
    runtime.block_on(work);
    Ok(())
}
