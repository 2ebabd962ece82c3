//! `skyctl bench`: how many jobs a second a coordinator takes, and how long each step of a job takes.
//!
//! [`load`] makes the load and [`figures`] keeps what is measured of it; [`report`] shows it, and [`cleanup`] takes
//! away what is left. What is measured is what the clients wait for, their own work included.

mod cleanup;
mod figures;
mod load;
mod report;

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use skyclaw_client::{Client, Config};
use skyclaw_config::Shutdown;
use skyclaw_proto::record::Host;
use skyclaw_proto::request::RegisterHostBody;
use skyclaw_proto::{HostId, HostState};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::arguments;
use crate::bench::cleanup::{Left, clean_up};
use crate::bench::load::{Load, least_payload_bytes};
use crate::bench::report::{Ended, Report};
use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;

/// Most enqueuers, and most hosts.
const MAX_WORKERS: u16 = 10_000;
/// Most jobs of one bench.
const MAX_JOBS: u64 = 5_000_000;
/// Longest payload of a job, in bytes: well below what a body may have.
const MAX_PAYLOAD_BYTES: u64 = 512 * 1024;
/// Hosts that register at once.
const REGISTRATIONS: usize = 32;
/// How long nothing may move before it is ended.
const STALL: Duration = Duration::from_secs(30);
/// How long calling off and removing may take after Ctrl-C.
const CLEAN_UP: Duration = Duration::from_secs(60);
/// How often it is looked at how far it is.
const TICK: Duration = Duration::from_millis(100);

/// How much of what is put on a coordinator.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// How many jobs
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=MAX_JOBS))]
    jobs: u64,
    /// As many jobs as can be put through in this time (at most 5,000,000), instead of a number of them
    #[arg(long, value_name = "TIME", value_parser = arguments::duration, conflicts_with = "jobs")]
    duration: Option<Duration>,
    /// How many enqueue at once, each one job after the other
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_WORKERS)))]
    enqueuers: u16,
    /// How many hosts claim and complete, each one job after the other
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_WORKERS)))]
    hosts: u16,
    /// How long the payload of a job is, as JSON: from about 110 bytes to 512KiB
    #[arg(long, value_name = "SIZE", default_value = "256", value_parser = payload_bytes)]
    payload_bytes: u64,
    /// How many jobs may be queued before enqueuers wait for hosts
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_queued: u32,
    /// Enqueue all jobs first, and claim and complete them then
    #[arg(long, conflicts_with_all = ["duration", "max_queued"])]
    separately: bool,
    /// Do not ask before loading coordinators that others use
    #[arg(long)]
    yes: bool,
}

fn payload_bytes(text: &str) -> Result<u64, String> {
    match arguments::bytes(text)? {
        0..=MAX_PAYLOAD_BYTES => arguments::bytes(text),
        _ => Err("is more than 512KiB".to_owned()),
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy)]
struct Plan {
    enqueuers: usize,
    hosts: usize,
    jobs: u64,
    duration: Option<Duration>,
    max_queued: usize,
    separately: bool,
    /// How long a payload is, and how much of that is padding.
    payload_bytes: usize,
    padding: usize,
}

impl Plan {
    fn new(args: &BenchArgs, run: &str) -> Self {
        let least = least_payload_bytes(run);
        let asked = usize::try_from(args.payload_bytes).unwrap_or(usize::MAX);
        Self {
            enqueuers: args.enqueuers.into(),
            hosts: args.hosts.into(),
            jobs: args.jobs,
            duration: args.duration,
            max_queued: usize::try_from(args.max_queued).unwrap_or(usize::MAX),
            separately: args.separately,
            payload_bytes: asked.max(least),
            padding: asked.saturating_sub(least),
        }
    }

    fn most_jobs(&self) -> u64 {
        if self.duration.is_some() { MAX_JOBS } else { self.jobs }
    }
}

pub(crate) async fn run(args: &BenchArgs, context: &Context<'_>) -> Result<Exit, Error> {
    let run = format!("bench-{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
    let plan = Plan::new(args, &run);
    let mut config = context.client_config()?;
    // What is measured is what a write costs of which nothing is told beyond its record.
    config.actor = None;
    let others = Client::new(config.clone())?.hosts_of_any().await?;
    neighbours(&others, args.yes)?;
    raise_file_limit(plan.enqueuers + plan.hosts)?;
    let bar = bar(context.out.watched, &plan);
    // The load has threads of its own, so that it is not one processor of ours that is measured.
    let session = move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.map_err(failure("start its threads"))?.block_on(session(run, plan, config, bar))
    };
    let joined = tokio::task::spawn_blocking(session).await;
    let report = joined.map_err(|fault| failure("go on")(io::Error::other(fault)))??;
    context.out.show(&report, || report.table())?;
    report.explain();
    Ok(match (report.interrupted, report.is_good()) {
        (true, _) => Exit::Interrupted,
        (false, true) => Exit::Success,
        (false, false) => Exit::Failure,
    })
}

fn failure(step: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::BenchFailed { step, source }
}

/// Asks before others are made to wait: who has hosts there has work there.
fn neighbours(hosts: &[Host], yes: bool) -> Result<(), Error> {
    let alive = hosts.iter().filter(|host| host.state != Some(HostState::Down)).count();
    if alive == 0 || yes {
        return Ok(());
    }
    let warning = format!(
        "{alive} other hosts work with these coordinators: none of them will be given a job of the bench, \
         but their own work will wait for it"
    );
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Error::Bench(format!("{warning}; give --yes if that is all right")));
    }
    let _ = write!(io::stderr(), "{warning}. Type yes: ");
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).map_err(Error::Output)?;
    if answer.trim() == "yes" { Ok(()) } else { Err(Error::NotConfirmed) }
}

/// Each worker has a connection.
fn raise_file_limit(workers: usize) -> Result<(), Error> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    /// Files that are none of those: heartbeats, and what every program has.
    const OTHERS: u64 = 128;
    let needed = (workers as u64).saturating_add(OTHERS);
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    if needed <= soft {
        return Ok(());
    }
    if needed > hard || setrlimit(Resource::RLIMIT_NOFILE, needed, hard).is_err() {
        return Err(Error::Bench(format!(
            "{workers} workers need {needed} open files and this shell allows {hard}: raise ulimit -n, or take fewer"
        )));
    }
    Ok(())
}

fn bar(watched: bool, plan: &Plan) -> ProgressBar {
    let target = if watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let length = plan.duration.is_none().then_some(plan.jobs);
    let bar = ProgressBar::with_draw_target(length, target);
    let template = match length {
        Some(_) => "{pos} of {len} jobs completed {wide_bar} {per_sec} {eta}",
        None => "{spinner} {pos} jobs completed {per_sec} {elapsed}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// All of a bench: hosts register, the load runs, what is left is taken away.
async fn session(run: String, plan: Plan, config: Config, bar: ProgressBar) -> Result<Report, Error> {
    let signals = Shutdown::install(CLEAN_UP).map_err(failure("listen for signals"))?;
    let client = Client::new(config.clone())?;
    let coordinators: Vec<String> = client.coordinators().into_iter().map(str::to_owned).collect();
    let single = |url: &String| {
        let coordinators = vec![url.clone()];
        Client::new(Config { coordinators, max_tries: Some(1), ..config.clone() })
    };
    let clients = coordinators.iter().map(single).collect::<Result<_, _>>()?;
    let load = Load::new(&run, plan, clients, signals.soft.clone())?;
    let hosts: Vec<HostId> = (0..plan.hosts).filter_map(|n| HostId::parse(&load.host_id(n)).ok()).collect();
    // Dropping a registration at any point is safe: hosts are removed by the ids they would have.
    let registered = tokio::select! {
        registered = register(&client, &run, &hosts) => registered,
        () = signals.soft.cancelled() => Ok(()),
    };
    let load = Arc::new(load.begin());
    let ended = match &registered {
        Ok(()) => drive(&load, &hosts, &bar).await,
        Err(_) => Ended { elapsed: Duration::ZERO, interrupted: false, stalled: false },
    };
    bar.finish_and_clear();
    let left = tokio::select! {
        left = clean_up(&load, &client, &hosts) => left,
        () = signals.hard.cancelled() => Left::all(&load),
    };
    let ended = Ended { interrupted: signals.soft.is_cancelled(), ..ended };
    signals.finish().await;
    registered?;
    Report::new(&load, ended, coordinators, left)
}

async fn register(client: &Client, run: &str, hosts: &[HostId]) -> Result<(), Error> {
    let registrations = hosts.iter().map(|id| async move {
        let body = RegisterHostBody {
            host_id: Some(id.to_string()),
            name: Some(id.to_string()),
            capabilities: Some(vec![run.to_owned()]),
            max_parallel: Some(1),
            ..RegisterHostBody::default()
        };
        client.register_host(&body, None).await.map(drop)
    });
    let all = stream::iter(registrations).buffer_unordered(REGISTRATIONS);
    Ok(all.try_for_each(|()| async { Ok(()) }).await?)
}

/// Runs the load to its end: all is settled, nothing moves any more, or someone has had enough.
async fn drive(load: &Arc<Load>, hosts: &[HostId], bar: &ProgressBar) -> Ended {
    let (mut enqueuers, mut working, mut beating) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
    for (index, id) in hosts.iter().cloned().enumerate() {
        let load = load.clone();
        working.spawn(async move { load.work(index, id).await });
    }
    for worker in 0..load.plan.enqueuers {
        let load = load.clone();
        enqueuers.spawn(async move { load.enqueue_jobs(worker).await });
    }
    let (beats, of) = (load.clone(), hosts.to_vec());
    beating.spawn(async move { beats.beat(&of).await });
    let mut ticks = tokio::time::interval(TICK);
    let mut moved = (progress(load), Instant::now());
    let mut stalled = false;
    // All of them are cancel safe.
    while !load.over.is_cancelled() {
        tokio::select! {
            Some(_) = enqueuers.join_next() => if enqueuers.is_empty() {
                load.enqueued.cancel();
                load.end_if_all_is_settled();
            },
            Some(_) = working.join_next() => if working.is_empty() {
                load.over.cancel();
            },
            () = load.over.cancelled() => {}
            _ = ticks.tick() => {
                bar.set_position(load.completed.load(Ordering::Relaxed));
                if load.plan.duration.is_some_and(|duration| load.began.elapsed() >= duration) {
                    load.closing.cancel();
                }
                let now = progress(load);
                if now != moved.0 {
                    moved = (now, Instant::now());
                } else if moved.1.elapsed() >= STALL {
                    stalled = true;
                    load.over.cancel();
                }
            }
        }
    }
    let elapsed = load.began.elapsed();
    load.closing.cancel();
    for set in [&mut enqueuers, &mut working, &mut beating] {
        while set.join_next().await.is_some() {}
    }
    Ended { elapsed, interrupted: false, stalled }
}

fn progress(load: &Load) -> (u64, u64) {
    (load.accepted.load(Ordering::Relaxed), load.settled.load(Ordering::Relaxed))
}
