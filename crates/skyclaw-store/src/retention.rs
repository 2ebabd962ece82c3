//! Which jobs that have ended may be forgotten, and how those are removed that are.
//!
//! The leader looks here for the next ones, each node removes those that the log names. Both go along an index
//! that is in the order of forgetting: nothing here reads the records themselves.

use std::sync::Arc;

use skyclaw_core::{EndedJob, Expendable};
use skyclaw_proto::{JobId, Timestamp};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::batch::Batch;
use crate::damage::Damage;
use crate::read::Error;
use crate::store::Store;
use crate::write::{Failure, integer};

/// Rows that one statement removes at most.
const ROWS: usize = 512;

/// A place among the jobs that may be forgotten: its time, and its number in the order of enqueueing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndPlace {
    at: i64,
    seq: i64,
}

impl EndPlace {
    /// Before all others.
    pub const START: Self = Self { at: i64::MIN, seq: i64::MIN };
}

/// Jobs that may be forgotten, in the order of that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndedPage {
    /// The jobs.
    pub jobs: Vec<Expendable>,
    /// The place of the last of them, behind which to go on; `None` when there are none.
    pub last: Option<EndPlace>,
    /// Whether there may be more.
    pub is_full: bool,
}

/// Jobs that may be forgotten some time, all there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndedCount {
    /// Those that ask for no time of their own.
    pub usual: u64,
    /// Those that do.
    pub own: u64,
    /// When the first of those that do not ended.
    pub oldest: Option<Timestamp>,
}

/// Replies that have expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiredReplies {
    /// As many as were asked for, or all, expire before this.
    pub before: Timestamp,
    /// How many.
    pub count: u64,
}

impl Store {
    /// Jobs that ended by `until` and ask for no time of their own, the first ones first: at most `most`, which
    /// come after `after`, and no more once their records are `bytes` together.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn ended_jobs(
        &self,
        until: Timestamp,
        after: EndPlace,
        most: u32,
        bytes: u64,
    ) -> Result<EndedPage, Error> {
        let select = "SELECT ended_at, seq, id, octet_length(body), ended_at FROM jobs INDEXED BY jobs_by_end \
                      WHERE ended_at IS NOT NULL AND keep_until IS NULL \
                      AND (ended_at, seq) > (?, ?) AND ended_at <= ? \
                      ORDER BY ended_at, keep_until, seq LIMIT ?";
        self.expendable(select, until, after, most, bytes).await
    }

    /// The same of jobs that ask for a time of their own, which is over by `until`; those whose time is over first
    /// come first.
    ///
    /// # Errors
    /// As [`Self::ended_jobs`].
    pub async fn outlived_jobs(
        &self,
        until: Timestamp,
        after: EndPlace,
        most: u32,
        bytes: u64,
    ) -> Result<EndedPage, Error> {
        let select = "SELECT keep_until, seq, id, octet_length(body), ended_at FROM jobs \
                      INDEXED BY jobs_by_keep WHERE keep_until IS NOT NULL \
                      AND (keep_until, seq) > (?, ?) AND keep_until <= ? \
                      ORDER BY keep_until, seq LIMIT ?";
        self.expendable(select, until, after, most, bytes).await
    }

    async fn expendable(
        &self,
        select: &'static str,
        until: Timestamp,
        after: EndPlace,
        most: u32,
        bytes: u64,
    ) -> Result<EndedPage, Error> {
        let query = sqlx::query(select).bind(after.at).bind(after.seq).bind(until.as_millis());
        let rows = query.bind(i64::from(most)).fetch_all(&self.readers).await?;
        let mut page = EndedPage { is_full: rows.len() == most as usize, ..EndedPage::default() };
        let mut left = bytes;
        for row in &rows {
            if left == 0 {
                page.is_full = true;
                break;
            }
            let size: i64 = row.try_get(3)?;
            left = left.saturating_sub(u64::try_from(size).unwrap_or(u64::MAX));
            let ended_at = Timestamp::from_millis(row.try_get(4)?);
            page.jobs.push(Expendable { id: id(row, 2)?, ended_at });
            page.last = Some(EndPlace { at: row.try_get(0)?, seq: row.try_get(1)? });
        }
        Ok(page)
    }

    /// How many jobs there are that may be forgotten some time. Reads an index as a whole: some 20 bytes for each.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn count_ended(&self) -> Result<EndedCount, Error> {
        let row = sqlx::query(COUNT).fetch_one(&self.readers).await?;
        let count = |column| Ok::<_, Error>(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0));
        let oldest: Option<i64> = row.try_get(2)?;
        Ok(EndedCount { usual: count(0)?, own: count(1)?, oldest: oldest.map(Timestamp::from_millis) })
    }

    /// Where those of these jobs lie that have ended and may be forgotten, in one round trip.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn ended(&self, ids: &[JobId]) -> Result<Vec<(JobId, EndedJob)>, Error> {
        let ids = serde_json::to_string(ids).map_err(Error::Encode)?;
        let select = "SELECT jobs.id, jobs.seq, jobs.ended_at \
                      FROM json_each(?) AS wanted CROSS JOIN jobs ON jobs.id = wanted.value \
                      WHERE jobs.ended_at IS NOT NULL";
        let rows = sqlx::query(select).bind(ids).fetch_all(&self.readers).await?;
        let found = |row: &SqliteRow| {
            let seq: i64 = row.try_get(1)?;
            let seq = u64::try_from(seq).map_err(|_| Error::Damaged(Damage(format!("job number {seq}"))))?;
            Ok((id(row, 0)?, EndedJob { seq, at: Timestamp::from_millis(row.try_get(2)?) }))
        };
        rows.iter().map(found).collect()
    }

    /// The replies that expire from `after` on and before `now`, the first ones: about `most`, as those that expire
    /// at the same time go together. `None` when there are none.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn expired_replies(
        &self,
        after: Timestamp,
        now: Timestamp,
        most: u32,
    ) -> Result<Option<ExpiredReplies>, Error> {
        let select = "SELECT count(*), max(expires_at) FROM (SELECT expires_at FROM replies \
                      INDEXED BY replies_by_expiry WHERE expires_at >= ? AND expires_at < ? \
                      ORDER BY expires_at LIMIT ?)";
        let query =
            sqlx::query_as(select).bind(after.as_millis()).bind(now.as_millis()).bind(i64::from(most));
        let (count, last): (i64, Option<i64>) = query.fetch_one(&self.readers).await?;
        let Some(last) = last else { return Ok(None) };
        let before = Timestamp::from_millis(last.saturating_add(1)).min(now);
        Ok(Some(ExpiredReplies { before, count: u64::try_from(count).unwrap_or(0) }))
    }
}

/// Each part looks at an index alone.
const COUNT: &str = "SELECT (SELECT count(*) FROM jobs INDEXED BY jobs_by_end \
                     WHERE ended_at IS NOT NULL AND keep_until IS NULL), \
                     (SELECT count(*) FROM jobs INDEXED BY jobs_by_keep WHERE keep_until IS NOT NULL), \
                     (SELECT ended_at FROM jobs INDEXED BY jobs_by_end \
                     WHERE ended_at IS NOT NULL AND keep_until IS NULL ORDER BY ended_at LIMIT 1)";
/// Labels as they were written: `row::label`.
const REMOVE_LABELS: &str = "DELETE FROM labels WHERE (label, seq) IN ( \
                             SELECT one.key || '=' || one.value, jobs.seq \
                             FROM json_each(?) AS gone CROSS JOIN jobs ON jobs.seq = gone.value \
                             CROSS JOIN json_each(jobs.body, '$.labels') AS one)";

fn id(row: &SqliteRow, column: usize) -> Result<JobId, Error> {
    let text: &str = row.try_get(column)?;
    JobId::parse(text).map_err(|_| Error::Damaged(Damage(format!("the id of job {text:?}"))))
}

/// Removes the jobs that a batch has as pruned, with their labels.
pub(crate) async fn remove(conn: &mut SqliteConnection, batch: &Batch) -> Result<(), Failure> {
    for part in batch.pruned_seqs.chunks(ROWS) {
        let seqs: Vec<i64> = part.iter().map(|seq| integer(*seq)).collect::<Result<_, _>>()?;
        let seqs: Arc<str> = serde_json::to_string(&seqs)?.into();
        sqlx::query(REMOVE_LABELS).bind(Arc::clone(&seqs)).execute(&mut *conn).await?;
        let jobs = "DELETE FROM jobs WHERE seq IN (SELECT value FROM json_each(?))";
        sqlx::query(jobs).bind(seqs).execute(&mut *conn).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sqlx::Connection as _;
    use sqlx::sqlite::SqliteConnectOptions;

    use super::*;
    use crate::schema::migrator;

    async fn plan(select: &str) -> Vec<String> {
        let options = SqliteConnectOptions::new();
        let mut conn = SqliteConnection::connect_with(&options).await.expect("a database");
        migrator().run(&mut conn).await.expect("the tables");
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {select}"));
        let rows = sqlx::query(explain).fetch_all(&mut conn).await.expect("a plan");
        rows.iter().map(|row| row.get::<String, _>(3)).collect()
    }

    /// What SQLite does otherwise gives the same and takes many times as long.
    #[tokio::test]
    async fn counting_reads_no_row_and_removing_labels_finds_each_by_its_key() {
        let plan_of_count = plan(COUNT).await;
        let searches: Vec<_> = plan_of_count.iter().filter(|step| step.starts_with("SEARCH")).collect();
        assert_eq!(searches.len(), 3, "{plan_of_count:?}");
        assert!(searches.iter().all(|step| step.contains("USING COVERING INDEX")), "{plan_of_count:?}");
        let plan_of_removal = plan(REMOVE_LABELS).await;
        let first = plan_of_removal.first().map(String::as_str);
        assert_eq!(first, Some("SEARCH labels USING PRIMARY KEY (label=? AND seq=?)"));
    }
}
