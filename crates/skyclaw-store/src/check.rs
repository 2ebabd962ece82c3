//! Checking a database as a whole: its structure, its indexes and every record, the kept replies and the
//! columns that repeat what a record says among them. Labels are checked for their structure alone, as more
//! of them may be listed than there are.

use futures_util::TryStreamExt;
use skyclaw_core::{Freeze, Restore};
use skyclaw_proto::{HostId, Timestamp};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::damage::Damage;
use crate::events;
use crate::read::Error;
use crate::row;

/// Reads everything. Takes time in proportion to the size of the file, and little memory.
pub(crate) async fn whole(conn: &mut SqliteConnection) -> Result<(), Error> {
    let verdict: String = sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut *conn).await?;
    if verdict != "ok" {
        return Err(Error::Damaged(Damage(verdict)));
    }
    each(conn, "SELECT id, body, crc FROM hosts", |row| row::host(row).map(drop)).await?;
    each(conn, "SELECT seq, id, status, body, crc, host, submitter, ended_at, keep_until FROM jobs", job)
        .await?;
    each(conn, "SELECT seq, id, body, crc FROM services", |row| row::service(row).map(drop)).await?;
    each(conn, "SELECT id, body, crc, expires_at FROM replies", reply).await?;
    each(conn, "SELECT number, body, crc FROM restores", |row| row::numbered::<Restore>(row).map(drop))
        .await?;
    each(conn, "SELECT id, body, crc FROM schedules", |row| row::schedule(row).map(drop)).await?;
    each(conn, "SELECT number, body, crc FROM freezes", |row| row::numbered::<Freeze>(row).map(drop)).await?;
    let select = "SELECT last_index, last_n, count, body, crc FROM events";
    each(conn, select, |row| events::notices_of(row).map(drop)).await?;
    each(conn, "SELECT bytes, crc, part FROM staged", staged).await
}

async fn each(
    conn: &mut SqliteConnection,
    select: &'static str,
    check: impl Fn(&SqliteRow) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut rows = sqlx::query(select).fetch(conn);
    while let Some(row) = rows.try_next().await? {
        check(&row)?;
    }
    Ok(())
}

fn job(row: &SqliteRow) -> Result<(), Error> {
    let job = row::job(row)?;
    let prunable = job.prunable();
    let (ended_at, keep_until) = (
        prunable.map(|(at, _)| at.as_millis()),
        prunable.and_then(|(_, until)| until).map(Timestamp::as_millis),
    );
    let same = job.host().map(HostId::as_str) == row.try_get(5)?
        && job.submitted_by.as_deref() == row.try_get(6)?
        && ended_at == row.try_get(7)?
        && keep_until == row.try_get(8)?;
    row::agree(same, || format!("job {}", job.id))
}

fn staged(row: &SqliteRow) -> Result<(), Error> {
    let part: i64 = row.try_get(2)?;
    row::staged(row, u32::try_from(part).unwrap_or(u32::MAX)).map(drop)
}

fn reply(row: &SqliteRow) -> Result<(), Error> {
    let (_, reply) = row::reply(row)?;
    let same = reply.key.expires_at.as_millis() == row.try_get::<i64, _>(3)?;
    row::agree(same, || "an idempotency record".into())
}
