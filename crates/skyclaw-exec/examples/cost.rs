//! What a shim adds to a run: the same program started directly and by the driver, in turn in every round, each
//! until it runs and until its end is known; and what its two processes have in memory. Measured as root, which may
//! look at them. The machine is left alone before each, for 20 ms or as long as a number before the program says.
//!
//! ```text
//! cargo build --release -p skyclaw-hostd
//! cargo run --release -p skyclaw-exec --example cost -- target/release/skyclaw-hostd shim
//! ```

use std::path::PathBuf;
use std::time::{Duration, Instant};

use skyclaw_exec::{Allowlist, Config, Driver, Openclaw, RunSpec, Shim, stop_channel};

const RUNS: usize = 200;
const PAUSE: Duration = Duration::from_millis(20);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).peekable();
    let pause = args.peek().and_then(|first| first.parse().ok());
    if pause.is_some() {
        args.next();
    }
    let pause = pause.map_or(PAUSE, Duration::from_millis);
    let program = PathBuf::from(args.next().ok_or("which program is the shim?")?);
    let shim = Shim { program: std::fs::canonicalize(program)?, args: args.collect() };
    let dir = std::env::temp_dir().join(format!("skyclaw-cost-{}", std::process::id()));
    let driver = Driver::new(Config {
        owner: format!("cost-{}", std::process::id()),
        allowlist: Allowlist::new(["true", "sleep"], "/usr/bin:/bin".as_ref()),
        openclaw: Openclaw { command: "true".to_owned(), args: vec![] },
        runs_dir: dir.join("runs"),
        base_dir: dir.clone(),
        default_timeout: Duration::from_secs(60),
        stop_grace: Duration::from_secs(5),
        max_output_bytes: 1000,
        shim,
        user: None,
        writable: None,
        max_file_bytes: None,
        best_effort: false,
        halt: None,
    })?;
    driver.prepare(&tokio_util::task::TaskTracker::new());
    let mut taken: [Vec<Duration>; 5] = Default::default();
    // The first find cold caches.
    for round in 0..RUNS + 10 {
        tokio::time::sleep(pause).await;
        let began = Instant::now();
        let mut child = tokio::process::Command::new("true").spawn()?;
        let spawned = began.elapsed();
        child.wait().await?;
        let direct = began.elapsed();
        tokio::time::sleep(pause).await;
        let began = Instant::now();
        let running = driver.start(RunSpec::plain("true", vec![], driver.config())).await?;
        let started = began.elapsed();
        let (_stopper, stop) = stop_channel();
        let ended = running.wait(stop).await;
        let told = began.elapsed();
        let kept = ended.outcome().duration;
        if !ended.forget().await.success {
            return Err("a run did not succeed".into());
        }
        if round >= 10 {
            let one = [spawned, direct, started, kept, told];
            taken.iter_mut().zip(one).for_each(|(times, one)| times.push(one));
        }
    }
    let [spawned, direct, started, kept, told] = taken.map(median);
    println!("medians of {RUNS}, in turn, {pause:?} before each");
    println!("directly: it runs after {spawned:?}, its end is known after {direct:?}");
    println!("by the driver: it runs after {started:?}, its end is known after {told:?}");
    println!("by the driver, what the shim takes for the run itself: {kept:?}");
    println!(
        "added: {:?} until it runs, {:?} in all",
        started.saturating_sub(spawned),
        told.saturating_sub(direct)
    );
    let running = driver.start(RunSpec::plain("sleep", vec!["60".to_owned()], driver.config())).await?;
    for (when, pause) in [("at once", Duration::ZERO), ("after 5 s", Duration::from_secs(5))] {
        tokio::time::sleep(pause).await;
        let guard = parent(running.pid())?;
        for (what, pid) in [("shim", parent(guard)?), ("guard", guard)] {
            println!("{what}, {when}: {}", memory(pid)?);
        }
    }
    let (stopper, stop) = stop_channel();
    stopper.stop(skyclaw_exec::Stop::Cancelled);
    running.wait(stop).await.forget().await;
    drop(driver);
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

fn parent(pid: u32) -> Result<u32, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let field = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
    Ok(field.ok_or("no parent")?.parse()?)
}

/// What a process has in memory, and its share of that where others have it as well.
fn memory(pid: u32) -> Result<String, Box<dyn std::error::Error>> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let wanted = |line: &&str| line.starts_with("Rss:") || line.starts_with("Pss:");
    let lines =
        rollup.lines().filter(wanted).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    Ok(lines.collect::<Vec<_>>().join(", "))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
