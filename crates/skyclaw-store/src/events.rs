//! What is told of changes: kept for a time, so that who follows them may go away and come back.
//!
//! ```text
//!  Batch::note ──commit──► one row for up to CHUNK of them ──► pruned by count and age, the oldest rows first
//!                                 └──► Store::notices: those after a place, and from where on all are kept
//! ```
//!
//! They follow from the log alone, so every node has the same under the same ids; only how they are cut into
//! rows differs. What was pruned leaves a mark, so that nobody takes what is left for all there was.

use std::borrow::Cow;
use std::io::{self, Read as _};
use std::time::Duration;

use futures_util::TryStreamExt;
use skyclaw_core::Notice;
use skyclaw_proto::{EventId, record};
use sqlx::Arguments as _;
use sqlx::Row as _;
use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use zstd::bulk::Compressor;
use zstd::stream::read::Decoder;

use crate::batch::Batch;
use crate::damage::Damage;
use crate::read::Error;
use crate::row::{self, Insert};
use crate::store::Store;
use crate::write::{Failure, integer, rows};

/// Most changes in one row.
const CHUNK: usize = 256;
/// Past so many bytes, as they are estimated, a row is full.
const CHUNK_BYTES: usize = 64 * 1024;
/// Most changes that one read gives, but for the rest of a row.
const PAGE: usize = 1024;
/// Past so many bytes, one read gives no further row.
const PAGE_BYTES: usize = 1024 * 1024;
/// No row is longer than this as JSON, whatever is in it.
const MAX_JSON_BYTES: u64 = 64 * 1024 * 1024;
/// As compressed as it gets for next to nothing: what is told of one change is much like what is told of the next.
const LEVEL: i32 = 1;
/// Most rows that are looked at to be pruned with one batch, beside some for each that it adds.
const PRUNED_AT_ONCE: i64 = 64;

/// How long what is told of changes is kept: as long as both allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The newest so many, and what is in one row with them.
    pub count: u64,
    /// Those that are not older than this beside the newest one.
    pub age: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { count: 1_000_000, age: Duration::from_secs(24 * 3600) }
    }
}

/// A change with its place.
#[derive(Debug, Clone)]
pub(crate) struct Noted {
    pub(crate) id: EventId,
    pub(crate) notice: Notice,
}

/// A part of what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// All that came after this place is kept, or in batches that were not written yet.
    pub kept_after: EventId,
    /// The first of those that were asked for, oldest first.
    pub notices: Vec<record::Notice>,
    /// Whether there are no more in the database.
    pub is_last: bool,
}

impl Store {
    /// What is told of the changes after a place, a bounded part at a time. What is asked for and
    /// [not kept](Page::kept_after) is left out.
    ///
    /// # Errors
    /// When the store cannot be read, or what is read is damaged.
    pub async fn notices(&self, after: EventId) -> Result<Page, Error> {
        let mut tx = self.readers.begin().await?;
        let first = "SELECT last_index, last_n, count FROM events ORDER BY last_index, last_n LIMIT 1";
        let first = sqlx::query(first).fetch_optional(&mut *tx).await?;
        let kept_after = match first.as_ref().map(|row| row.try_get(2)).transpose()? {
            Some(0_i64) => first.as_ref().map_or(Ok(EventId::START), place)?,
            Some(_) | None => EventId::START,
        };
        let (mut notices, mut bytes, mut is_last) = (Vec::<record::Notice>::new(), 0, true);
        let select = "SELECT last_index, last_n, count, body, crc FROM events \
                      WHERE (last_index, last_n) > (?, ?) AND count > 0 ORDER BY last_index, last_n";
        let query = sqlx::query(select).bind(index_of(after)).bind(i64::from(after.n()));
        let mut found = query.fetch(&mut *tx);
        while let Some(row) = found.try_next().await? {
            if notices.len() >= PAGE || bytes >= PAGE_BYTES {
                is_last = false;
                break;
            }
            // A batch that was written again, cut otherwise, is told once.
            let last = notices.last().map_or(after, |last| last.id);
            let told = notices_of(&row)?;
            bytes += told.bytes;
            notices.extend(told.notices.into_iter().filter(|notice| notice.id > last));
        }
        drop(found);
        tx.rollback().await?;
        Ok(Page { kept_after, notices, is_last })
    }
}

/// What is in one row.
#[derive(Default)]
pub(crate) struct Told {
    notices: Vec<record::Notice>,
    /// How long they are as JSON.
    bytes: usize,
}

/// Reads `last_index, last_n, count, body, crc`.
pub(crate) fn notices_of(row: &SqliteRow) -> Result<Told, Error> {
    let last = place(row)?;
    let name = || format!("the events up to {last}");
    let count: i64 = row.try_get(2)?;
    if count == 0 {
        return Ok(Told::default());
    }
    let body = row::sound(row, 3, name)?;
    // What is compressed begins with its magic number, and what never was, with the bracket of a list.
    let json = if body.first() == Some(&b'[') { Cow::Borrowed(body) } else { expand(body, name)?.into() };
    let notices: Vec<record::Notice> = row::parse(&json, name)?;
    let same = i64::try_from(notices.len()) == Ok(count) && notices.last().map(|it| it.id) == Some(last);
    row::agree(same, name)?;
    Ok(Told { notices, bytes: json.len() })
}

fn expand(body: &[u8], record: impl Fn() -> String) -> Result<Vec<u8>, Error> {
    let mut json = Vec::new();
    let read = Decoder::with_buffer(body).and_then(|from| from.take(MAX_JSON_BYTES).read_to_end(&mut json));
    read.map_err(|error| row::unreadable(&record(), &error))?;
    Ok(json)
}

/// Reads `last_index, last_n`.
fn place(row: &SqliteRow) -> Result<EventId, Error> {
    let (index, n): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let wrong = || Error::Damaged(Damage(format!("the place {index}-{n} of an event")));
    Ok(EventId::new(u64::try_from(index).map_err(|_| wrong())?, u32::try_from(n).map_err(|_| wrong())?))
}

/// Writes what a batch has noted. Says how many rows that made.
pub(crate) async fn write(conn: &mut SqliteConnection, batch: &Batch) -> Result<i64, Failure> {
    if batch.notices.is_empty() {
        return Ok(0);
    }
    // A batch that is written again is counted twice, which prunes a little early.
    let newest = "SELECT total FROM events ORDER BY last_index DESC, last_n DESC LIMIT 1";
    let newest: Option<i64> = sqlx::query_scalar(newest).fetch_optional(&mut *conn).await?;
    let mut total = newest.unwrap_or(0);
    let mut added = 0;
    let mut compressor = Compressor::new(LEVEL).map_err(compressing)?;
    let made = chunks(&batch.notices).map(|chunk| {
        total = total.saturating_add(i64::try_from(chunk.len()).unwrap_or(i64::MAX));
        added += 1;
        Row::of(chunk, total, &mut compressor)
    });
    rows(conn, made).await?;
    Ok(added)
}

/// Prunes the oldest rows, as far as they are too many or too old beside the newest, and not very many at once.
pub(crate) async fn prune(conn: &mut SqliteConnection, keep: Retention, added: i64) -> Result<(), Failure> {
    if added == 0 {
        return Ok(());
    }
    let newest = "SELECT last_index, last_n, total, at FROM events \
                  ORDER BY last_index DESC, last_n DESC LIMIT 1";
    let newest: Option<(i64, i64, i64, i64)> = sqlx::query_as(newest).fetch_optional(&mut *conn).await?;
    let Some((index, n, total, at)) = newest else { return Ok(()) };
    let least_total = total.saturating_sub(i64::try_from(keep.count).unwrap_or(i64::MAX));
    let least_at = at.saturating_sub(i64::try_from(keep.age.as_millis()).unwrap_or(i64::MAX));
    let oldest = "SELECT last_index, last_n, total, at, count FROM events \
                  WHERE (last_index, last_n) < (?, ?) ORDER BY last_index, last_n LIMIT ?";
    let oldest: Vec<(i64, i64, i64, i64, i64)> = sqlx::query_as(oldest)
        .bind(index)
        .bind(n)
        .bind(PRUNED_AT_ONCE.saturating_add(added.saturating_mul(4)))
        .fetch_all(&mut *conn)
        .await?;
    let gone =
        oldest.iter().take_while(|(_, _, total, at, _)| *total <= least_total || *at < least_at).last();
    let Some((index, n, _, _, count)) = gone else { return Ok(()) };
    sqlx::query("DELETE FROM events WHERE (last_index, last_n) < (?, ?)")
        .bind(index)
        .bind(n)
        .execute(&mut *conn)
        .await?;
    if *count > 0 {
        // The mark of what is gone.
        sqlx::query("UPDATE events SET count = 0, body = '', crc = 0 WHERE last_index = ? AND last_n = ?")
            .bind(index)
            .bind(n)
            .execute(conn)
            .await?;
    }
    Ok(())
}

/// What goes into one row each.
fn chunks(mut left: &[Noted]) -> impl Iterator<Item = &[Noted]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = left.iter().take(CHUNK).take_while(|noted| {
            let had = bytes;
            bytes += noted.notice.approx_bytes();
            had < CHUNK_BYTES
        });
        let (chunk, rest) = left.split_at(fits.count());
        left = rest;
        (!chunk.is_empty()).then_some(chunk)
    })
}

struct Row {
    last: EventId,
    count: i64,
    total: i64,
    at: i64,
    /// A list of them as JSON, compressed.
    body: Vec<u8>,
    /// How long it was before.
    json_bytes: usize,
}

impl Row {
    fn of(chunk: &[Noted], total: i64, compressor: &mut Compressor<'_>) -> Result<Self, Failure> {
        let told: Vec<record::Notice> = chunk.iter().map(|noted| noted.notice.told(noted.id)).collect();
        let (last, at) = told.last().map_or((EventId::START, 0), |last| (last.id, last.at.as_millis()));
        let count = integer(told.len() as u64)?;
        let json = serde_json::to_vec(&told)?;
        let body = compressor.compress(&json).map_err(compressing)?;
        Ok(Self { last, count, total, at, body, json_bytes: json.len() })
    }
}

fn compressing(error: io::Error) -> Failure {
    Failure::Encode(serde_json::Error::io(error))
}

impl Insert for Row {
    const HEAD: &'static str = "INSERT INTO events (last_index, last_n, count, total, at, body, crc) ";
    const ROW: &'static str = "(?, ?, ?, ?, ?, ?, ?)";
    const CONFLICT: &'static str = " ON CONFLICT (last_index, last_n) DO UPDATE SET count = excluded.count, \
        total = excluded.total, at = excluded.at, body = excluded.body, crc = excluded.crc";
    fn bytes(&self) -> usize {
        self.json_bytes
    }
    fn bind(self, values: &mut SqliteArguments) -> Result<(), BoxDynError> {
        values.add(index_of(self.last))?;
        values.add(i64::from(self.last.n()))?;
        values.add(self.count)?;
        values.add(self.total)?;
        values.add(self.at)?;
        row::bind_sound(self.body, values)
    }
}

/// As SQLite holds it: an index never is greater.
fn index_of(id: EventId) -> i64 {
    i64::try_from(id.index()).unwrap_or(i64::MAX)
}
