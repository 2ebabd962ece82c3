//! From what a person types to one record: the whole id, or the beginning of it.

use skyclaw_client::{Client, JobFilter};
use skyclaw_proto::JobId;
use skyclaw_proto::record::{Host, Job, Service};

use crate::error::Error;

/// Jobs asked for at once, and looked through at most, to find one by the beginning of its id.
const PAGE: u32 = 200;
const MAX_LOOKED_AT: usize = 5_000;
/// Ids shown when several would do.
const MAX_SHOWN: usize = 5;

/// What may have become of a job.
const FORGOTTEN: &str = ": there never was, or it has ended and was kept long enough (skyctl events tells when \
    jobs are forgotten)";

/// The job with this id, or the only one whose id begins like this, with or without `job_`.
pub(crate) async fn job(client: &Client, wanted: &str) -> Result<Job, Error> {
    let refusal = match JobId::parse(wanted) {
        Ok(id) => match found(client, &id).await {
            Ok(job) => return Ok(job),
            Err(error) if error.is_not_found() => error,
            Err(error) => return Err(error.into()),
        },
        Err(_) => return Err(no_such("job", wanted, String::new())),
    };
    if is_whole(wanted, JobId::PREFIX) {
        return Err(no_such("job", wanted, FORGOTTEN.to_owned()));
    }
    let mut found: Vec<Job> = Vec::new();
    let mut looked_at = 0;
    let mut cursor: Option<String> = None;
    let filter = JobFilter { limit: Some(PAGE), ..JobFilter::default() };
    loop {
        let page = match client.jobs(&filter, cursor.as_deref()).await {
            Ok(page) => page,
            // A coordinator that has no list of jobs.
            Err(error) if error.is_not_found() => return Err(refusal.into()),
            Err(error) => return Err(error.into()),
        };
        looked_at += page.jobs.len();
        found.extend(page.jobs.into_iter().filter(|job| begins(job.id.as_str(), JobId::PREFIX, wanted)));
        cursor = page.next_cursor;
        if cursor.is_none() || looked_at >= MAX_LOOKED_AT {
            break;
        }
    }
    let hint = if cursor.is_some() {
        format!(" among the newest {looked_at}: give the whole id of an older one")
    } else {
        String::new()
    };
    only_one("job", wanted, found, |job| job.id.as_str()).map_err(|error| match error {
        Error::NoSuch { kind, wanted, .. } => Error::NoSuch { kind, wanted, hint },
        other => other,
    })
}

/// A job by its whole id. One that this coordinator does not know may have been submitted at another one a moment ago,
/// so then all of them are asked.
async fn found(client: &Client, id: &JobId) -> Result<Job, skyclaw_client::Error> {
    match client.job(id).await {
        Err(error) if error.is_not_found() && is_whole(id.as_str(), JobId::PREFIX) => {
            client.job_for_sure(id).await
        }
        found => found,
    }
}

/// The host with this id or name, or the only one whose id begins like this.
pub(crate) fn host(hosts: Vec<Host>, wanted: &str) -> Result<Host, Error> {
    named("host", "host_", hosts, wanted, |host| (host.id.as_str(), &host.name))
}

/// The service with this id or name, or the only one whose id begins like this.
pub(crate) fn service(services: Vec<Service>, wanted: &str) -> Result<Service, Error> {
    named("service", "svc_", services, wanted, |service| (service.id.as_str(), &service.name))
}

/// A whole id first, then a name, then the beginning of an id.
fn named<T>(
    kind: &'static str,
    prefix: &str,
    records: Vec<T>,
    wanted: &str,
    keys: impl Fn(&T) -> (&str, &str),
) -> Result<T, Error> {
    let rank = |record: &T| {
        let (id, name) = keys(record);
        match () {
            () if id == wanted => Some(0),
            () if name == wanted => Some(1),
            () if begins(id, prefix, wanted) => Some(2),
            () => None,
        }
    };
    let best = records.iter().filter_map(rank).min();
    let found = records.into_iter().filter(|record| best.is_some() && rank(record) == best).collect();
    only_one(kind, wanted, found, |record| keys(record).0)
}

fn only_one<T>(
    kind: &'static str,
    wanted: &str,
    mut found: Vec<T>,
    id: impl Fn(&T) -> &str,
) -> Result<T, Error> {
    if found.len() > 1 {
        let candidates = found.iter().take(MAX_SHOWN).map(|record| id(record).to_owned()).collect();
        return Err(Error::Ambiguous { kind, wanted: wanted.to_owned(), candidates });
    }
    found.pop().ok_or_else(|| no_such(kind, wanted, String::new()))
}

fn no_such(kind: &'static str, wanted: &str, hint: String) -> Error {
    Error::NoSuch { kind, wanted: wanted.to_owned(), hint }
}

/// Whether an id begins as it was typed, with or without its prefix.
fn begins(id: &str, prefix: &str, wanted: &str) -> bool {
    let bare = id.strip_prefix(prefix).unwrap_or(id);
    !wanted.is_empty() && (id.starts_with(wanted) || bare.starts_with(wanted))
}

/// Whether this is as long as a whole id of the mesh's own making.
fn is_whole(wanted: &str, prefix: &str) -> bool {
    wanted.strip_prefix(prefix).is_some_and(|bare| uuid::Uuid::parse_str(bare).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(ids: &[(&'static str, &'static str)], wanted: &str) -> Result<&'static str, Error> {
        named("host", "host_", ids.to_vec(), wanted, |(id, name)| (*id, *name)).map(|(id, _)| id)
    }

    #[test]
    fn an_id_is_found_by_its_beginning_with_or_without_prefix() {
        let hosts = [("host_ab1", "x"), ("host_cd2", "y")];
        assert_eq!(find(&hosts, "host_a").expect("one"), "host_ab1");
        assert_eq!(find(&hosts, "cd").expect("one"), "host_cd2");
        assert_eq!(find(&hosts, "y").expect("one"), "host_cd2");
        assert!(matches!(find(&hosts, "zz"), Err(Error::NoSuch { .. })));
        assert!(matches!(find(&hosts, ""), Err(Error::NoSuch { .. })));
    }

    #[test]
    fn a_whole_id_is_never_ambiguous_and_a_beginning_of_two_is() {
        let hosts = [("host_a", "x"), ("host_ab", "y")];
        assert_eq!(find(&hosts, "host_a").expect("one"), "host_a");
        let error = find(&hosts, "host_").expect_err("two");
        assert_eq!(
            error.to_string(),
            "host_ could be any of these hosts: host_a, host_ab: give more of the id"
        );
        assert_eq!(error.exit().code(), 2);
    }

    #[test]
    fn only_an_id_of_our_own_making_is_known_to_be_whole() {
        assert!(is_whole("job_0190a000-0000-7000-8000-000000000000", "job_"));
        assert!(!is_whole("job_0190a000", "job_"));
        assert!(!is_whole("0190a000-0000-7000-8000-000000000000", "job_"), "it lacks the prefix");
    }
}
