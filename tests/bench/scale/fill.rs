//! Very many jobs, queued or finished, made by the requests that make them in earnest.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Instant;

use futures_util::future::try_join_all;
use serde_json::json;

use crate::Outcome;
use crate::connection::Connection;

/// How many connections are used at once.
const CONNECTIONS: usize = 192;
/// How many jobs a host has enqueued before it claims as many.
const AT_ONCE: usize = 50;

/// What most jobs say.
pub(crate) fn plain(number: usize) -> String {
    format!("{{\"payload\":{{\"kind\":\"shell\",\"command\":\"/bin/true\",\"args\":[\"{number:016}\"]}}}}")
}

/// Enqueues the jobs of these numbers, in about this order.
pub(crate) async fn queued(
    to: SocketAddr,
    numbers: std::ops::Range<usize>,
    job: &(dyn Fn(usize) -> String + Sync),
) -> Outcome<()> {
    let began = Instant::now();
    let count = numbers.len();
    let next = Cell::new(numbers.start);
    let workers = (0..CONNECTIONS.min(count)).map(|_| async {
        let mut connection = Connection::open(to).await?;
        loop {
            let number = next.get();
            if number >= numbers.end {
                return Outcome::Ok(());
            }
            next.set(number + 1);
            connection.tell("/v1/jobs", &job(number)).await?;
        }
    });
    try_join_all(workers).await?;
    if count >= 10_000 {
        println!("  {count} jobs enqueued in {:.1} s", began.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Has so many jobs go through their whole lives: enqueued, claimed, completed.
pub(crate) async fn finished(to: SocketAddr, count: usize) -> Outcome<()> {
    let began = Instant::now();
    let left = Cell::new(count);
    let hosts = (0..CONNECTIONS.min(count)).map(|number| {
        let left = &left;
        async move {
            let mut connection = Connection::open(to).await?;
            let host = format!("filler-{number}");
            register(&mut connection, &host, &[], AT_ONCE).await?;
            loop {
                let now = left.get().min(AT_ONCE);
                if now == 0 {
                    return Outcome::Ok(());
                }
                left.set(left.get() - now);
                lives(&mut connection, &host, now).await?;
            }
        }
    });
    try_join_all(hosts).await?;
    if count >= 10_000 {
        let seconds = began.elapsed().as_secs_f64();
        println!("  {count} jobs enqueued, claimed and completed in {seconds:.1} s");
    }
    Ok(())
}

async fn lives(connection: &mut Connection, host: &str, count: usize) -> Outcome<()> {
    for number in 0..count {
        connection.tell("/v1/jobs", &plain(number)).await?;
    }
    // Whoever claims has enqueued as many, so there are enough for all.
    let mut claimed = 0;
    while claimed < count {
        let body = format!("{{\"waitMs\":1000,\"max\":{}}}", count - claimed);
        let jobs = connection.post(&format!("/v1/hosts/{host}/claim"), &body).await?;
        for job in jobs["jobs"].as_array().into_iter().flatten() {
            complete(connection, host, job).await?;
            claimed += 1;
        }
    }
    Ok(())
}

pub(crate) async fn register(
    connection: &mut Connection,
    host: &str,
    capabilities: &[String],
    parallel: usize,
) -> Outcome<()> {
    let body = json!({"hostId": host, "name": host, "capabilities": capabilities, "maxParallel": parallel});
    connection.tell("/v1/hosts/register", &body.to_string()).await
}

/// Reports the end of a job that was claimed.
pub(crate) async fn complete(
    connection: &mut Connection,
    host: &str,
    job: &serde_json::Value,
) -> Outcome<()> {
    let id = job["id"].as_str().ok_or("a job without an id")?;
    let end = json!({
        "hostId": host, "success": true, "durationMs": 1, "exitCode": 0, "stdout": "hello\n", "stderr": "",
        "fence": job["fence"],
    });
    connection.tell(&format!("/v1/jobs/{id}/complete"), &end.to_string()).await
}
