//! Pages of jobs.

use std::sync::Arc;

use proptest::prelude::*;
use skyclaw_core::{Change, Job};
use skyclaw_proto::JobStatus;
use skyclaw_store::{JobFilter, Store};

use crate::support::*;

const JOBS: u64 = 90;

fn filters() -> impl Strategy<Value = JobFilter> {
    (
        prop::collection::vec(prop::sample::select(JobStatus::ALL), 0..4),
        prop::option::of(0..4u64),
        prop::option::of(0..3u64),
        prop::option::of(prop::sample::select(&["public:web", "nobody"][..])),
        prop::option::of(prop::sample::select(&["job_", "job_00", "job_001", "x"][..])),
    )
        .prop_map(|(statuses, host, team, submitter, prefix)| JobFilter {
            statuses,
            host: host.map(|n| id(format!("h{n}"))),
            label: team.map(|n| ("team".into(), format!("t={n}"))),
            submitter: submitter.map(Into::into),
            id_prefix: prefix.map(Into::into),
        })
}

fn fits(filter: &JobFilter, job: &Job) -> bool {
    (filter.statuses.is_empty() || filter.statuses.contains(&job.status()))
        && filter.host.as_ref().is_none_or(|host| job.host() == Some(host))
        && filter.label.as_ref().is_none_or(|(key, value)| job.labels.get(key) == Some(value))
        && (filter.submitter.is_none() || filter.submitter == job.submitted_by)
        && filter.id_prefix.as_ref().is_none_or(|prefix| job.id.as_str().starts_with(prefix))
}

async fn all_pages(store: &Store, filter: &JobFilter, limit: u32) -> Vec<Arc<Job>> {
    let mut jobs: Vec<Arc<Job>> = Vec::new();
    loop {
        let before = jobs.last().map(|job| job.seq);
        let page = store.page(filter, before, limit).await.expect("a page");
        jobs.extend(page.iter().cloned());
        if page.len() < limit as usize {
            return jobs;
        }
    }
}

#[test]
fn the_pages_of_any_filter_are_the_jobs_that_fit_newest_first() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let running = runtime.block_on(open(&dir.path().join("state.db")));
    let store = running.store();
    let jobs: Vec<_> = (1..=JOBS).map(|n| Arc::new(job(n, n * 7 / 3))).collect();
    let written = batch(1, jobs.iter().cloned().map(Change::Job));
    runtime.block_on(store.commit(written)).expect("a commit");
    let mut runner = proptest::test_runner::TestRunner::default();
    let ran = runner.run(&(filters(), 1..40u32), |(filter, limit)| {
        let found = runtime.block_on(all_pages(store, &filter, limit));
        let expected: Vec<_> = jobs.iter().rev().filter(|job| fits(&filter, job)).cloned().collect();
        prop_assert_eq!(found, expected);
        Ok(())
    });
    ran.expect("all filters");
    runtime.block_on(running.close());
}

#[tokio::test]
async fn a_label_that_was_taken_away_is_not_found_and_does_not_end_a_page() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = open(&dir.path().join("state.db")).await;
    let jobs: Vec<_> = (1..=9).map(|n| job(2 * n, 1)).collect();
    let changes = jobs.iter().cloned().map(|job| Change::Job(Arc::new(job)));
    running.store().commit(batch(1, changes)).await.expect("a commit");
    let stripped = jobs[4..].iter().cloned().map(|mut job| {
        job.labels.clear();
        Change::Job(Arc::new(job))
    });
    running.store().commit(batch(2, stripped)).await.expect("a commit");
    let filter = JobFilter { label: Some(("team".into(), "t=0".into())), ..Default::default() };
    let found = running.store().page(&filter, None, 2).await.expect("a page");
    assert_eq!(found.iter().map(|job| job.seq).collect::<Vec<_>>(), [8, 6]);
    running.close().await;
}
