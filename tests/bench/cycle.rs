//! How many jobs a second go through a coordinator, from the queue to their end: so many hosts, each on a
//! connection of its own, enqueue a job, claim one and report its end, over and over.
//!
//! It speaks the wire contract and nothing else, so it measures any coordinator. Prints one line:
//! `RESULT {"requests": jobs that ended, "per_second": …}`.

#[path = "connection.rs"]
mod connection;

use std::error::Error;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpStream;

use self::connection::Connection;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What is asked for on the command line.
#[derive(Debug, Clone)]
struct Arguments {
    /// `host:port` of the coordinator.
    address: String,
    token: String,
    hosts: usize,
    warmup: Duration,
    measured: Duration,
}

impl Arguments {
    fn parse() -> Outcome<Self> {
        let mut parsed = Self {
            address: String::new(),
            token: String::new(),
            hosts: 64,
            warmup: Duration::from_secs(2),
            measured: Duration::from_secs(5),
        };
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--url" => {
                    let address = value.strip_prefix("http://").ok_or("--url begins with http://")?;
                    address.trim_end_matches('/').clone_into(&mut parsed.address);
                }
                "--token" => parsed.token = value,
                "--hosts" => parsed.hosts = value.parse()?,
                "--warmup" => parsed.warmup = Duration::from_secs(value.parse()?),
                "--seconds" => parsed.measured = Duration::from_secs(value.parse()?),
                other => return Err(format!("unknown argument {other}").into()),
            }
        }
        if parsed.address.is_empty() || parsed.hosts == 0 {
            return Err(
                "usage: cycle --url http://HOST:PORT [--token T] [--hosts N] [--warmup S] [--seconds S]"
                    .into(),
            );
        }
        Ok(parsed)
    }
}

/// What a host needs to know of what it claims: no more is read, so that this takes little of the processor that the
/// coordinators share with it.
#[derive(Deserialize)]
struct Claimed {
    job: Option<Mine>,
}

#[derive(Deserialize)]
struct Mine {
    id: String,
    fence: u64,
}

/// One host: how long each of its jobs took that ended between `from` and `until`.
async fn host(to: Arguments, number: usize, from: Instant, until: Instant) -> Outcome<Vec<Duration>> {
    let stream = TcpStream::connect(&to.address).await?;
    let mut connection = Connection::over(stream, &to.address, &to.token)?;
    let id = format!("bench-{number}");
    let register = json!({"hostId": id, "name": id, "maxParallel": 1}).to_string();
    connection.success("POST", "/v1/hosts/register", None, &register).await?;
    let job =
        json!({"payload": {"kind": "shell", "command": "/bin/true", "args": [format!("{number:016}")]}});
    let (job, claim) = (job.to_string(), format!("/v1/hosts/{id}/claim"));
    let mut took = Vec::new();
    loop {
        let began = Instant::now();
        connection.success("POST", "/v1/jobs", None, &job).await?;
        // There is a job for each host that claims one, so nobody waits unless something is lost.
        let claimed = connection.success("POST", &claim, None, "{\"waitMs\":1000}").await?;
        let Claimed { job: mine } = serde_json::from_slice(claimed)?;
        let mine = mine.ok_or("a claim found no job although there is one")?;
        let end = format!(
            r#"{{"hostId":"{id}","success":true,"durationMs":1,"exitCode":0,"stdout":"","stderr":"","fence":{}}}"#,
            mine.fence
        );
        let complete = format!("/v1/jobs/{}/complete", mine.id);
        connection.success("POST", &complete, None, &end).await?;
        let now = Instant::now();
        if now >= until {
            return Ok(took);
        }
        if now >= from {
            took.push(now - began);
        }
    }
}

async fn run(to: Arguments) -> Outcome<()> {
    let from = Instant::now() + to.warmup;
    let until = from + to.measured;
    let hosts = (0..to.hosts).map(|number| host(to.clone(), number, from, until));
    let mut took: Vec<Duration> = futures_util::future::try_join_all(hosts).await?.concat();
    if took.is_empty() {
        return Err("no job ended in time".into());
    }
    took.sort_unstable();
    let percentile = |percent: usize| took[(took.len() - 1) * percent / 100].as_micros();
    let seconds = to.measured.as_secs_f64();
    println!(
        "RESULT {{\"requests\":{},\"seconds\":{seconds:.3},\"per_second\":{:.1},\"failed\":0,\"p50_us\":{},\"p99_us\":{}}}",
        took.len(),
        f64::from(u32::try_from(took.len())?) / seconds,
        percentile(50),
        percentile(99),
    );
    Ok(())
}

fn main() -> Outcome<()> {
    let to = Arguments::parse()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(to))
}
