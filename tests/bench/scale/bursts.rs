//! Very many jobs that become claimable at once: what that takes for each, and how long others wait meanwhile.
//!
//! Somebody else enqueues a job after the other, each time as soon as the last one was answered. What happens to all
//! jobs at once must not keep that one waiting, and must not take more for each job when there are more of them.

use std::cell::Cell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::Outcome;
use crate::connection::Connection;
use crate::daemon::Daemon;
use crate::fill;
use crate::verdict::{Verdict, percentile};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only this burst: dependents, due, frozen
    burst: Option<String>,
    /// Jobs of a small burst
    #[arg(long, default_value_t = 10_000)]
    few: usize,
    /// Jobs of a large one
    #[arg(long, default_value_t = 100_000)]
    many: usize,
    /// How much longer each job may take of a large one
    #[arg(long, default_value_t = 1.5)]
    goal: f64,
    /// How long anybody else may have to wait meanwhile, in milliseconds
    #[arg(long, default_value_t = 1000.0)]
    stall_goal_ms: f64,
    /// Where the files lie
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Longest a burst may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How many jobs a second are enqueued at the least.
const ENQUEUED_A_SECOND: usize = 1500;

#[derive(Debug, Clone, Copy)]
enum Burst {
    /// The job that all of them wait for is completed.
    Dependents,
    /// The time comes before which none is to be claimed.
    Due,
    /// They are frozen, and thawed again.
    Frozen,
}

/// What one of them came to.
struct Took {
    each_micros: f64,
    longest_ms: f64,
}

pub(crate) fn measure(given: &Arguments, runtime: &Runtime, verdict: &mut Verdict) -> Outcome<()> {
    let all = [("dependents", Burst::Dependents), ("due", Burst::Due), ("frozen", Burst::Frozen)];
    for (name, burst) in all {
        if given.burst.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let few = runtime.block_on(one(given, burst, name, given.few))?;
        let many = runtime.block_on(one(given, burst, name, given.many))?;
        verdict.at_most(
            format!("{name}, for each of {} beside {}", given.many, given.few),
            many.each_micros / few.each_micros,
            "x",
            given.goal,
        );
        verdict.at_most(format!("{name}, others wait at most"), many.longest_ms, "ms", given.stall_goal_ms);
    }
    Ok(())
}

async fn one(given: &Arguments, burst: Burst, name: &str, count: usize) -> Outcome<Took> {
    println!("{name}: {count} jobs");
    let mut daemon = Daemon::start(given.dir.as_deref())?;
    let to = daemon.address();
    let mut connection = Connection::open(to).await?;
    fill::register(&mut connection, "h", &[], 10).await?;
    let root = connection.post("/v1/jobs", &fill::plain(0)).await?;
    let more = match burst {
        Burst::Dependents => json!({"dependsOn": [root["job"]["id"]]}),
        Burst::Due => {
            let seconds = 5 + count / ENQUEUED_A_SECOND;
            json!({"notBefore": after(&root["job"]["createdAt"], i64::try_from(seconds)?)?})
        }
        Burst::Frozen => json!({"labels": {"burst": "1"}}),
    };
    let body = with(&more);
    fill::queued(to, 0..count, &|_| body.clone()).await?;
    // The last of all, in every order.
    let last = connection.post("/v1/jobs", &body).await?;
    let last = last["job"]["id"].as_str().ok_or("a job without an id")?.to_owned();
    let processor = daemon.processor_time();
    let (over, began) = (Cell::new(false), Cell::new(Instant::now()));
    let ((), mut waited) = tokio::try_join!(
        async {
            let done = run(&mut connection, burst, &last, &root["job"]["id"], &began).await;
            over.set(true);
            done
        },
        others(to, &over, &began),
    )?;
    let took = began.get().elapsed();
    let processor = daemon.processor_time() - processor;
    let (p50, p99) = (percentile(&mut waited, 50), percentile(&mut waited, 99));
    let longest_ms = percentile(&mut waited, 100);
    let each_micros = took.as_secs_f64() * 1e6 / f64::from(u32::try_from(count)?);
    println!(
        "  took {:.2} s, {each_micros:.1} µs each, {:.2} s of a processor; {} others waited {p50:.1} ms, p99 {p99:.1}, \
         at most {longest_ms:.1}",
        took.as_secs_f64(),
        processor.as_secs_f64(),
        waited.len(),
    );
    Ok(Took { each_micros, longest_ms })
}

/// Brings the burst about, and waits until the last job can be claimed. Notes when it began.
async fn run(
    connection: &mut Connection,
    burst: Burst,
    last: &str,
    root: &Value,
    began: &Cell<Instant>,
) -> Outcome<()> {
    match burst {
        Burst::Dependents => {
            let claimed = connection.post("/v1/hosts/h/claim", "{}").await?;
            if claimed["job"]["id"] != *root {
                return Err("another job was claimed than the first".into());
            }
            began.set(Instant::now());
            fill::complete(connection, "h", &claimed["job"]).await?;
        }
        Burst::Due => {
            // It begins when the first is claimable, which all that were enqueued before the last one may be.
            until(connection, last, "not_before", false).await?;
            return Ok(());
        }
        Burst::Frozen => {
            began.set(Instant::now());
            let frozen = connection.post("/v1/freezes", "{\"labels\":{\"burst\":\"1\"}}").await?;
            until(connection, last, "frozen", true).await?;
            let id = frozen["freeze"]["id"].as_str().ok_or("a freeze without an id")?;
            connection.tell(&format!("/v1/freezes/{id}/thaw"), "{}").await?;
        }
    }
    let reason = if matches!(burst, Burst::Dependents) { "dependencies" } else { "frozen" };
    until(connection, last, reason, false).await
}

/// Waits until a job waits for this reason, or does so no more.
async fn until(connection: &mut Connection, job: &str, reason: &str, waits: bool) -> Outcome<()> {
    let began = Instant::now();
    loop {
        let told = connection.get(&format!("/v1/jobs/{job}/explain")).await?;
        let reasons = told["reasons"].as_array().ok_or("an explanation without reasons")?;
        if reasons.iter().any(|told| told["code"] == reason) == waits {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("{job} after {PATIENCE:?}: {told}").into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Enqueues one job after the other until it is over. How long each took, in milliseconds, of those that were answered
/// after the burst began.
async fn others(to: std::net::SocketAddr, over: &Cell<bool>, began: &Cell<Instant>) -> Outcome<Vec<f64>> {
    let mut connection = Connection::open(to).await?;
    let mut all = Vec::new();
    let mut number = 0;
    while !over.get() {
        let asked = Instant::now();
        connection.tell("/v1/jobs", &fill::plain(number)).await?;
        number += 1;
        if Instant::now() > began.get() {
            all.push(asked.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(all)
}

fn with(more: &Value) -> String {
    let mut body: Value = serde_json::from_str(&fill::plain(0)).expect("what is made here");
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    body.to_string()
}

fn after(time: &Value, seconds: i64) -> Outcome<String> {
    let time: jiff::Timestamp = time.as_str().ok_or("a job without a time")?.parse()?;
    Ok(format!("{:.3}", time + jiff::SignedDuration::from_secs(seconds)))
}
