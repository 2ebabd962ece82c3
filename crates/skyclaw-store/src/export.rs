//! Everything there is, from one snapshot, a bounded part at a time.
//!
//! The file as a whole is had from [`Store::copy_to`].

use std::sync::Arc;

use skyclaw_core::{Counters, Host, Job, Service};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{ConnectOptions, Row};

use crate::batch::Position;
use crate::check;
use crate::load;
use crate::read::Error;
use crate::row;
use crate::schema::reader_options;
use crate::store::Store;

/// Records in one section.
const SECTION: i64 = 128;

/// The whole state at one place in the log, read on a connection of its own. As long as it lives, the
/// write-ahead log keeps what its snapshot needs: read it to the end and drop it.
#[derive(Debug)]
pub struct Export {
    conn: SqliteConnection,
    applied: Option<(Position, Counters)>,
    next: Next,
}

/// A part of the state; never empty.
#[derive(Debug)]
pub enum Section {
    /// Hosts, by id.
    Hosts(Vec<Arc<Host>>),
    /// Jobs in any state, in the order of enqueueing.
    Jobs(Vec<Arc<Job>>),
    /// Services, oldest first.
    Services(Vec<Arc<Service>>),
}

/// What comes next: records after this key.
#[derive(Debug)]
enum Next {
    Hosts(String),
    Jobs(i64),
    Services(i64),
    Nothing,
}

impl Store {
    /// Begins to read the whole state as it is now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn export(&self) -> Result<Export, Error> {
        if self.readers.is_closed() {
            return Err(Error::Closed);
        }
        let mut conn = reader_options(&self.path).connect().await?;
        // Ends with the connection.
        sqlx::raw_sql("BEGIN").execute(&mut conn).await?;
        let applied = load::applied(&mut conn).await?;
        Ok(Export { conn, applied, next: Next::Hosts(String::new()) })
    }
}

impl Export {
    /// How far in the log the state goes; `None` when nothing was ever written.
    #[must_use]
    pub fn position(&self) -> Option<&Position> {
        self.applied.as_ref().map(|(position, _)| position)
    }

    /// The numbers that come next there.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.applied.as_ref().map(|(_, counters)| *counters).unwrap_or_default()
    }

    /// The next part: hosts, then jobs, then services; `None` at the end.
    ///
    /// # Errors
    /// When the store cannot be read, or what is read is damaged.
    pub async fn next(&mut self) -> Result<Option<Section>, Error> {
        loop {
            match &self.next {
                Next::Hosts(after) => {
                    let select = "SELECT id, body, crc FROM hosts WHERE id > ? ORDER BY id LIMIT ?";
                    let rows = sqlx::query(select)
                        .bind(after.clone())
                        .bind(SECTION)
                        .fetch_all(&mut self.conn)
                        .await?;
                    let hosts = decode(&rows, row::host)?;
                    self.next =
                        hosts.last().map_or(Next::Jobs(-1), |host| Next::Hosts(host.id.as_str().to_owned()));
                    if !hosts.is_empty() {
                        return Ok(Some(Section::Hosts(hosts)));
                    }
                }
                Next::Jobs(after) => {
                    let select =
                        "SELECT seq, id, status, body, crc FROM jobs WHERE seq > ? ORDER BY seq LIMIT ?";
                    let rows =
                        sqlx::query(select).bind(*after).bind(SECTION).fetch_all(&mut self.conn).await?;
                    self.next = last_seq(&rows)?.map_or(Next::Services(-1), Next::Jobs);
                    if !rows.is_empty() {
                        return Ok(Some(Section::Jobs(decode(&rows, row::job)?)));
                    }
                }
                Next::Services(after) => {
                    let select = "SELECT seq, id, body, crc FROM services WHERE seq > ? ORDER BY seq LIMIT ?";
                    let rows =
                        sqlx::query(select).bind(*after).bind(SECTION).fetch_all(&mut self.conn).await?;
                    self.next = last_seq(&rows)?.map_or(Next::Nothing, Next::Services);
                    if !rows.is_empty() {
                        return Ok(Some(Section::Services(decode(&rows, row::service)?)));
                    }
                }
                Next::Nothing => return Ok(None),
            }
        }
    }

    /// Reads and checks the whole file.
    pub(crate) async fn check(&mut self) -> Result<(), Error> {
        check::whole(&mut self.conn).await
    }
}

fn last_seq(rows: &[SqliteRow]) -> Result<Option<i64>, Error> {
    Ok(rows.last().map(|row| row.try_get(0)).transpose()?)
}

fn decode<T>(rows: &[SqliteRow], one: impl Fn(&SqliteRow) -> Result<T, Error>) -> Result<Vec<Arc<T>>, Error> {
    rows.iter().map(|row| one(row).map(Arc::new)).collect()
}
