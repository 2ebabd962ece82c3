//! What the database knows of idempotency keys, asked for while their commands are on their way into the log: so nobody
//! waits for it when they are applied.
//!
//! An answer counts only while nothing was written to the database since it was asked. What was recorded meanwhile is
//! in memory, and looked for there first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use skyclaw_core::StoredReply;
use skyclaw_store::{ReadError, ReplyId, Store};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// For each id that was asked about its reply, or that there was none.
type Known = HashMap<ReplyId, Option<Arc<StoredReply>>>;

/// The question that is out, if there is one. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Ahead {
    asked: Arc<Mutex<Option<Asked>>>,
    tracker: TaskTracker,
}

#[derive(Debug)]
struct Asked {
    /// How far the database was written before it was asked.
    as_of: u64,
    answer: JoinHandle<Option<Known>>,
}

impl Ahead {
    /// Questions are asked by tasks of the tracker.
    pub(super) fn new(tracker: &TaskTracker) -> Self {
        Self { asked: Arc::default(), tracker: tracker.clone() }
    }

    /// Asks about the replies under these ids, in the place of what was asked before.
    pub(super) fn ask(&self, store: &Store, as_of: u64, ids: Vec<ReplyId>) {
        let store = store.clone();
        let answer = self.tracker.spawn(async move {
            let found = store.replies(&ids).await.ok()?;
            // One may be asked for twice.
            Some(ids.into_iter().map(|id| (id, found.get(&id).cloned())).collect())
        });
        *self.lock() = Some(Asked { as_of, answer });
    }

    /// The replies there are under these ids: of those that were asked for as they were found, if that still counts, and
    /// for the rest the database is asked now. `written` is how far that is written by now.
    pub(super) async fn replies(
        &self,
        store: &Store,
        written: u64,
        mut ids: Vec<ReplyId>,
    ) -> Result<HashMap<ReplyId, Arc<StoredReply>>, ReadError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let known = self.answer(written).await;
        ids.retain(|id| !known.contains_key(id));
        let mut replies = if ids.is_empty() { HashMap::new() } else { store.replies(&ids).await? };
        replies.extend(known.into_iter().filter_map(|(id, reply)| Some((id, reply?))));
        Ok(replies)
    }

    /// What was found, if that still counts.
    async fn answer(&self, written: u64) -> Known {
        let asked = self.lock().take();
        match asked.filter(|asked| asked.as_of == written) {
            Some(asked) => asked.answer.await.ok().flatten().unwrap_or_default(),
            None => Known::default(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use skyclaw_core::{Change, Counters, IdempotencyKey, Reply};
    use skyclaw_proto::Timestamp;
    use skyclaw_store::{Batch, Position};

    use super::*;

    fn key(name: &str) -> IdempotencyKey {
        IdempotencyKey {
            caller: "caller".into(),
            route: "route".into(),
            key: name.into(),
            fingerprint: [0; 32],
            expires_at: Timestamp::from_millis(1_000),
        }
    }

    #[tokio::test]
    async fn what_the_database_knew_counts_once_and_until_it_is_written_to() {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, tracker) = (dir.path().join("state.db"), TaskTracker::new());
        let opened = Store::open(&file, skyclaw_store::Options::default(), &tracker).await;
        let store = opened.expect("a store").store;
        let mut batch = Batch::default();
        let stored =
            ["old", "older"].map(|name| Arc::new(StoredReply { key: key(name), reply: Reply::Done }));
        batch.absorb(stored.iter().cloned().map(Change::Reply));
        batch.reach(Position { index: 1, bytes: vec![] }, Counters::default());
        store.commit(Arc::new(batch)).await.expect("a commit");

        let ahead = Ahead::new(&tracker);
        assert_eq!(ahead.answer(1).await, Known::new(), "nothing was asked");
        let [old, new, other] = ["old", "new", "older"].map(|name| ReplyId::of(&key(name)));
        let ask = || ahead.ask(&store, 1, vec![old, new, old]);
        ask();
        let known = ahead.answer(1).await;
        assert_eq!(known, HashMap::from([(old, Some(stored[0].clone())), (new, None)]));
        assert_eq!(ahead.answer(1).await, Known::new(), "it was taken");
        ask();
        assert_eq!(ahead.answer(2).await, Known::new(), "the database was written to");
        for written in [1, 2] {
            ask();
            let found = ahead.replies(&store, written, vec![other, new, old]).await.expect("replies");
            let want = HashMap::from([(old, stored[0].clone()), (other, stored[1].clone())]);
            assert_eq!(found, want, "asked for or not");
        }
    }
}
