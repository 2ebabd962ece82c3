//! What each kind of write takes at a coordinator without finished jobs and at one with very many.
//!
//! Both run side by side and are asked in turns, on one connection each, so that whatever else the machine does falls
//! on both. What is compared is the median time of a request, and the processor time of all that a turn brings about,
//! what is written to the database a moment later included.

use std::time::{Duration, Instant};

use crate::Outcome;
use crate::connection::Connection;
use crate::daemon::Daemon;
use crate::fill;
use crate::verdict::{Verdict, median};

/// After this, what a turn has brought about is in the database.
const SETTLED: Duration = Duration::from_millis(400);
/// Who claims what is enqueued here.
const HOST: &str = "growth";

/// The kinds of writes, in the order in which they are asked for.
const KINDS: [&str; 9] =
    ["enqueue", KEYED, "claim", "complete", "cancel", "schedule", "service", "host", "heartbeat of a run"];

/// With an idempotency key, whose record is written with the job.
const KEYED: &str = "enqueue with a key";

struct Side<'a> {
    daemon: &'a mut Daemon,
    connection: Connection,
    /// Jobs that were enqueued and not claimed yet.
    queued: Vec<String>,
    claimed: Vec<serde_json::Value>,
    count: usize,
    micros: [Vec<f64>; KINDS.len()],
    processor: [Vec<f64>; KINDS.len()],
}

impl<'a> Side<'a> {
    async fn new(daemon: &'a mut Daemon) -> Outcome<Self> {
        let mut connection = Connection::open(daemon.address()).await?;
        fill::register(&mut connection, HOST, &["growth".to_owned()], 100_000).await?;
        let (queued, claimed) = (Vec::new(), Vec::new());
        let (micros, processor) = Default::default();
        Ok(Self { daemon, connection, queued, claimed, count: 0, micros, processor })
    }

    /// So many requests of a kind.
    async fn turn(&mut self, kind: usize, requests: usize, counts: bool) -> Outcome<()> {
        let before = self.daemon.processor_time();
        for _ in 0..requests {
            let (path, body) = self.request(kind)?;
            let key = (KINDS[kind] == KEYED).then(|| format!("growth-{}", self.count));
            let began = Instant::now();
            let answer = self.connection.post_with(&path, key.as_deref(), &body).await?;
            if counts {
                self.micros[kind].push(began.elapsed().as_secs_f64() * 1e6);
            }
            match KINDS[kind] {
                "enqueue" => self.queued.push(answer["job"]["id"].as_str().unwrap_or_default().to_owned()),
                "claim" => self.claimed.push(answer["job"].clone()),
                _ => {}
            }
        }
        tokio::time::sleep(SETTLED).await;
        if counts {
            let spent = self.daemon.processor_time() - before;
            self.processor[kind].push(spent.as_secs_f64() * 1e6 / f64::from(u32::try_from(requests)?));
        }
        Ok(())
    }

    fn request(&mut self, kind: usize) -> Outcome<(String, String)> {
        self.count += 1;
        let number = self.count;
        let mut job: serde_json::Value = serde_json::from_str(&fill::plain(number))?;
        Ok(match KINDS[kind] {
            "enqueue" => {
                job["requirement"] = serde_json::json!({"requiredCapabilities": ["growth"]});
                ("/v1/jobs".to_owned(), job.to_string())
            }
            KEYED => {
                job["requirement"] = serde_json::json!({"requiredCapabilities": ["nobody"]});
                ("/v1/jobs".to_owned(), job.to_string())
            }
            "claim" => (format!("/v1/hosts/{HOST}/claim"), "{}".to_owned()),
            "complete" => {
                let job = self.claimed.pop().ok_or("nothing was claimed")?;
                let id = job["id"].as_str().ok_or("a claim found nothing")?;
                let end = serde_json::json!({
                    "hostId": HOST, "success": true, "durationMs": 1, "exitCode": 0, "stdout": "", "stderr": "",
                    "fence": job["fence"],
                });
                (format!("/v1/jobs/{id}/complete"), end.to_string())
            }
            "cancel" => {
                let id = self.queued.pop().ok_or("nothing is queued")?;
                (format!("/v1/jobs/{id}/cancel"), "{}".to_owned())
            }
            "schedule" => {
                let body = serde_json::json!({
                    "name": format!("growth-{number}"), "cron": "0 0 1 1 *", "job": job, "paused": true,
                });
                ("/v1/schedules".to_owned(), body.to_string())
            }
            "service" => {
                // The same few over and over: what is measured is the write, not how many services there are.
                let id = format!("svc-{}", number % 20);
                let body = serde_json::json!({
                    "serviceId": id, "name": id, "command": "/bin/true", "args": [number.to_string()],
                });
                ("/v1/services".to_owned(), body.to_string())
            }
            "host" => {
                let body = serde_json::json!({
                    "hostId": format!("other-{}", number % 20), "name": number.to_string(),
                    "capabilities": ["none"], "maxParallel": 1,
                });
                ("/v1/hosts/register".to_owned(), body.to_string())
            }
            _ => {
                let running: Vec<_> = (self.claimed.iter().take(1))
                    .map(|job| serde_json::json!({"jobId": job["id"], "fence": job["fence"]}))
                    .collect();
                let body = serde_json::json!({"running": running, "activeLeases": running.len()});
                (format!("/v1/hosts/{HOST}/heartbeat"), body.to_string())
            }
        })
    }
}

/// Compares the two, each kind for so many rounds of so many requests.
pub(crate) async fn compare(
    without: &mut Daemon,
    with: &mut Daemon,
    rounds: usize,
    requests: usize,
    goal: f64,
    verdict: &mut Verdict,
) -> Outcome<()> {
    let mut sides = [Side::new(without).await?, Side::new(with).await?];
    for round in 0..=rounds {
        for (kind, name) in KINDS.into_iter().enumerate() {
            // Half as many are completed and cancelled as are enqueued and claimed, so that there are always some.
            let requests = match name {
                "enqueue" => 2 * requests + 2,
                "claim" => requests + 1,
                _ => requests,
            };
            for side in &mut sides {
                side.turn(kind, requests, round > 0).await?;
            }
        }
    }
    println!("  {:<20} {:>20} {:>20} {:>26}", "", "without", "with", "of a processor");
    let [mut without, mut with] = sides;
    for (kind, name) in KINDS.into_iter().enumerate() {
        let wall = [&mut without, &mut with].map(|side| median(&mut side.micros[kind]));
        let spent = [&mut without, &mut with].map(|side| median(&mut side.processor[kind]));
        println!(
            "  {name:<20} {:>17.0} µs {:>17.0} µs {:>10.0} and {:>8.0} µs",
            wall[0], wall[1], spent[0], spent[1]
        );
        verdict.at_most(format!("{name}, with a history"), wall[1] / wall[0], "x", goal);
        verdict.at_most(format!("{name}, of a processor"), spent[1] / spent[0], "x", goal);
    }
    Ok(())
}
