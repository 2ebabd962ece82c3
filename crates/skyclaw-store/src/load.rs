//! Reading what the state machine holds in memory, and checking that it fits together.

use std::sync::Arc;

use futures_util::TryStreamExt;
use skyclaw_core::{Counters, Freeze, Host, Job, Restore, Schedule, Service};
use skyclaw_proto::RestoreId;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::batch::Position;
use crate::damage::Damage;
use crate::read::Error;
use crate::row;

/// What is active, and how far in the log it goes.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) hosts: Vec<Arc<Host>>,
    pub(crate) active_jobs: Vec<Arc<Job>>,
    pub(crate) services: Vec<Arc<Service>>,
    pub(crate) restores: Vec<Arc<Restore>>,
    pub(crate) freezes: Vec<Arc<Freeze>>,
    pub(crate) schedules: Vec<Arc<Schedule>>,
    /// The restore whose parts are staged.
    pub(crate) staging: Option<RestoreId>,
    pub(crate) applied: Option<(Position, Counters)>,
}

/// Has SQLite look at the structure of the whole file; takes time in proportion to its size.
pub(crate) async fn check(conn: &mut SqliteConnection) -> Result<(), Error> {
    let verdict: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(conn).await?;
    if verdict == "ok" { Ok(()) } else { Err(Error::Damaged(Damage(verdict))) }
}

/// Reads everything that is not history, from one snapshot.
pub(crate) async fn load(conn: &mut SqliteConnection) -> Result<Loaded, Error> {
    let mut tx = sqlx::Connection::begin(conn).await?;
    let applied = applied(&mut tx).await?;
    let hosts = all(&mut tx, "SELECT id, body, crc FROM hosts ORDER BY id", row::host).await?;
    let active = "SELECT seq, id, status, body, crc FROM jobs INDEXED BY jobs_by_status \
                  WHERE status IN (0, 1, 6) ORDER BY seq";
    let active_jobs = all(&mut tx, active, row::job).await?;
    let services = all(&mut tx, "SELECT seq, id, body, crc FROM services ORDER BY seq", row::service).await?;
    let restores =
        all(&mut tx, "SELECT number, body, crc FROM restores ORDER BY number", row::numbered).await?;
    let freezes =
        all(&mut tx, "SELECT number, body, crc FROM freezes ORDER BY number", row::numbered).await?;
    let schedules = all(&mut tx, "SELECT id, body, crc FROM schedules ORDER BY id", row::schedule).await?;
    let staging = staging(&mut tx).await?;
    let newest: Option<i64> = sqlx::query_scalar("SELECT max(seq) FROM jobs").fetch_one(&mut *tx).await?;
    let empty = hosts.is_empty() && newest.is_none() && services.is_empty() && schedules.is_empty();
    match &applied {
        None if !empty => return Err(damaged("there are records, but no place in the log")),
        Some((_, counters)) if !newest.is_none_or(|seq| before(seq, counters.next_seq)) => {
            return Err(damaged("there are jobs newer than the place in the log"));
        }
        _ => {}
    }
    tx.rollback().await?;
    Ok(Loaded { hosts, active_jobs, services, restores, freezes, schedules, staging, applied })
}

/// How far in the log the file is.
pub(crate) async fn applied(conn: &mut SqliteConnection) -> Result<Option<(Position, Counters)>, Error> {
    let select = "SELECT log_index, position, counters, crc FROM applied";
    let found = sqlx::query(select).fetch_optional(conn).await?;
    found.as_ref().map(row::applied).transpose()
}

async fn staging(conn: &mut SqliteConnection) -> Result<Option<RestoreId>, Error> {
    let found: Option<String> =
        sqlx::query_scalar("SELECT restore FROM staged LIMIT 1").fetch_optional(conn).await?;
    let parsed = found.map(|id| RestoreId::parse(&id)).transpose();
    parsed.map_err(|_| damaged("what is staged belongs to no restore"))
}

async fn all<T>(
    conn: &mut SqliteConnection,
    select: &'static str,
    decode: impl Fn(&SqliteRow) -> Result<T, Error>,
) -> Result<Vec<Arc<T>>, Error> {
    let mut rows = sqlx::query(select).fetch(conn);
    let mut records = Vec::new();
    while let Some(row) = rows.try_next().await? {
        records.push(Arc::new(decode(&row)?));
    }
    Ok(records)
}

fn before(seq: i64, next: u64) -> bool {
    u64::try_from(seq).is_ok_and(|seq| seq < next)
}

fn damaged(detail: &str) -> Error {
    Error::Damaged(Damage(detail.into()))
}
