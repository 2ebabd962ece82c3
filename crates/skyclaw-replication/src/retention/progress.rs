//! How far it has come with what is to be forgotten, and how large its next step is.

use std::time::{Duration, Instant};

use skyclaw_proto::Timestamp;
use skyclaw_store::{EndPlace, EndedCount};

use super::RETRY;

/// Fewest and most jobs that one command names: more, the more there are.
pub(super) const JOBS_AT_ONCE: (u32, u32) = (128, 1024);
/// About how many replies one command forgets at least and at most: more, the more there are. A job has several.
const REPLIES_AT_ONCE: (u32, u32) = (512, 8192);
/// How often it is looked for replies to forget when they are few.
const REPLIES_EVERY: Duration = Duration::from_secs(10);
/// Shortest rest between two steps.
const SHORTEST_REST: Duration = Duration::from_millis(20);
/// How long to rest after a step, in times that it took.
const REST: u32 = 3;
/// After so many steps in a row that left more to do, each as large as may be, the rest is shortened by once that time.
const PATIENCE: u32 = 8;

pub(super) struct Progress {
    /// Since when the places are gone along.
    pub(super) began: Instant,
    /// The last job that was looked at, of those that ask for no time of their own.
    pub(super) ended: EndPlace,
    /// The same of those that do.
    pub(super) outlived: EndPlace,
    /// How many of each there are too many.
    pub(super) surplus: EndedCount,
    /// How many jobs the next command names.
    pub(super) jobs_at_once: AtOnce,
    /// How many of the last steps were as large as may be, and left more to do.
    behind: u32,
    /// Replies that expire before this are dealt with.
    pub(super) replies: Timestamp,
    /// When to look for more of them.
    pub(super) replies_at: Instant,
    /// About how many the next command forgets.
    pub(super) replies_at_once: AtOnce,
}

impl Progress {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            ended: EndPlace::START,
            outlived: EndPlace::START,
            surplus: EndedCount::default(),
            jobs_at_once: AtOnce::between(JOBS_AT_ONCE),
            behind: 0,
            replies: Timestamp::from_millis(i64::MIN),
            replies_at: now,
            replies_at_once: AtOnce::between(REPLIES_AT_ONCE),
        }
    }

    /// Begins at the first places once more, at the pace it has.
    pub(super) fn begin_anew(&mut self) {
        let Self { surplus, jobs_at_once, behind, replies_at_once, .. } = *self;
        *self = Self { surplus, jobs_at_once, behind, replies_at_once, ..Self::new() };
    }

    /// Jobs were found, and there may be more than could be asked for at once.
    pub(super) fn found_jobs(&mut self, more: bool) {
        self.behind = if more && self.jobs_at_once.is_most() { self.behind.saturating_add(1) } else { 0 };
        self.jobs_at_once.next(more);
    }

    /// All replies that expire before this were found, and there may be more than could be asked for at once.
    pub(super) fn found_replies(&mut self, before: Timestamp, more: bool) {
        self.replies = before;
        self.replies_at_once.next(more);
        if !more {
            self.rest_from_replies();
        }
    }

    /// There are no more replies to forget for now.
    pub(super) fn rest_from_replies(&mut self) {
        self.replies_at = Instant::now() + REPLIES_EVERY;
    }

    /// How long to rest after a step that took so long.
    pub(super) fn rest(&self, took: Duration) -> Duration {
        (took * REST.saturating_sub(self.behind / PATIENCE)).clamp(SHORTEST_REST, RETRY)
    }
}

/// How many of something one command deals with: twice as many each time there were more, and few again when there
/// were not.
#[derive(Debug, Clone, Copy)]
pub(super) struct AtOnce {
    count: u32,
    least: u32,
    most: u32,
}

impl AtOnce {
    fn between((least, most): (u32, u32)) -> Self {
        Self { count: least, least, most }
    }

    pub(super) fn count(self) -> u32 {
        self.count
    }

    fn is_most(self) -> bool {
        self.count == self.most
    }

    fn next(&mut self, more: bool) {
        self.count = if more { (self.count * 2).min(self.most) } else { self.least };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_keep_up_rests_less_and_less_until_it_does() {
        let took = Duration::from_millis(100);
        let mut progress = Progress::new();
        let mut rests = Vec::new();
        for _ in 0..40 {
            progress.found_jobs(true);
            rests.push(progress.rest(took).as_millis());
        }
        assert!(rests.is_sorted_by(|a, b| a >= b), "{rests:?}");
        rests.dedup();
        assert_eq!(rests, [300, 200, 100, 20]);
        progress.found_jobs(false);
        assert_eq!(progress.rest(took).as_millis(), 300);
    }

    #[test]
    fn a_command_names_twice_as_many_as_the_last_while_there_are_more_and_few_again_after() {
        let mut at_once = AtOnce::between((3, 10));
        let mut counts = vec![at_once.count()];
        for more in [true, true, true, false] {
            at_once.next(more);
            counts.push(at_once.count());
        }
        assert_eq!(counts, [3, 6, 10, 10, 3]);
    }

    #[test]
    fn what_begins_anew_keeps_its_pace() {
        let mut progress = Progress::new();
        for _ in 0..40 {
            progress.found_jobs(true);
        }
        progress.found_replies(Timestamp::EPOCH, true);
        progress.begin_anew();
        assert_eq!(progress.replies, Progress::new().replies);
        assert_eq!(progress.jobs_at_once.count(), JOBS_AT_ONCE.1);
        assert_eq!(progress.replies_at_once.count(), 2 * REPLIES_AT_ONCE.0);
        assert_eq!(progress.rest(Duration::from_millis(100)), SHORTEST_REST);
    }
}
