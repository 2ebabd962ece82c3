//! What a shim adds to a run: the same program started directly and by the driver, in turn.
//!
//! ```text
//! cargo build --release -p skyclaw-hostd
//! cargo run --release -p skyclaw-exec --example cost -- target/release/skyclaw-hostd shim
//! ```

use std::path::PathBuf;
use std::time::{Duration, Instant};

use skyclaw_exec::{Allowlist, Config, Driver, Openclaw, RunSpec, Shim, stop_channel};

const RUNS: usize = 200;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let program = PathBuf::from(args.next().ok_or("which program is the shim?")?);
    let shim = Shim { program: std::fs::canonicalize(program)?, args: args.collect() };
    let dir = std::env::temp_dir().join(format!("skyclaw-cost-{}", std::process::id()));
    let driver = Driver::new(Config {
        allowlist: Allowlist::new(["true"], "/usr/bin:/bin".as_ref()),
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
    })?;
    let (mut direct, mut started, mut kept, mut told) = (vec![], vec![], vec![], vec![]);
    for _ in 0..RUNS {
        let began = Instant::now();
        tokio::process::Command::new("true").status().await?;
        direct.push(began.elapsed());
        let began = Instant::now();
        let running = driver.start(RunSpec::plain("true", vec![], driver.config())).await?;
        started.push(began.elapsed());
        let (_stopper, stop) = stop_channel();
        let ended = running.wait(stop).await;
        told.push(began.elapsed());
        kept.push(ended.outcome().duration);
        ended.forget().await;
    }
    for (what, times) in [
        ("directly, from start to end", direct),
        ("by the driver, until it runs", started),
        ("by the driver, the run itself", kept),
        ("by the driver, until its end is on disk and heard", told),
    ] {
        println!("{what}: median {:?}", median(times));
    }
    drop(driver);
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
