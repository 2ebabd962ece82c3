//! Pages of jobs, newest first. Every filter walks an index from its newest entry and stops when the
//! page is full; which index, is decided here and not by a planner that guesses.

use std::sync::Arc;

use skyclaw_core::Job;
use skyclaw_proto::{HostId, JobStatus};
use sqlx::QueryBuilder;
use sqlx::sqlite::Sqlite;

use crate::read::Error;
use crate::row;
use crate::schema::status_code;
use crate::store::Store;

/// Which jobs are looked for: those that fulfil all that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// In one of these states; none given: in any.
    pub statuses: Vec<JobStatus>,
    /// On this host, or last run there.
    pub host: Option<HostId>,
    /// With this label and value.
    pub label: Option<(String, String)>,
    /// From this submitter.
    pub submitter: Option<String>,
    /// With an id that begins so. Costs in proportion to the jobs whose id does.
    pub id_prefix: Option<String>,
}

impl Store {
    /// The newest jobs that fit the filter, at most `limit`, all enqueued before the one with the number
    /// `before`. The last one's `seq` is where the next page begins; a page that is not full is the last.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn page(
        &self,
        filter: &JobFilter,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Arc<Job>>, Error> {
        let wanted = limit as usize;
        let mut before = before.and_then(|seq| i64::try_from(seq).ok()).unwrap_or(i64::MAX);
        let mut page: Vec<Arc<Job>> = Vec::new();
        loop {
            let missing = wanted - page.len();
            let rows = filter.select(before, missing).build().fetch_all(&self.readers).await?;
            let full = rows.len() == missing && missing > 0;
            for row in &rows {
                let job = row::job(row)?;
                before = i64::try_from(job.seq).unwrap_or(i64::MAX);
                // The index of labels may name one that a merge has taken away since.
                if filter.label.as_ref().is_none_or(|(key, value)| job.labels.get(key) == Some(value)) {
                    page.push(Arc::new(job));
                }
            }
            if page.len() == wanted || !full {
                return Ok(page);
            }
        }
    }
}

/// Where the numbers of the jobs come from.
#[derive(Clone, Copy)]
enum Source {
    /// Jobs with one label.
    Label,
    /// Jobs of one host and one state.
    Host,
    /// Jobs of one submitter and one state.
    Submitter,
    /// Jobs whose id begins alike; not in their order.
    Prefix,
    /// Jobs in one state.
    Status,
    /// All jobs.
    All,
}

impl JobFilter {
    fn source(&self) -> Source {
        if self.label.is_some() {
            Source::Label
        } else if self.host.is_some() {
            Source::Host
        } else if self.submitter.is_some() {
            Source::Submitter
        } else if self.id_prefix.is_some() {
            Source::Prefix
        } else if self.statuses.is_empty() {
            Source::All
        } else {
            Source::Status
        }
    }

    /// One arm for each state where the index begins with it, so that each is read from its newest entry
    /// and gives no more than a page.
    fn select(&self, before: i64, limit: usize) -> QueryBuilder<Sqlite> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let source = self.source();
        let arms: Vec<&[JobStatus]> = match source {
            Source::Host | Source::Submitter | Source::Status => {
                let all = if self.statuses.is_empty() { JobStatus::ALL } else { &self.statuses };
                all.chunks(1).collect()
            }
            Source::Label | Source::Prefix | Source::All => vec![&self.statuses],
        };
        let mut sql = QueryBuilder::new("SELECT seq, id, status, body, crc FROM jobs WHERE seq IN (");
        for (i, statuses) in arms.into_iter().enumerate() {
            sql.push(if i > 0 { " UNION ALL " } else { "" });
            self.arm(&mut sql, source, statuses, before, limit);
        }
        sql.push(") ORDER BY seq DESC LIMIT ").push_bind(limit);
        sql
    }

    fn arm(
        &self,
        sql: &mut QueryBuilder<Sqlite>,
        source: Source,
        statuses: &[JobStatus],
        before: i64,
        limit: i64,
    ) {
        let (from, seq) = match source {
            Source::Label => ("labels CROSS JOIN jobs ON jobs.seq = labels.seq", "labels.seq"),
            Source::Host => ("jobs INDEXED BY jobs_by_host", "jobs.seq"),
            Source::Submitter => ("jobs INDEXED BY jobs_by_submitter", "jobs.seq"),
            Source::Prefix => ("jobs INDEXED BY sqlite_autoindex_jobs_1", "jobs.seq"),
            Source::Status => ("jobs INDEXED BY jobs_by_status", "jobs.seq"),
            Source::All => ("jobs", "jobs.seq"),
        };
        sql.push(format_args!("SELECT * FROM (SELECT {seq} FROM {from} WHERE {seq} < ")).push_bind(before);
        if let Some((key, value)) = &self.label {
            sql.push(" AND labels.label = ").push_bind(row::label(key, value));
        }
        if let Some(host) = &self.host {
            sql.push(" AND jobs.host = ").push_bind(host.as_str().to_owned());
        }
        if let Some(submitter) = &self.submitter {
            sql.push(" AND jobs.submitter = ").push_bind(submitter.clone());
        }
        if let Some(prefix) = &self.id_prefix {
            // Ids are ASCII: what begins with the prefix sorts before it with the last of characters.
            sql.push(" AND jobs.id >= ").push_bind(prefix.clone());
            sql.push(" AND jobs.id < ").push_bind(format!("{prefix}\u{10ffff}"));
        }
        match statuses {
            [] => {}
            [one] => {
                sql.push(" AND jobs.status = ").push_bind(status_code(*one));
            }
            many => {
                let codes: Vec<String> = many.iter().map(|status| status_code(*status).to_string()).collect();
                sql.push(format_args!(" AND jobs.status IN ({})", codes.join(", ")));
            }
        }
        sql.push(format_args!(" ORDER BY {seq} DESC LIMIT ")).push_bind(limit).push(")");
    }
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
