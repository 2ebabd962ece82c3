//! Very many hosts: what their heartbeats cost, alone and while as many claims wait, and how soon the right one of
//! those is woken.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use crate::Outcome;
use crate::connection::Connection;
use crate::daemon::Daemon;
use crate::fill;
use crate::verdict::{Verdict, percentile};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    /// How many hosts
    #[arg(long, default_value_t = 10_000)]
    hosts: usize,
    /// How often each sends a heartbeat, in milliseconds
    #[arg(long, default_value_t = 5_000)]
    every_ms: u64,
    /// How long each part is measured, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How much of one processor heartbeats may take, in hundredths
    #[arg(long, default_value_t = 10.0)]
    goal_percent: f64,
    /// How many jobs are enqueued for one of the hosts that wait
    #[arg(long, default_value_t = 1_000)]
    jobs: usize,
    /// How long it may take from an enqueue until the host that waits has the job (median), in milliseconds
    #[arg(long, default_value_t = 10.0)]
    wake_goal_ms: f64,
    /// Where the files lie
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// How many connections are opened, or hosts registered, at once.
const AT_ONCE: usize = 64;
/// Files of both processes that are no connections.
const OTHER_FILES: usize = 200;
/// How long a claim waits: as long as it may.
const WAIT_MS: u64 = 30_000;

pub(crate) fn measure(given: &Arguments, runtime: &Runtime, verdict: &mut Verdict) -> Outcome<()> {
    let (soft, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard.max(soft), hard)?;
    let room = usize::try_from(hard)?.saturating_sub(OTHER_FILES);
    if room < given.hosts + given.hosts / 2 {
        return Err(format!("{hard} files may be open, too few for {} hosts (ulimit -n)", given.hosts).into());
    }
    let mut daemon = Daemon::start_with(given.dir.as_deref(), |options| {
        options.env("SKYCLAW_MAX_CONNECTIONS", "65536").env("SKYCLAW_MAX_PARKED", "65536")
    })?;
    let local = LocalSet::new();
    local.block_on(runtime, all(given, &mut daemon, room, verdict))
}

fn host(number: usize) -> String {
    format!("host-{number:05}")
}

async fn all(given: &Arguments, daemon: &mut Daemon, room: usize, verdict: &mut Verdict) -> Outcome<()> {
    let to = daemon.address();
    println!("{} hosts, a heartbeat of each every {} ms", given.hosts, given.every_ms);
    println!("  {:>7.1} MiB are resident without any", daemon.resident_mib());
    register(to, given.hosts).await?;
    idle(given, daemon).await;

    // Each host has a connection for heartbeats and one for claims, as far as files go round.
    let beating = given.hosts.min(room - given.hosts);
    println!("  over {beating} connections:");
    let nothing = Beats::start(given, to, beating, Ask::Nothing).await?;
    nothing.watch(given, daemon, "GET /livez instead, to compare").await?;
    drop(nothing);
    let beats = Beats::start(given, to, beating, Ask::Heartbeat).await?;
    let alone = beats.watch(given, daemon, "heartbeats").await?;
    verdict.at_most("heartbeats, of one processor", alone.percent, "%", given.goal_percent);
    verdict.at_most("heartbeats, entries of the log a minute", alone.entries_a_minute, "", 1.0);

    let parked = Parked::start(given, to).await?;
    let both = beats.watch(given, daemon, "heartbeats and claims that wait").await?;
    verdict.at_most("heartbeats, claims that wait, of one processor", both.percent, "%", given.goal_percent);
    verdict.at_most("the same, entries of the log a minute", both.entries_a_minute, "", 1.0);

    for (name, required) in [("one host alone", true), ("any of them", false)] {
        let mut took = parked.wake(given, to, required).await?;
        let (p50, p99) = (percentile(&mut took, 50), percentile(&mut took, 99));
        println!(
            "  {} jobs for {name}: claimed {p50:.2} ms after they were sent, p99 {p99:.2}, at most {:.2}",
            took.len(),
            percentile(&mut took, 100)
        );
        verdict.at_most(format!("from enqueue to claim, {name}"), p50, "ms", given.wake_goal_ms);
    }
    println!("  {:>7.1} MiB are resident ({:.1} at most so far)", daemon.resident_mib(), daemon.peak_mib());
    Ok(())
}

async fn register(to: SocketAddr, hosts: usize) -> Outcome<()> {
    let next = Cell::new(0);
    let workers = (0..AT_ONCE).map(|_| async {
        let mut connection = Connection::open(to).await?;
        loop {
            let number = next.get();
            if number >= hosts {
                return Outcome::Ok(());
            }
            next.set(number + 1);
            fill::register(&mut connection, &host(number), &["any".to_owned(), host(number)], 4).await?;
        }
    });
    try_join_all(workers).await.map(drop)
}

/// What the coordinator does when nobody asks anything.
async fn idle(given: &Arguments, daemon: &mut Daemon) {
    let (before, began) = (daemon.processor_time(), Instant::now());
    tokio::time::sleep(Duration::from_secs(given.seconds.min(20))).await;
    let percent = percent(daemon.processor_time() - before, began.elapsed());
    println!("  {percent:.2} % of a processor while nobody asks anything");
}

fn percent(spent: Duration, of: Duration) -> f64 {
    spent.as_secs_f64() / of.as_secs_f64() * 100.0
}

/// The heartbeats of all hosts.
struct Beats {
    /// How long each took since it was last asked for, in milliseconds.
    took: std::rc::Rc<RefCell<Vec<f64>>>,
    tasks: Vec<tokio::task::JoinHandle<Result<(), String>>>,
}

/// What is asked at the pace of heartbeats.
#[derive(Debug, Clone, Copy)]
enum Ask {
    Heartbeat,
    /// What costs nothing but the connection: so much of a heartbeat is the kernel's, and HTTP's.
    Nothing,
}

struct Watched {
    percent: f64,
    entries_a_minute: f64,
}

impl Beats {
    /// Begins to send them, evenly spread, over so many connections.
    async fn start(given: &Arguments, to: SocketAddr, connections: usize, ask: Ask) -> Outcome<Self> {
        let took = std::rc::Rc::new(RefCell::new(Vec::new()));
        let every = Duration::from_millis(given.every_ms);
        let mut open = Vec::with_capacity(connections);
        for number in 0..connections {
            open.push(Connection::numbered(to, number).await?);
        }
        let begin = Instant::now() + Duration::from_millis(100);
        let spawn = |(number, mut connection): (usize, Connection)| {
            let took = std::rc::Rc::clone(&took);
            let hosts: Vec<usize> = (number..given.hosts).step_by(connections).collect();
            let first = begin + every.mul_f64(ratio(number, connections));
            tokio::task::spawn_local(async move {
                let mut due = first;
                loop {
                    tokio::time::sleep_until(due.into()).await;
                    for host in hosts.iter().copied().map(host) {
                        let sent = Instant::now();
                        let path = format!("/v1/hosts/{host}/heartbeat");
                        let told = match ask {
                            Ask::Heartbeat => connection.tell(&path, "{\"activeLeases\":0}").await,
                            Ask::Nothing => connection.see("/livez").await,
                        };
                        told.map_err(|error| error.to_string())?;
                        took.borrow_mut().push(sent.elapsed().as_secs_f64() * 1e3);
                    }
                    connection.rest();
                    due += every;
                }
            })
        };
        let tasks = open.into_iter().enumerate().map(spawn).collect();
        Ok(Self { took, tasks })
    }

    /// Looks at what the coordinator does meanwhile.
    async fn watch(&self, given: &Arguments, daemon: &mut Daemon, what: &str) -> Outcome<Watched> {
        // The first of each are over by then.
        tokio::time::sleep(Duration::from_millis(given.every_ms)).await;
        let to = daemon.address();
        let (index, spent, began) = (applied(to).await?, daemon.processor_time(), Instant::now());
        self.took.borrow_mut().clear();
        tokio::time::sleep(Duration::from_secs(given.seconds)).await;
        let (spent, elapsed) = (daemon.processor_time() - spent, began.elapsed());
        let entries = applied(to).await? - index;
        if let Some(ended) = self.tasks.iter().find(|task| task.is_finished()) {
            return Err(format!("the heartbeats of a host broke off: {ended:?}").into());
        }
        let mut took = std::mem::take(&mut *self.took.borrow_mut());
        let percent = percent(spent, elapsed);
        let each = spent.as_secs_f64() * 1e6 / f64::from(u32::try_from(took.len())?);
        println!(
            "  {what}: {percent:.2} % of a processor, {each:.1} µs for each of {} heartbeats, answered after {:.2} ms \
             (p99 {:.2}); {entries} entries of the log; {:.1} MiB are resident",
            took.len(),
            percentile(&mut took, 50),
            percentile(&mut took, 99),
            daemon.resident_mib(),
        );
        Ok(Watched { percent, entries_a_minute: entries * 60.0 / elapsed.as_secs_f64() })
    }
}

impl Drop for Beats {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// How far the log is applied. Over a connection of its own: one that rests for long is closed.
async fn applied(to: SocketAddr) -> Outcome<f64> {
    let status = Connection::open(to).await?.get("/v1/cluster").await?;
    status["applied"].as_f64().ok_or_else(|| format!("no index in {status}").into())
}

fn ratio(number: usize, of: usize) -> f64 {
    let [number, of] = [number, of].map(|n| f64::from(u32::try_from(n).unwrap_or(u32::MAX)));
    number / of
}

/// Claims of all hosts that wait.
struct Parked {
    /// When each job was in the hands of a host: the job, the host and the time.
    claimed: std::rc::Rc<RefCell<Vec<(String, usize, Instant)>>>,
    told: std::rc::Rc<tokio::sync::Notify>,
    /// Why the claims of a host broke off.
    broken: std::rc::Rc<RefCell<Option<String>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Parked {
    async fn start(given: &Arguments, to: SocketAddr) -> Outcome<Self> {
        let claimed = std::rc::Rc::new(RefCell::new(Vec::new()));
        let told = std::rc::Rc::new(tokio::sync::Notify::new());
        let broken = std::rc::Rc::new(RefCell::new(None));
        let given_hosts = given.hosts;
        let mut tasks = Vec::with_capacity(given.hosts);
        for number in 0..given.hosts {
            let mut connection = Connection::numbered(to, given.hosts + number).await?;
            let (claimed, told, broken) = (claimed.clone(), told.clone(), broken.clone());
            tasks.push(tokio::task::spawn_local(async move {
                let claims = async {
                    let host = host(number);
                    let path = format!("/v1/hosts/{host}/claim");
                    // They do not all come back at once.
                    let mut wait = Duration::from_millis(WAIT_MS).mul_f64(ratio(number + 1, given_hosts));
                    loop {
                        let body = format!("{{\"waitMs\":{}}}", wait.as_millis());
                        wait = Duration::from_millis(WAIT_MS);
                        let answer = connection.post(&path, &body).await?;
                        if let Some(job) = answer["job"]["id"].as_str() {
                            claimed.borrow_mut().push((job.to_owned(), number, Instant::now()));
                            told.notify_one();
                            fill::complete(&mut connection, &host, &answer["job"]).await?;
                        }
                        connection.rest();
                    }
                };
                let ended: Outcome<()> = claims.await;
                let _ = ended.map_err(|error| broken.replace(Some(format!("of {}: {error}", host(number)))));
                told.notify_one();
            }));
        }
        Ok(Self { claimed, told, broken, tasks })
    }

    /// Enqueues jobs, one after the other, that one host alone or any of them can take. How long it took from the sending
    /// of each until a host had it, in milliseconds.
    async fn wake(&self, given: &Arguments, to: SocketAddr, alone: bool) -> Outcome<Vec<f64>> {
        let mut connection = Connection::open(to).await?;
        let mut all = Vec::with_capacity(given.jobs);
        for number in 0..given.jobs {
            let wanted = number * 7919 % given.hosts;
            let required = if alone { host(wanted) } else { "any".to_owned() };
            let mut body: serde_json::Value = serde_json::from_str(&fill::plain(number))?;
            body["requirement"] = serde_json::json!({"requiredCapabilities": [required]});
            let sent = Instant::now();
            let job = connection.post("/v1/jobs", &body.to_string()).await?;
            let id = job["job"]["id"].as_str().ok_or("a job without an id")?;
            let (who, when) = self.taken(id).await?;
            if alone && who != wanted {
                return Err(format!("{} took a job that only {} can", host(who), host(wanted)).into());
            }
            all.push(when.duration_since(sent).as_secs_f64() * 1e3);
            // Not all at once: each finds the coordinator and the hosts at rest.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(all)
    }

    async fn taken(&self, job: &str) -> Outcome<(usize, Instant)> {
        let taken = async {
            loop {
                if let Some(why) = self.broken.borrow().as_ref() {
                    return Err(format!("the claims of a host broke off, {why}").into());
                }
                let found = self.claimed.borrow().iter().rev().find(|(id, ..)| id == job).cloned();
                if let Some((_, host, when)) = found {
                    return Ok((host, when));
                }
                self.told.notified().await;
            }
        };
        let within = Duration::from_secs(20);
        tokio::time::timeout(within, taken).await.map_err(|_| "a job is taken by nobody")?
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
