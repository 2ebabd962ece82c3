//! How far this node's own log is on its disk.
//!
//! A leader sends an entry to the others while its own disk still syncs it, so openraft is told that the entry
//! is written as soon as it is asked for (ADR 15). What follows from that has to wait here until it is true:
//! nothing is applied, answered or called committed that this node could still lose. On a follower nothing waits, as
//! openraft is told of its appends when they are on disk.

use tokio::sync::watch;

/// How far the log is on disk; shared by who writes it and who waits for it.
#[derive(Debug, Clone)]
pub(crate) struct Synced(watch::Sender<Reach>);

#[derive(Debug)]
struct Reach {
    /// Everything before this index is on disk, or in a snapshot that is.
    end: u64,
    /// Why nothing more will be.
    failure: Option<String>,
}

impl Synced {
    /// Of a log in which everything before `end` is on disk.
    pub(super) fn before(end: u64) -> Self {
        Self(watch::channel(Reach { end, failure: None }).0)
    }

    /// Everything up to `index` is on disk.
    pub(super) fn reach(&self, index: u64) {
        self.0.send_if_modified(|reach| {
            let is_more = index >= reach.end;
            reach.end = reach.end.max(index.saturating_add(1));
            is_more
        });
    }

    /// What was there from `index` on is cut off.
    pub(super) fn cut_from(&self, index: u64) {
        self.0.send_modify(|reach| reach.end = reach.end.min(index));
    }

    /// Nothing more will be written.
    pub(super) fn fail(&self, why: String) {
        self.0.send_modify(|reach| {
            reach.failure.get_or_insert(why);
        });
    }

    /// Why nothing more will be written.
    pub(super) fn failure(&self) -> Option<String> {
        self.0.borrow().failure.clone()
    }

    /// Waits until everything up to `index` is on disk.
    ///
    /// # Errors
    /// When it never will be.
    pub(super) async fn wait_for(&self, index: u64) -> Result<(), String> {
        if self.0.borrow().end > index {
            return Ok(());
        }
        let mut reaches = self.0.subscribe();
        let reach = reaches.wait_for(|reach| reach.end > index || reach.failure.is_some()).await;
        match reach {
            Ok(reach) if reach.end > index => Ok(()),
            Ok(reach) => Err(reach.failure.clone().unwrap_or_default()),
            Err(_) => Err("the log has ended".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_is_told_when_it_is_there_or_never_will_be() {
        let synced = Synced::before(4);
        assert_eq!(synced.wait_for(3).await, Ok(()), "it is there");
        let grow = async {
            synced.reach(4);
            synced.reach(6);
        };
        assert_eq!(tokio::join!(biased; synced.wait_for(5), grow).0, Ok(()));
        let fail = async { synced.fail("the disk is gone".to_owned()) };
        assert_eq!(tokio::join!(biased; synced.wait_for(7), fail).0, Err("the disk is gone".to_owned()));
        assert_eq!(synced.wait_for(6).await, Ok(()), "what is there stays there");
    }

    #[tokio::test]
    async fn what_was_cut_off_has_to_be_written_again() {
        let synced = Synced::before(10);
        synced.cut_from(7);
        assert_eq!(synced.wait_for(6).await, Ok(()));
        let told = std::cell::Cell::new(false);
        let wait = async {
            let waited = synced.wait_for(7).await;
            told.set(true);
            waited
        };
        let write = async {
            assert!(!told.get());
            synced.reach(7);
        };
        assert_eq!(tokio::join!(biased; wait, write).0, Ok(()));
    }
}
