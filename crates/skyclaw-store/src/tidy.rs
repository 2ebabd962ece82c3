//! Giving disk back.
//!
//! What is removed leaves free pages in the file, which are used again: under a steady load the file stays as
//! large as it is. When far more is free than that needs (a bound was lowered, a flood is over), pages at the end
//! are given back, a few at a time and between other requests to the writer, so that none waits for long.
//! Nobody who writes waits for the writer at all.
//!
//! That takes a database that keeps track of which page belongs where. One that was made before that, and was too
//! large to be rewritten when it was brought up to date, stays as it is: its free pages are used again.

use std::time::Duration;

use sqlx::sqlite::SqliteConnection;

/// How often it is looked how much is free.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long to wait between two steps: a tenth of the time of the writer goes there at most.
pub(crate) const STEP_EVERY: Duration = Duration::from_millis(100);
/// So many pages are given back in one step: a megabyte.
const STEP_PAGES: i64 = 256;
/// So many may be free whatever the size of the file: 16 MiB.
const SPARE_PAGES: i64 = 4096;
/// One of so many pages may be free.
const SPARE_PART: i64 = 8;

/// Gives some free pages back if there are too many. True when there are more of those.
pub(crate) async fn step(conn: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let sizes = "SELECT a.auto_vacuum, f.freelist_count, p.page_count FROM pragma_auto_vacuum AS a, \
                 pragma_freelist_count AS f, pragma_page_count AS p";
    let (mode, free, pages): (i64, i64, i64) = sqlx::query_as(sizes).fetch_one(&mut *conn).await?;
    let surplus = free - SPARE_PAGES.max(pages / SPARE_PART);
    if mode != INCREMENTAL || surplus <= 0 {
        return Ok(false);
    }
    let pages = surplus.min(STEP_PAGES);
    let vacuum = sqlx::AssertSqlSafe(format!("PRAGMA incremental_vacuum({pages})"));
    sqlx::raw_sql(vacuum).execute(conn).await?;
    Ok(surplus > STEP_PAGES)
}

/// What `PRAGMA auto_vacuum` says of a database that can give back some of its pages.
const INCREMENTAL: i64 = 2;
