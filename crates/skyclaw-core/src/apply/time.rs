//! What becomes of queued jobs as time passes: those that were for later can be claimed, and those that
//! waited too long expire.
//!
//! Time passes by command alone: what a claim finds never depends on a clock, and is the same on every node.

use std::sync::Arc;

use super::Draft;
use crate::model::{EndStatus, Ended, Job};
use crate::outcome::Reply;
use crate::state::State;

use skyclaw_proto::Timestamp;

impl State {
    /// When the next queued job is due: can be claimed, or expires.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }
}

impl Draft<'_> {
    /// Does what is due by now, for so many jobs at most: the earliest first.
    pub(super) fn pass_time(&mut self, most: u32) -> Reply {
        for _ in 0..most {
            let Some(first) = self.state.due.first_entry().filter(|first| first.key().0 <= self.stamp.at)
            else {
                break;
            };
            let id = first.remove();
            let job = self.state.jobs.get(&id).cloned();
            if let Some(job) = job {
                self.time_has_come(&job);
            }
        }
        Reply::Done
    }

    fn time_has_come(&mut self, job: &Arc<Job>) {
        let Some(life) = &job.life else { return };
        if life.expires_at.is_some_and(|end| end <= self.stamp.at) {
            let ttl = life.plan.ttl_ms.unwrap_or_default();
            let error = Some(format!("no host took it within the {ttl} ms that it was to wait at most"));
            self.end(job, Ended { status: EndStatus::Expired, host: None, run: None, error });
            return;
        }
        let mut free = (**job).clone();
        if let Some(life) = &mut free.life {
            Arc::make_mut(life).claimable_at = None;
        }
        self.put_job(free);
    }
}
