//! Forgetting jobs that have ended.

use std::sync::Arc;

use skyclaw_proto::Timestamp;

use super::Draft;
use crate::archive::Archive;
use crate::outcome::{Change, Reply};
use crate::retention::{PruneJobs, Pruned};

impl Draft<'_> {
    /// Forgets those of the named jobs that are still as the leader found them and that nothing keeps. What was
    /// decided by a leader of before, and again by the next, is done once.
    pub(super) fn prune_jobs(&mut self, prune: &PruneJobs, archive: &impl Archive) -> Reply {
        let kept = self.state.kept();
        let mut gone = Vec::with_capacity(prune.jobs.len());
        for job in prune.jobs.iter().filter(|job| !kept.has(&job.id)) {
            let found = archive.ended(&job.id).filter(|found| found.at == job.ended_at);
            gone.extend(found.map(|found| (found, job.id.clone())));
        }
        gone.sort_unstable_by_key(|(found, _)| found.seq);
        gone.dedup_by_key(|(found, _)| found.seq);
        let times = || gone.iter().map(|(found, _)| found.at);
        let (Some(first), Some(last)) = (times().min(), times().max()) else { return Reply::Done };
        let counters = &mut self.state.counters;
        // What a clock that is ahead has ended is not all that others end until then.
        let up_to = |time: Timestamp| Some(time.min(self.stamp.at));
        match prune.up_to {
            Some(time) => counters.pruned_to = counters.pruned_to.max(up_to(time)),
            None => counters.own_pruned_to = counters.own_pruned_to.max(up_to(last)),
        }
        let jobs = gone.into_iter().map(|(found, id)| (id, found.seq)).collect();
        self.changes.push(Change::PruneJobs(Arc::new(Pruned { jobs, why: prune.why, first, last })));
        Reply::Done
    }
}
