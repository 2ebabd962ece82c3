//! Coalescing: how changes are cut into batches must not show.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use skyclaw_core::{Change, StoredReply};
use skyclaw_store::{Batch, ReplyId, Store};

use crate::support::*;

#[derive(Debug, Clone)]
enum Step {
    Job(u64, u64),
    Host(u64, u64),
    RemoveHost(u64),
    Service(u64, u64),
    Reply(u64, i64),
    Prune(i64),
    PruneJob(u64),
    Commit,
    /// As after a failure of which the caller does not know what became.
    CommitTwice,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..12u64, 1..50u64).prop_map(|(n, version)| Step::Job(n, version)),
        1 => (0..3u64, 1..50u64).prop_map(|(n, version)| Step::Host(n, version)),
        1 => (0..3u64).prop_map(Step::RemoveHost),
        1 => (100..103u64, 1..50u64).prop_map(|(n, version)| Step::Service(n, version)),
        4 => (0..5u64, 0..20i64).prop_map(|(n, expires)| Step::Reply(n, expires)),
        2 => (0..20i64).prop_map(Step::Prune),
        2 => (1..12u64).prop_map(Step::PruneJob),
        3 => Just(Step::Commit),
        1 => Just(Step::CommitTwice),
    ];
    prop::collection::vec(step, 1..60)
}

/// The same without a file.
#[derive(Default)]
struct Model {
    dump: (BTreeMap<u64, Change>, BTreeMap<u64, Change>, BTreeMap<u64, Change>),
    replies: BTreeMap<u64, Arc<StoredReply>>,
}

impl Model {
    fn step(&mut self, step: &Step) -> Option<Change> {
        let change = match *step {
            Step::Job(n, version) => Change::Job(Arc::new(job(n, version))),
            Step::Host(n, version) => Change::Host(Arc::new(host(n, version))),
            Step::RemoveHost(n) => Change::RemoveHost(host(n, 1).id),
            Step::Service(n, version) => Change::Service(Arc::new(service(n, version))),
            Step::Reply(n, expires) => Change::Reply(Arc::new(reply(n, expires))),
            Step::Prune(before) => Change::PruneReplies(at(before)),
            Step::PruneJob(n) => prune(&[n]),
            Step::Commit | Step::CommitTwice => return None,
        };
        match (step, &change) {
            (Step::Job(n, _), _) => drop(self.dump.0.insert(*n, change.clone())),
            (Step::PruneJob(n), _) => drop(self.dump.0.remove(n)),
            (Step::Host(n, _), _) => drop(self.dump.1.insert(*n, change.clone())),
            (Step::RemoveHost(n), _) => drop(self.dump.1.remove(n)),
            (Step::Service(n, _), _) => drop(self.dump.2.insert(*n, change.clone())),
            (Step::Reply(n, _), Change::Reply(reply)) => drop(self.replies.insert(*n, Arc::clone(reply))),
            (Step::Prune(before), _) => self.replies.retain(|_, reply| reply.key.expires_at >= at(*before)),
            _ => {}
        }
        Some(change)
    }

    fn expected(&self, position: Option<u64>) -> Dump {
        let mut dump = Dump { position, ..Dump::default() };
        for change in self.dump.0.values().chain(self.dump.1.values()).chain(self.dump.2.values()) {
            match change {
                Change::Job(job) => dump.jobs.push(Arc::clone(job)),
                Change::Host(host) => dump.hosts.push(Arc::clone(host)),
                Change::Service(service) => dump.services.push(Arc::clone(service)),
                Change::Reply(_)
                | Change::PruneReplies(_)
                | Change::Stage(_)
                | Change::DropStaged
                | Change::Restore(_)
                | Change::RemoveHost(_)
                | Change::Freeze(_)
                | Change::ForgetFreeze(_)
                | Change::Schedule(_)
                | Change::RemoveSchedule(_)
                | Change::PruneJobs(_) => {}
            }
        }
        dump
    }
}

/// Looks a reply up as a reader does: first in what waits, then in the store.
async fn look_up(batch: &Batch, store: &Store, n: u64) -> Option<Arc<StoredReply>> {
    let id = ReplyId::of(&key(n, 0));
    if let Some(reply) = batch.reply(&id) {
        return Some(Arc::clone(reply));
    }
    let stored = store.replies(&[id]).await.expect("a read").remove(&id)?;
    (!batch.forgets(&id, &stored)).then_some(stored)
}

async fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir().expect("a directory");
    let running = open(&dir.path().join("state.db")).await;
    let store = running.store();
    let (mut model, mut batch, mut index) = (Model::default(), Batch::default(), 0);
    for step in steps.iter().chain([&Step::Commit]) {
        batch.absorb(model.step(step));
        if matches!(step, Step::Commit | Step::CommitTwice) {
            index += 1;
            batch.reach(position(index), counters(index));
            let full = Arc::new(std::mem::take(&mut batch));
            if matches!(step, Step::CommitTwice) {
                store.commit(Arc::clone(&full)).await.expect("a commit");
            }
            store.commit(full).await.expect("a commit");
            prop_assert_eq!(dump(store).await, model.expected(Some(index)));
        }
        for n in 0..5 {
            let found = look_up(&batch, store, n).await;
            prop_assert_eq!(found.as_ref(), model.replies.get(&n), "reply {}", n);
        }
    }
    running.close().await;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn however_changes_are_batched_the_store_holds_what_they_come_to(steps in steps()) {
        tokio::runtime::Runtime::new().expect("a runtime").block_on(run(steps))?;
    }

    #[test]
    fn the_size_of_a_batch_is_that_of_what_is_in_it(steps in steps()) {
        let (mut model, mut batch) = (Model::default(), Batch::default());
        for step in &steps {
            batch.absorb(model.step(step));
        }
        let mut fresh = Batch::default();
        let records = model.dump.0.into_values().chain(model.dump.1.into_values()).chain(model.dump.2.into_values());
        fresh.absorb(records.chain(model.replies.into_values().map(Change::Reply)));
        prop_assert_eq!(batch.approx_bytes(), fresh.approx_bytes());
    }
}
