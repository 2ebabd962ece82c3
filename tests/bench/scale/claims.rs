//! How long a claim takes with few and with very many queued jobs.
//!
//! Two coordinators, one with few and one with many jobs, are asked in turns on one connection each, so that
//! whatever else the machine does falls on both. Before each claim a job of the same mix is enqueued, and what was
//! claimed is completed, so that there are always as many.

use std::path::PathBuf;
use std::time::Instant;

use tokio::runtime::Runtime;

use crate::Outcome;
use crate::connection::Connection;
use crate::daemon::Daemon;
use crate::fill;
use crate::verdict::{Verdict, median, percentile};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only mixes whose name contains this
    mix: Option<String>,
    /// Queued jobs of the coordinator with few
    #[arg(long, default_value_t = 1_000)]
    few: usize,
    /// Queued jobs of the coordinator with many
    #[arg(long, default_value_t = 1_000_000)]
    many: usize,
    /// How often the two take turns
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Claims in each turn
    #[arg(long, default_value_t = 100)]
    claims: usize,
    /// How much longer it may take with many
    #[arg(long, default_value_t = 1.5)]
    goal: f64,
    /// Where the files lie
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// What jobs ask for and what hosts have.
struct Mix {
    name: &'static str,
    /// What the `number`-th job says beside what it runs.
    job: fn(usize) -> String,
    hosts: fn() -> Vec<Vec<String>>,
    /// Fewer jobs of it than of the others make the point, and very many would say nothing more.
    most: usize,
}

/// A time that no measurement lives to see.
const LATER: &str = "2199-01-01T00:00:00.000Z";

const MIXES: [Mix; 9] = [
    Mix { name: "plain", job: |_| String::new(), hosts: one_host, most: usize::MAX },
    Mix { name: "3 of 20 capabilities, 50 hosts", job: three, hosts: ten_of_twenty, most: usize::MAX },
    Mix { name: "100,000 requirements", job: pin, hosts: of_a_few_pins, most: usize::MAX },
    Mix {
        name: "every priority",
        job: |n| format!(",\"priority\":{}", n * 37 % 101),
        hosts: one_host,
        most: usize::MAX,
    },
    Mix {
        name: "all but 1,000 for later",
        job: |n| if n < 1000 { String::new() } else { format!(",\"notBefore\":\"{LATER}\"") },
        hosts: one_host,
        most: usize::MAX,
    },
    Mix {
        name: "all but 1,000 may expire later",
        job: |n| if n < 1000 { String::new() } else { ",\"ttlMs\":80000000".to_owned() },
        hosts: one_host,
        most: usize::MAX,
    },
    Mix {
        name: "a concurrency key for each ten",
        job: |n| format!(",\"concurrencyKey\":\"key-{}\"", n / 10),
        hosts: one_host,
        most: usize::MAX,
    },
    Mix {
        name: "one concurrency key for all",
        job: |_| ",\"concurrencyKey\":\"key\",\"concurrencyLimit\":3".to_owned(),
        hosts: one_host,
        most: usize::MAX,
    },
    Mix {
        name: "one concurrency key, a requirement for each",
        job: |n| format!("{},\"concurrencyKey\":\"key\",\"concurrencyLimit\":1", pin(n)),
        hosts: of_a_few_pins,
        most: 100_000,
    },
];

fn one_host() -> Vec<Vec<String>> {
    vec![Vec::new()]
}

/// Of twenty capabilities those whose numbers are far apart, another choice for each number.
fn some_of_twenty(number: usize, count: usize) -> Vec<String> {
    let mut state = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut chosen = std::collections::BTreeSet::new();
    while chosen.len() < count {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        chosen.insert((state >> 33) % 20);
    }
    chosen.into_iter().map(|capability| format!("c{capability}")).collect()
}

fn three(number: usize) -> String {
    let required = serde_json::Value::from(some_of_twenty(number, 3));
    format!(",\"requirement\":{{\"requiredCapabilities\":{required}}}")
}

fn ten_of_twenty() -> Vec<Vec<String>> {
    (0..50).map(|host| some_of_twenty(host + 7_777_777, 10)).collect()
}

const PINS: usize = 100_000;

fn pin(number: usize) -> String {
    format!(",\"requirement\":{{\"requiredCapabilities\":[\"pin-{}\"]}}", number % PINS)
}

/// Ten hosts, each with some of what the first thousand jobs ask for.
fn of_a_few_pins() -> Vec<Vec<String>> {
    (0..10).map(|host| (0..100).map(|pin| format!("pin-{}", pin * 10 + host)).collect()).collect()
}

/// One of the two coordinators.
struct Side {
    daemon: Daemon,
    connection: Connection,
    hosts: usize,
    /// The number of the next job that is enqueued.
    next: usize,
    micros: Vec<f64>,
    processor: Vec<f64>,
}

impl Side {
    async fn new(given: &Arguments, mix: &Mix, jobs: usize) -> Outcome<Self> {
        let daemon = Daemon::start(given.dir.as_deref())?;
        let mut connection = Connection::open(daemon.address()).await?;
        let hosts = (mix.hosts)();
        for (number, capabilities) in hosts.iter().enumerate() {
            fill::register(&mut connection, &format!("h{number}"), capabilities, 1000).await?;
        }
        fill::queued(daemon.address(), 0..jobs, &|number| body(mix, number)).await?;
        let (micros, processor) = (Vec::new(), Vec::new());
        Ok(Self { daemon, connection, hosts: hosts.len(), next: 0, micros, processor })
    }

    async fn claim(&mut self, mix: &Mix, counts: bool) -> Outcome<()> {
        // One that can be claimed, in all mixes.
        self.connection.tell("/v1/jobs", &body(mix, self.next % 1000)).await?;
        let host = format!("h{}", self.next % self.hosts);
        self.next += 1;
        let (processor, began) = (self.daemon.processor_time(), Instant::now());
        let claimed = self.connection.post(&format!("/v1/hosts/{host}/claim"), "{}").await?;
        let took = began.elapsed();
        let processor = self.daemon.processor_time() - processor;
        if counts {
            self.micros.push(took.as_secs_f64() * 1e6);
            self.processor.push(processor.as_secs_f64() * 1e6);
        }
        if claimed["job"].is_null() {
            return Err(format!("{host} finds no job").into());
        }
        fill::complete(&mut self.connection, &host, &claimed["job"]).await
    }
}

fn body(mix: &Mix, number: usize) -> String {
    let mut body = fill::plain(number);
    body.pop();
    body + &(mix.job)(number) + "}"
}

pub(crate) fn measure(given: &Arguments, runtime: &Runtime, verdict: &mut Verdict) -> Outcome<()> {
    for mix in &MIXES {
        if given.mix.as_ref().is_none_or(|part| mix.name.contains(part)) {
            runtime.block_on(measure_mix(given, mix, verdict))?;
        }
    }
    Ok(())
}

async fn measure_mix(given: &Arguments, mix: &Mix, verdict: &mut Verdict) -> Outcome<()> {
    let many = given.many.min(mix.most);
    println!("{}: {} and {many} queued jobs", mix.name, given.few);
    let mut sides = [Side::new(given, mix, given.few).await?, Side::new(given, mix, many).await?];
    println!("  {:.0} MiB are resident with many", sides[1].daemon.resident_mib());
    for round in 0..=given.rounds {
        for side in &mut sides {
            for _ in 0..given.claims {
                side.claim(mix, round > 0).await?;
            }
        }
    }
    let [few, many] = sides.each_mut().map(|side| {
        let (wall, late) = (median(&mut side.micros), percentile(&mut side.micros, 99));
        (wall, late, median(&mut side.processor))
    });
    println!("  few  {:>8.0} µs, p99 {:>8.0}, of a processor {:>8.0}", few.0, few.1, few.2);
    println!("  many {:>8.0} µs, p99 {:>8.0}, of a processor {:>8.0}", many.0, many.1, many.2);
    verdict.at_most(format!("claim, {}", mix.name), many.0 / few.0, "x", given.goal);
    verdict.at_most(format!("claim, {}, of a processor", mix.name), many.2 / few.2, "x", given.goal);
    Ok(())
}
