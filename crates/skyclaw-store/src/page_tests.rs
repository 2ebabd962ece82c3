//! That every filter walks its index, in order.

use super::*;
use crate::schema::migrator;
use sqlx::{Connection, Row, SqliteConnection};

async fn plan(filter: &JobFilter) -> Vec<String> {
    let mut conn = SqliteConnection::connect("sqlite::memory:").await.expect("a database");
    migrator().run(&mut conn).await.expect("the schema");
    let mut select = filter.select(1000, 10);
    let mut explain = QueryBuilder::<Sqlite>::new("EXPLAIN QUERY PLAN ");
    explain.push(select.sql().as_str());
    drop(select.build());
    let rows = explain.build().fetch_all(&mut conn).await.expect("a plan");
    rows.iter().map(|row| row.get::<String, _>(3)).collect()
}

#[tokio::test]
async fn every_filter_walks_its_index_from_the_newest_entry() {
    let all = JobFilter {
        statuses: vec![JobStatus::Failed, JobStatus::Queued],
        host: Some(HostId::parse("h").expect("id")),
        label: Some(("k".into(), "v".into())),
        submitter: Some("s".into()),
        id_prefix: Some("job_".into()),
    };
    let none = JobFilter::default();
    let cases = [
        (JobFilter { host: None, label: None, submitter: None, ..all.clone() }, "sqlite_autoindex_jobs_1"),
        (JobFilter { host: None, label: None, ..all.clone() }, "jobs_by_submitter"),
        (JobFilter { label: None, ..all.clone() }, "jobs_by_host"),
        (JobFilter { host: all.host.clone(), ..none.clone() }, "jobs_by_host"),
        (JobFilter { submitter: all.submitter.clone(), ..none.clone() }, "jobs_by_submitter"),
        (JobFilter { statuses: all.statuses.clone(), ..none.clone() }, "jobs_by_status"),
        (JobFilter { label: all.label.clone(), ..none.clone() }, "labels USING PRIMARY KEY"),
        (all, "labels USING PRIMARY KEY"),
        (none, "jobs USING INTEGER PRIMARY KEY"),
    ];
    for (filter, index) in cases {
        let plan = plan(&filter).await;
        assert!(plan.iter().any(|step| step.contains(index)), "{filter:?}: {plan:?}");
        assert!(!plan.iter().any(|step| step.starts_with("SCAN jobs")), "{filter:?}: {plan:?}");
        // Only the page itself is put in order at the end, and what was found by the beginning of an id.
        let sorted = plan.iter().filter(|step| step.contains("TEMP B-TREE")).count();
        assert!(sorted <= usize::from(index.starts_with("sqlite_autoindex")), "{filter:?}: {plan:?}");
    }
}
