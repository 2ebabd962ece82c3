//! `GET /v1/jobs`: pages of jobs, newest first.
//!
//! Parameters, all optional, all of which a job must fulfil: `status` (several, repeated or separated by
//! commas), `host`, `label=key=value`, `submitter`, `id` (what the id begins with); `limit` (1 to 1000,
//! 100 when absent) and `cursor` (the `nextCursor` of the page before).

use std::collections::BTreeSet;

use axum::extract::State;
use axum::response::Response;
use skyclaw_proto::response::JobPage;
use skyclaw_proto::{HostId, Invalid, JobId, JobStatus, limits, record};
use skyclaw_replication::JobFilter;

use super::reply;
use crate::app::Shared;
use crate::error::ApiError;
use crate::extract::Query;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    filter: JobFilter,
    before: Option<u64>,
    limit: u32,
}

pub(crate) async fn handle(State(app): State<Shared>, query: Query) -> Result<Response, ApiError> {
    let Wanted { filter, before, limit } = wanted(&query)?;
    // One more than asked for shows whether there is a next page.
    let mut jobs = app.node.jobs(&filter, before, limit + 1).await?;
    let is_last = jobs.len() <= limit as usize;
    jobs.truncate(limit as usize);
    let next_cursor = jobs.last().filter(|_| !is_last).map(|job| job.seq.to_string());
    reply::large(|| {
        let jobs = jobs.iter().map(|job| record::Job::from(&**job)).collect();
        Ok(JobPage { jobs, next_cursor })
    })
}

fn wanted(query: &Query) -> Result<Wanted, Invalid> {
    let filter = JobFilter {
        statuses: statuses(query)?,
        host: id(query, "host", HostId::parse)?,
        label: label(query)?,
        submitter: query.one("submitter")?.map(str::to_owned),
        id_prefix: id(query, "id", JobId::parse)?.map(|id| id.to_string()),
    };
    let before = query.read("cursor", "must be the nextCursor of another page")?;
    Ok(Wanted { filter, before, limit: limit(query)? })
}

fn statuses(query: &Query) -> Result<Vec<JobStatus>, Invalid> {
    let unknown = || {
        let known = JobStatus::ALL.iter().map(|status| status.as_str()).collect::<Vec<_>>().join(", ");
        Invalid::new("status", format!("must be one of {known}"))
    };
    let words = query.all("status").flat_map(|list| list.split(',')).map(str::trim).filter(|w| !w.is_empty());
    let statuses = words.map(|word| JobStatus::parse(word).ok_or_else(unknown));
    Ok(statuses.collect::<Result<BTreeSet<_>, _>>()?.into_iter().collect())
}

fn label(query: &Query) -> Result<Option<(String, String)>, Invalid> {
    let Some(label) = query.one("label")? else { return Ok(None) };
    let parts = label.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    parts.map(Some).ok_or_else(|| Invalid::new("label", "must be of the form key=value"))
}

fn id<T>(
    query: &Query,
    name: &str,
    parse: impl Fn(&str) -> Result<T, skyclaw_proto::InvalidId>,
) -> Result<Option<T>, Invalid> {
    query.one(name)?.map(|text| parse(text).map_err(|e| Invalid::new(name, e.to_string()))).transpose()
}

fn limit(query: &Query) -> Result<u32, Invalid> {
    let fault = format!("must be a whole number from 1 to {}", limits::MAX_PAGE);
    match query.read("limit", &fault)?.unwrap_or(limits::DEFAULT_PAGE) {
        n if n == 0 || n > limits::MAX_PAGE => Err(Invalid::new("limit", fault)),
        n => Ok(n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_narrows_the_list() {
        let query = Query::parse(
            "status=queued,failed&status=leased&host=h1&label=team%3Da%3Db&submitter=ann&id=job_01&limit=7&cursor=42",
        );
        let want = Wanted {
            filter: JobFilter {
                statuses: vec![JobStatus::Queued, JobStatus::Leased, JobStatus::Failed],
                host: HostId::parse("h1").ok(),
                label: Some(("team".into(), "a=b".into())),
                submitter: Some("ann".into()),
                id_prefix: Some("job_01".into()),
            },
            before: Some(42),
            limit: 7,
        };
        assert_eq!(wanted(&query), Ok(want));
    }

    #[test]
    fn nothing_asked_for_is_the_newest_hundred() {
        let want = Wanted { filter: JobFilter::default(), before: None, limit: limits::DEFAULT_PAGE };
        assert_eq!(wanted(&Query::parse("consistent=true&unknown=1")), Ok(want));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let table = [
            ("status=fine", "status"),
            ("host=a%20b", "host"),
            ("label=team", "label"),
            ("label=a=1&label=b=2", "label"),
            ("id=%2F", "id"),
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("limit=x", "limit"),
            ("cursor=-1", "cursor"),
        ];
        for (query, field) in table {
            let error = ApiError::from(wanted(&Query::parse(query)).expect_err(query));
            assert_eq!(error.body().details, Some(serde_json::json!({ "field": field })), "{query}");
            assert!(error.body().error.starts_with(field), "{}", error.body().error);
        }
    }
}
