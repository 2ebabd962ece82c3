//! What is forgotten: found in its order, gone with all that belongs to it, and its room given back.

use std::path::Path;
use std::sync::Arc;

use skyclaw_core::model::{EndStatus, Ended, Job, Phase};
use skyclaw_core::{Change, EndedJob, Life};
use skyclaw_proto::{JobId, Payload, Plan, Timestamp, payload::ShellPayload};
use skyclaw_store::{EndPlace, JobFilter, ReplyId, Store};
use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;

use crate::damage::sql;
use crate::support::{at, batch, dump, id, job, key, open, prune, reply};

/// A job that ended at this time and asks to be kept for some, if it does.
fn ended(seq: u64, ms: i64, retain_ms: Option<u64>) -> Job {
    let plan = Plan { retain_ms, ..Plan::default() };
    let life = retain_ms.map(|_| Arc::new(Life { plan: Arc::new(plan), ..Life::default() }));
    let over = Ended { status: EndStatus::Completed, host: None, run: None, error: None };
    Job { phase: Phase::Ended(over), updated_at: at(ms), life, ..job(seq, 1) }
}

fn written(jobs: impl IntoIterator<Item = Job>) -> impl Iterator<Item = Change> {
    jobs.into_iter().map(|job| Change::Job(Arc::new(job)))
}

async fn one_number(path: &Path, select: &'static str) -> i64 {
    let url = format!("sqlite://{}?mode=ro", path.display());
    let mut conn = SqliteConnection::connect(&url).await.expect("a connection");
    sqlx::query_scalar(select).fetch_one(&mut conn).await.expect("a number")
}

/// All pages, each of so many at most.
async fn pages(store: &Store, until: Timestamp, most: u32) -> Vec<Vec<JobId>> {
    let (mut after, mut all) = (EndPlace::START, Vec::new());
    loop {
        let page = store.ended_jobs(until, after, most, u64::MAX).await.expect("a page");
        let Some(last) = page.last else { return all };
        after = last;
        all.push(page.jobs.into_iter().map(|job| job.id).collect());
    }
}

fn ids(seqs: &[u64]) -> Vec<JobId> {
    seqs.iter().map(|seq| job(*seq, 1).id).collect()
}

#[tokio::test]
async fn those_that_ended_first_come_first_page_by_page_and_those_with_their_own_time_by_that() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = open(&dir.path().join("state.db")).await;
    let store = running.store();
    assert_eq!(store.count_ended().await.expect("a count"), Default::default());
    // Several that ended at once, one that is queued, and some with a time of their own.
    let usual = [(1, 50), (2, 10), (3, 30), (4, 30), (5, 30), (6, 90)];
    let jobs = usual.map(|(seq, ms)| ended(seq, ms, None)).into_iter().chain([
        job(8, 4),
        ended(9, 20, Some(1000)),
        ended(10, 60, Some(5)),
        ended(11, 5, Some(0)),
    ]);
    store.commit(batch(1, written(jobs))).await.expect("committed");
    for most in [1, 2, 4, 100] {
        let found = pages(store, at(50), most).await;
        assert!(found.iter().all(|page| page.len() <= most as usize));
        assert_eq!(found.concat(), ids(&[2, 3, 4, 5, 1]), "{most} at once");
    }
    let page = store.ended_jobs(at(50), EndPlace::START, 100, 1).await.expect("a page");
    assert_eq!((page.jobs.len(), page.is_full), (1, true), "one is more than so many bytes");
    assert_eq!(page.jobs[0].ended_at, at(10));
    let outlived = store.outlived_jobs(at(100), EndPlace::START, 100, u64::MAX).await.expect("a page");
    let found: Vec<_> = outlived.jobs.iter().map(|job| (job.id.clone(), job.ended_at)).collect();
    assert_eq!(found, [(id("job_0011"), at(5)), (id("job_0010"), at(60))]);
    assert!(!outlived.is_full);
    let count = store.count_ended().await.expect("a count");
    assert_eq!((count.usual, count.own, count.oldest), (6, 3, Some(at(10))));
    let asked = [id("job_0002"), id("job_0008"), id("job_0009"), id("nobody")];
    let mut known = store.ended(&asked).await.expect("an answer");
    known.sort_by_key(|(_, ended)| ended.seq);
    let want = [
        (id("job_0002"), EndedJob { seq: 2, at: at(10) }),
        (id("job_0009"), EndedJob { seq: 9, at: at(20) }),
    ];
    assert_eq!(known, want);
    store.verify().await.expect("sound");
    running.close().await;
}

#[tokio::test]
async fn a_job_that_is_gone_takes_its_labels_along_and_its_id_may_come_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let running = open(&path).await;
    let store = running.store();
    let mut plain = ended(3, 3, None);
    plain.labels.clear();
    let jobs = [ended(1, 1, None), ended(2, 2, None), plain];
    store.commit(batch(1, written(jobs))).await.expect("committed");
    assert_eq!(one_number(&path, "SELECT count(*) FROM labels").await, 2);
    let gone = batch(2, [prune(&[1, 3])]);
    assert!(gone.has_pruned(&id("job_0001")) && gone.job(&id("job_0001")).is_none());
    store.commit(Arc::clone(&gone)).await.expect("committed");
    store.commit(gone).await.expect("committed again");
    assert_eq!(dump(store).await.jobs.iter().map(|job| job.seq).collect::<Vec<_>>(), [2]);
    assert_eq!(one_number(&path, "SELECT count(*) FROM labels").await, 1);
    let labelled = JobFilter { label: Some(("team".into(), "t=1".into())), ..JobFilter::default() };
    assert!(store.page(&labelled, None, 9).await.expect("a page").is_empty());
    // In one batch: it is pruned, comes back at another place, and is pruned and comes back again.
    let back = |seq| Change::Job(Arc::new(Job { id: id("job_0002"), ..ended(seq, 9, None) }));
    let again = |seq| match prune(&[seq]) {
        Change::PruneJobs(pruned) => {
            let mut pruned = (*pruned).clone();
            pruned.jobs[0].0 = id("job_0002");
            Change::PruneJobs(Arc::new(pruned))
        }
        other => other,
    };
    let many = batch(3, [prune(&[2]), back(20), again(20), back(21)]);
    assert!(!many.has_pruned(&id("job_0002")), "it is there");
    store.commit(many).await.expect("committed");
    assert_eq!(dump(store).await.jobs.iter().map(|job| job.seq).collect::<Vec<_>>(), [21]);
    store.verify().await.expect("sound");
    running.close().await;
}

#[tokio::test]
async fn a_job_that_is_queued_again_is_not_among_those_that_have_ended() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = open(&dir.path().join("state.db")).await;
    let store = running.store();
    let jobs = [ended(1, 1, None), ended(2, 2, Some(1))];
    store.commit(batch(1, written(jobs))).await.expect("committed");
    let queued = |seq| Job { phase: Phase::Queued, ..ended(seq, 5, Some(1)) };
    store.commit(batch(2, written([queued(1), queued(2)]))).await.expect("committed");
    assert_eq!(store.count_ended().await.expect("a count"), Default::default());
    store.verify().await.expect("sound");
    running.close().await;
}

#[tokio::test]
async fn replies_expire_in_steps() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = open(&dir.path().join("state.db")).await;
    let store = running.store();
    let kept = [(1, 10), (2, 20), (3, 20), (4, 30), (5, 40)];
    let replies = kept.map(|(n, ms)| Change::Reply(Arc::new(reply(n, ms))));
    store.commit(batch(1, replies)).await.expect("committed");
    let mut after = Timestamp::from_millis(i64::MIN);
    let mut steps = Vec::new();
    while let Some(expired) = store.expired_replies(after, at(40), 2).await.expect("an answer") {
        steps.push((expired.before.as_millis(), expired.count));
        after = expired.before;
        let index = steps.len() as u64 + 1;
        store.commit(batch(index, [Change::PruneReplies(expired.before)])).await.expect("committed");
    }
    assert_eq!(steps, [(21, 2), (31, 1)], "those that expire at once go together");
    assert_eq!(
        store.replies(&[key(4, 30), key(5, 40)].map(|key| ReplyId::of(&key))).await.expect("an answer").len(),
        1
    );
    running.close().await;
}

#[tokio::test]
async fn a_database_from_before_learns_when_its_jobs_ended() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let running = open(&path).await;
    let times = [1_767_225_600_001, 1_767_225_600_999, 1_767_225_601_000, 4_102_444_799_998];
    let jobs = times.iter().zip(1..).map(|(ms, seq)| ended(seq, *ms, None)).chain([job(8, 4)]);
    running.store().commit(batch(1, written(jobs))).await.expect("committed");
    running.close().await;
    let before = "DROP INDEX jobs_by_end; DROP INDEX jobs_by_keep; ALTER TABLE jobs DROP COLUMN ended_at; \
                  ALTER TABLE jobs DROP COLUMN keep_until; DELETE FROM _sqlx_migrations WHERE version >= 7; \
                  PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = NONE; VACUUM";
    sql(&path, before).await;
    assert_eq!(one_number(&path, "PRAGMA auto_vacuum").await, 0);
    let running = open(&path).await;
    running.store().verify().await.expect("every column agrees with its record");
    let count = running.store().count_ended().await.expect("a count");
    assert_eq!((count.usual, count.oldest), (4, Some(at(times[0]))));
    assert_eq!(one_number(&path, "PRAGMA auto_vacuum").await, 2, "it can give pages back from now on");
    running.close().await;
}

#[tokio::test]
async fn under_endless_jobs_of_which_the_oldest_are_forgotten_the_file_stays_as_large_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let running = open(&path).await;
    let mut sizes = Vec::new();
    for round in 0..8_u64 {
        for step in 0..10 {
            let first = (round * 10 + step) * 100 + 1;
            let new = written((first..first + 100).map(|seq| ended(seq, 1, None)));
            let old: Vec<u64> = (first..first + 100).filter_map(|seq| seq.checked_sub(1000)).collect();
            let changes = new.chain([prune(&old)].into_iter().filter(|_| !old.is_empty()));
            running.store().commit(batch(first, changes)).await.expect("committed");
        }
        running.store().checkpoint().await.expect("durable");
        sizes.push(std::fs::metadata(&path).expect("the file").len());
    }
    assert_eq!(running.store().count_ended().await.expect("a count").usual, 1000);
    // Numbers get longer by a digit now and then.
    assert!(sizes[7] <= sizes[2] + sizes[2] / 20, "{sizes:?}");
    running.store().verify().await.expect("sound");
    running.close().await;
}

#[tokio::test]
async fn when_much_is_forgotten_at_once_the_file_becomes_smaller_while_it_is_written_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("state.db");
    let running = open(&path).await;
    let large = |seq| {
        let payload = ShellPayload { command: "x".repeat(60_000), ..Default::default() };
        Job { payload: Arc::new(Payload::Shell(payload)), ..ended(seq, 1, None) }
    };
    let store = running.store();
    store.commit(batch(1, written((1..=800).map(large)))).await.expect("committed");
    store.checkpoint().await.expect("durable");
    let full = std::fs::metadata(&path).expect("the file").len();
    assert!(full > 48_000_000, "{full}");
    store.commit(batch(2, [prune(&(1..=799).collect::<Vec<_>>())])).await.expect("committed");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut index = 3;
    loop {
        store.commit(batch(index, written([ended(10_000 + index, 1, None)]))).await.expect("committed");
        store.checkpoint().await.expect("durable");
        let now = std::fs::metadata(&path).expect("the file").len();
        // What may stay free is 16 MiB.
        if now < 20_000_000 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{now} of {full} bytes are left");
        index += 1;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    store.verify().await.expect("sound");
    assert_eq!(store.page(&JobFilter::default(), None, 1000).await.expect("a page").len() as u64, index - 1);
    running.close().await;
}
