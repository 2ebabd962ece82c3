//! Writing one batch in one transaction: few statements with many rows each.

use std::sync::Arc;

use skyclaw_core::{Counters, Job, KEPT_RESTORES};
use skyclaw_proto::HostId;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection};

use crate::batch::{Batch, Position};
use crate::events::{self, Retention};
use crate::retention;
use crate::row::{
    Body, HostRow, Insert, JobRow, LabelRow, NumberedRow, ReplyRow, ScheduleRow, ServiceRow, StagedRow,
    applied_crc, label,
};
use crate::schema::status_code;

/// How many rows a statement may have. Only these sizes, so that SQLite parses each statement once in
/// the life of a connection.
const ROWS: [usize; 4] = [128, 32, 8, 1];
/// Rows are not held back longer than until they are so large together.
const MAX_PENDING_BYTES: usize = 4 * 1024 * 1024;
/// After so many bytes others are let go first: to encode a whole batch at once would hold up the requests behind it.
const BYTES_AT_ONCE: usize = 64 * 1024;

/// Why a batch was not written.
pub(crate) enum Failure {
    Encode(serde_json::Error),
    /// A number that SQLite cannot hold.
    Range(u64),
    Sqlite(sqlx::Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Encode(error)
    }
}

/// Writes a batch and how far it goes, or nothing of it.
pub(crate) async fn batch(
    conn: &mut SqliteConnection,
    batch: &Batch,
    position: &Position,
    counters: &Counters,
    keep: Retention,
) -> Result<(), Failure> {
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
    let noted = content(&mut tx, batch).await?;
    events::prune(&mut tx, keep, noted).await?;
    applied(&mut tx, position, counters).await?;
    tx.commit().await?;
    Ok(())
}

/// Writes all of a batch but how far it goes. Says how many rows of events that made.
pub(crate) async fn content(tx: &mut SqliteConnection, batch: &Batch) -> Result<i64, Failure> {
    prune(tx, batch).await?;
    remove_hosts(tx, batch).await?;
    let hosts = batch
        .hosts
        .values()
        .map(|host| Ok(HostRow { id: host.id.as_str().to_owned(), body: Body::of(host)? }));
    rows(tx, hosts).await?;
    // One that came back under its id is written after that.
    retention::remove(tx, batch).await?;
    // In the order of their keys, rows are appended or at least close to each other.
    let mut jobs: Vec<&Arc<Job>> = batch.jobs.values().collect();
    jobs.sort_unstable_by_key(|job| job.seq);
    rows(tx, jobs.iter().map(|job| job_row(job))).await?;
    rows(tx, jobs.iter().flat_map(|job| label_rows(job))).await?;
    let services = batch.services.values().map(|service| {
        let (seq, id) = (integer(service.seq)?, service.id.as_str().to_owned());
        Ok(ServiceRow { seq, id, body: Body::of(service)? })
    });
    rows(tx, services).await?;
    let mut replies: Vec<_> =
        batch.replies.iter().filter_map(|(id, reply)| Some((*id, reply.as_ref()?))).collect();
    replies.sort_unstable_by_key(|(id, _)| *id);
    let replies = replies.into_iter().map(|(id, reply)| {
        Ok(ReplyRow { id, expires_at: reply.key.expires_at.as_millis(), body: Body::of(reply)? })
    });
    rows(tx, replies).await?;
    drop_staged(tx, batch).await?;
    rows(tx, batch.staged.values().map(|part| Ok(StagedRow { part: Arc::clone(part) }))).await?;
    restores(tx, batch).await?;
    freezes(tx, batch).await?;
    schedules(tx, batch).await?;
    events::write(tx, batch).await
}

async fn schedules(conn: &mut SqliteConnection, batch: &Batch) -> Result<(), Failure> {
    for (id, _) in batch.schedules.iter().filter(|(_, schedule)| schedule.is_none()) {
        let gone = sqlx::query("DELETE FROM schedules WHERE id = ?").bind(id.as_str().to_owned());
        gone.execute(&mut *conn).await?;
    }
    let kept = batch.schedules.values().flatten();
    rows(conn, kept.map(|it| Ok(ScheduleRow { id: it.id.as_str().to_owned(), body: Body::of(it)? }))).await
}

async fn remove_hosts(conn: &mut SqliteConnection, batch: &Batch) -> Result<(), Failure> {
    for host in &batch.removed_hosts {
        let gone = sqlx::query("DELETE FROM hosts WHERE id = ?").bind(host.as_str().to_owned());
        gone.execute(&mut *conn).await?;
    }
    Ok(())
}

async fn freezes(conn: &mut SqliteConnection, batch: &Batch) -> Result<(), Failure> {
    for (number, _) in batch.freezes.iter().filter(|(_, freeze)| freeze.is_none()) {
        let gone = sqlx::query("DELETE FROM freezes WHERE number = ?").bind(integer(*number)?);
        gone.execute(&mut *conn).await?;
    }
    let kept = batch.freezes.values().flatten();
    rows(conn, kept.map(|freeze| Ok(NumberedRow::of(integer(freeze.number)?, &**freeze)?))).await
}

/// Forgets replies: those that expired, and those whose successor in the batch did.
async fn prune(conn: &mut SqliteConnection, batch: &Batch) -> Result<(), Failure> {
    let Some(before) = batch.prune else { return Ok(()) };
    let expired = sqlx::query("DELETE FROM replies WHERE expires_at < ?").bind(before.as_millis());
    expired.execute(&mut *conn).await?;
    let gone: Vec<String> =
        batch.replies.iter().filter(|(_, reply)| reply.is_none()).map(|(id, _)| id.to_string()).collect();
    if !gone.is_empty() {
        let named = "DELETE FROM replies WHERE id IN (SELECT unhex(value) FROM json_each(?))";
        sqlx::query(named).bind(serde_json::to_string(&gone)?).execute(conn).await?;
    }
    Ok(())
}

/// Drops what is staged: all of it, or what belongs to another restore than that of the batch.
async fn drop_staged(conn: &mut SqliteConnection, batch: &Batch) -> Result<(), Failure> {
    if batch.drop_staged {
        sqlx::query("DELETE FROM staged").execute(conn).await?;
    } else if let Some(part) = batch.staged.values().next() {
        let others = sqlx::query("DELETE FROM staged WHERE restore <> ?");
        others.bind(part.restore.as_str().to_owned()).execute(conn).await?;
    }
    Ok(())
}

/// Writes what the cluster went back to, and forgets all but the newest.
async fn restores(conn: &mut SqliteConnection, batch: &Batch) -> Result<(), Failure> {
    let Some((newest, _)) = batch.restores.last_key_value() else { return Ok(()) };
    let all =
        batch.restores.iter().map(|(number, restore)| Ok(NumberedRow::of(integer(*number)?, &**restore)?));
    rows(conn, all).await?;
    let kept = integer(newest.saturating_sub(KEPT_RESTORES as u64))?;
    sqlx::query("DELETE FROM restores WHERE number <= ?").bind(kept).execute(conn).await?;
    Ok(())
}

fn job_row(job: &Job) -> Result<JobRow, Failure> {
    Ok(JobRow {
        seq: integer(job.seq)?,
        id: job.id.shared(),
        status: status_code(job.status()),
        host: job.host().map(HostId::shared),
        submitter: job.submitted_by.clone(),
        prunable: job.prunable(),
        body: Body::of(job)?,
    })
}

/// Labels are only ever added here: a page leaves out jobs that no longer carry the one it looks for.
fn label_rows(job: &Job) -> impl Iterator<Item = Result<LabelRow, Failure>> {
    job.labels.iter().map(|(key, value)| Ok(LabelRow { label: label(key, value), seq: integer(job.seq)? }))
}

/// Writes how far in the log the rest goes.
pub(crate) async fn applied(
    conn: &mut SqliteConnection,
    position: &Position,
    counters: &Counters,
) -> Result<(), Failure> {
    let index = integer(position.index)?;
    let counters = serde_json::to_string(counters)?;
    let crc = applied_crc(index, &position.bytes, &counters);
    sqlx::query(
        "INSERT INTO applied (one, log_index, position, counters, crc) VALUES (1, ?, ?, ?, ?) \
         ON CONFLICT (one) DO UPDATE SET log_index = excluded.log_index, position = excluded.position, \
         counters = excluded.counters, crc = excluded.crc",
    )
    .bind(index)
    .bind(position.bytes.clone())
    .bind(counters)
    .bind(i64::from(crc))
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes rows of one table. They are encoded as they are written, so that a large batch is never in
/// memory twice.
pub(crate) async fn rows<R: Insert>(
    conn: &mut SqliteConnection,
    all: impl Iterator<Item = Result<R, Failure>>,
) -> Result<(), Failure> {
    let mut pending: Vec<R> = Vec::with_capacity(ROWS[0]);
    let (mut bytes, mut at_once) = (0, 0);
    for row in all {
        let row = row?;
        bytes += row.bytes();
        at_once += row.bytes();
        pending.push(row);
        if at_once >= BYTES_AT_ONCE {
            tokio::task::yield_now().await;
            at_once = 0;
        }
        if pending.len() == ROWS[0] || bytes >= MAX_PENDING_BYTES {
            flush(conn, &mut pending).await?;
            bytes = 0;
        }
    }
    flush(conn, &mut pending).await
}

async fn flush<R: Insert>(conn: &mut SqliteConnection, pending: &mut Vec<R>) -> Result<(), Failure> {
    while let Some(size) = ROWS.into_iter().find(|size| *size <= pending.len()) {
        let mut values = SqliteArguments::default();
        for row in pending.drain(..size) {
            row.bind(&mut values).map_err(sqlx::Error::Encode)?;
        }
        // Of constants alone: every value is bound.
        let statement = AssertSqlSafe(statement::<R>(size));
        sqlx::query_with::<Sqlite, _>(statement, values).execute(&mut *conn).await?;
    }
    Ok(())
}

/// The statement that writes so many rows.
fn statement<R: Insert>(rows: usize) -> String {
    let more = [", ", R::ROW].concat().repeat(rows.saturating_sub(1));
    [R::HEAD, "VALUES ", R::ROW, &more, R::CONFLICT].concat()
}

pub(crate) fn integer(number: u64) -> Result<i64, Failure> {
    i64::try_from(number).map_err(|_| Failure::Range(number))
}
