//! Telling a follower what is committed.
//!
//! openraft tells each follower of each commit in a message of its own, and sends it no entries before that is
//! answered. Under load the next entries are there a moment later and say the same, so such a message is kept
//! for that moment: entries, or a sign of life, take its place; else it is sent beside the stream of entries, which
//! nothing depends on, as an older or a repeated one changes nothing.
//!
//! openraft takes what is kept for answered. So nothing is kept but from a follower that has really answered a
//! moment ago, and with each message that is sent a new answer is needed: one that has gone silent is noticed
//! as soon as before.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::types::{LogId, RaftId, TypeConfig};
use crate::peer::{Call, Peers};

/// How long entries are waited for that say the same.
const KEEP_FOR: Duration = Duration::from_millis(1);
/// How recent the last answer of a follower must be: less than the time between two signs of life.
const ANSWERED_WITHIN: Duration = Duration::from_millis(50);
/// How long the follower may take to answer. Nobody waits for it.
const ANSWER_WITHIN: Duration = Duration::from_millis(200);

type Request = AppendEntriesRequest<TypeConfig>;

/// What a follower was told, or is to be told, of what is committed. Belongs to one stream of entries.
#[derive(Debug)]
pub(super) struct Commits {
    tracker: TaskTracker,
    /// When the follower last took entries.
    answered: Option<Instant>,
    /// What it was told, or will be.
    told: Option<LogId>,
    /// There once something was kept. The task ends with the stream.
    sender: Option<(Arc<Kept>, DropGuard)>,
}

/// A message that waits for entries to take its place.
#[derive(Debug, Default)]
struct Kept {
    request: Mutex<Option<Request>>,
    there: Notify,
}

impl Kept {
    fn set(&self, request: Option<Request>) {
        *self.request.lock().unwrap_or_else(PoisonError::into_inner) = request;
    }

    fn take(&self) -> Option<Request> {
        self.request.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Commits {
    pub(super) fn new(tracker: TaskTracker) -> Self {
        Self { tracker, answered: None, told: None, sender: None }
    }

    /// Whether a message may be kept: it says nothing but what is committed, and who it is for is there.
    pub(super) fn may_keep(&self, request: &Request) -> bool {
        request.entries.is_empty()
            && request.leader_commit > self.told
            && self.answered.is_some_and(|at| at.elapsed() < ANSWERED_WITHIN)
    }

    /// Keeps a message that is sent in a moment, unless another takes its place.
    pub(super) fn keep(&mut self, request: Request, peers: &Arc<Peers>, url: &str, target: RaftId) {
        self.told = request.leader_commit;
        let (kept, _) = self.sender.get_or_insert_with(|| {
            let (kept, closed) = (Arc::<Kept>::default(), CancellationToken::new());
            let task = send(Arc::clone(&kept), closed.clone(), Arc::clone(peers), url.to_owned(), target);
            self.tracker.spawn(task);
            (kept, closed.drop_guard())
        });
        kept.set(Some(request));
        kept.there.notify_one();
    }

    /// A message is sent, which may say all that was kept.
    pub(super) fn sends(&mut self, request: &Request) {
        if request.leader_commit < self.told {
            return;
        }
        self.told = request.leader_commit;
        if let Some((kept, _)) = &self.sender {
            kept.set(None);
        }
    }

    /// The follower has taken what was sent, or has not.
    pub(super) fn answered(&mut self, has_entries: bool, answer: Option<&AppendEntriesResponse<RaftId>>) {
        let takes =
            matches!(answer, Some(AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_)));
        // Of what did not arrive nothing may be taken for told.
        if !takes {
            (self.told, self.answered) = (None, None);
        } else if has_entries || self.answered.is_some() {
            self.answered = Some(Instant::now());
        }
    }
}

async fn send(kept: Arc<Kept>, closed: CancellationToken, peers: Arc<Peers>, url: String, target: RaftId) {
    loop {
        tokio::select! {
            () = closed.cancelled() => return,
            () = kept.there.notified() => {}
        }
        tokio::time::sleep(KEEP_FOR).await;
        let Some(request) = kept.take() else { continue };
        // If it is lost, the next sign of life says the same.
        let _: Result<Result<AppendEntriesResponse<RaftId>, openraft::error::RaftError<RaftId>>, _> =
            peers.call(&url, target, &Call::Append(request), ANSWER_WITHIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::Vote;
    use openraft::testing::log_id;

    fn request(committed: u64, entries: usize) -> Request {
        let entry = |index| openraft::testing::blank_ent(1, 1, committed + 1 + index as u64);
        AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(log_id(1, 1, committed)),
            entries: (0..entries).map(entry).collect(),
            leader_commit: Some(log_id(1, 1, committed)),
        }
    }

    #[tokio::test]
    async fn only_news_is_kept_and_only_from_who_has_just_answered() {
        let mut commits = Commits::new(TaskTracker::new());
        assert!(!commits.may_keep(&request(1, 0)), "it was never heard of");
        commits.sends(&request(1, 1));
        commits.answered(true, Some(&AppendEntriesResponse::Success));
        assert!(commits.may_keep(&request(2, 0)));
        assert!(!commits.may_keep(&request(2, 1)), "entries are sent");
        assert!(!commits.may_keep(&request(1, 0)), "a sign of life is sent");
        commits.answered(true, None);
        assert!(!commits.may_keep(&request(2, 0)), "it has gone silent");
        commits.answered(true, Some(&AppendEntriesResponse::Success));
        commits.answered(true, Some(&AppendEntriesResponse::Conflict));
        assert!(!commits.may_keep(&request(2, 0)), "it has another log");
    }

    #[tokio::test]
    async fn what_is_kept_makes_way_for_entries_that_say_as_much() {
        let (_, cluster) = tokio::sync::watch::channel(None);
        let wire = Arc::new(crate::peer::HttpWire::new([]).expect("a wire"));
        let peers = Arc::new(Peers::new("token", wire, 1, 1, cluster));
        let mut commits = Commits::new(TaskTracker::new());
        let kept = |commits: &Commits| {
            let (kept, _) = commits.sender.as_ref().expect("something was kept");
            kept.request.lock().expect("no panic").as_ref().map(|request| request.leader_commit)
        };
        // Nothing is sent in this test: it is over before its one thread comes to that.
        commits.keep(request(2, 0), &peers, "http://nowhere.invalid", 2);
        assert_eq!(kept(&commits), Some(Some(log_id(1, 1, 2))));
        commits.sends(&AppendEntriesRequest { leader_commit: None, ..request(2, 1) });
        assert_eq!(kept(&commits), Some(Some(log_id(1, 1, 2))), "it says less");
        commits.sends(&request(2, 1));
        assert_eq!(kept(&commits), None);
    }
}
