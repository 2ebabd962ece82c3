//! What the state machine must know of the past while it applies a batch of commands.
//!
//! What was not written down yet is looked up in the batches on their way to the database; for the
//! rest the database is asked once for the whole batch of commands, before the first is applied. It is not
//! asked for jobs that are surely new ([`super::seen`]), so a batch of nothing but those costs no look-up.

use std::collections::HashMap;
use std::sync::Arc;

use skyclaw_core::{Archive, ById, Command, EndedJob, IdempotencyKey, Ids, Job, Operation, StoredReply};
use skyclaw_proto::JobId;
use skyclaw_store::{ReadError, ReplyId, Store};

use super::ahead::Ahead;
use super::memory::{Lookup, Memory, Unwritten};

/// What the database knew of what a batch of commands speaks of.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    jobs: ById<JobId, Arc<Job>>,
    /// Those that are to be forgotten.
    ended: ById<JobId, EndedJob>,
    replies: HashMap<ReplyId, Arc<StoredReply>>,
}

impl Fetched {
    /// Asks the database for all that the commands speak of and that is not in memory, nor was asked for already: `ahead`
    /// tells, with how far the database is written.
    pub(super) async fn fetch<'a>(
        store: &Store,
        memory: &mut Memory,
        commands: impl Iterator<Item = &'a Command>,
        (ahead, written): (&Ahead, u64),
    ) -> Result<Self, ReadError> {
        let Memory { state, unwritten, seen, .. } = memory;
        let mut jobs = Ids::default();
        let (mut ended, mut replies) = (Vec::new(), Vec::new());
        for command in commands {
            let known = |id: &&JobId| state.job(id).is_some() || unwritten.job(id) != Lookup::Elsewhere;
            let named = command.operation.own_jobs();
            if makes_jobs(&command.operation) {
                if seen.is_blank() {
                    seen.begin(store.greatest_job_id().await?.as_ref());
                }
                // Most ids are new, and known to be by one look.
                jobs.extend(named.filter(|id| !seen.note(id) && !known(id)).cloned());
            } else {
                jobs.extend(named.filter(|id| !known(id)).cloned());
            }
            jobs.extend(command.operation.other_jobs().filter(|id| !known(id)).cloned());
            ended.extend(command.operation.pruned_jobs().filter(|id| !known(id)).cloned());
            replies.extend(command.idempotency.as_ref().map(ReplyId::of));
        }
        let mut fetched = Self::default();
        if !jobs.is_empty() {
            let jobs: Vec<_> = jobs.into_iter().collect();
            fetched.jobs = store.jobs(&jobs).await?.into_iter().map(|job| (job.id.clone(), job)).collect();
        }
        if !ended.is_empty() {
            fetched.ended = store.ended(&ended).await?.into_iter().collect();
        }
        fetched.replies = ahead.replies(store, written, replies).await?;
        Ok(fetched)
    }
}

/// Whether carrying it out may make jobs under the ids it names.
fn makes_jobs(operation: &Operation) -> bool {
    match operation.submission() {
        Operation::Enqueue { .. } | Operation::Merge { .. } => true,
        Operation::RegisterHost { .. }
        | Operation::Claim { .. }
        | Operation::Complete(_)
        | Operation::SettleDependents { .. }
        | Operation::Cancel { .. }
        | Operation::RenewLeases { .. }
        | Operation::ExpireLeases { .. }
        | Operation::DeployService { .. }
        | Operation::ClaimService { .. }
        | Operation::ReportService { .. }
        | Operation::PruneReplies
        | Operation::StageRestore(_)
        | Operation::CancelRestore { .. }
        | Operation::RollBack(_)
        | Operation::ReleaseClaims { .. }
        | Operation::ResolveJob { .. }
        | Operation::TellEvents { .. }
        | Operation::Freeze { .. }
        | Operation::Thaw { .. }
        | Operation::DrainHost { .. }
        | Operation::UndrainHost { .. }
        | Operation::RemoveHost { .. }
        | Operation::NoteHosts { .. }
        | Operation::NoteSwitch { .. }
        | Operation::RetryJob { .. }
        | Operation::PassTime { .. }
        | Operation::CreateSchedule { .. }
        | Operation::PauseSchedule { .. }
        | Operation::ResumeSchedule { .. }
        | Operation::DeleteSchedule { .. }
        | Operation::FireSchedule(_)
        | Operation::SubmitWaiting { .. }
        | Operation::TriggerSchedule { .. }
        | Operation::PruneJobs(_) => false,
    }
}

/// The past as of the command that is applied next.
pub(super) struct Past<'a> {
    pub(super) unwritten: &'a Unwritten,
    pub(super) fetched: &'a Fetched,
}

impl Archive for Past<'_> {
    fn job(&self, id: &JobId) -> Option<Arc<Job>> {
        let job = match self.unwritten.job(id) {
            Lookup::Here(job) => Some(job),
            Lookup::Gone => None,
            Lookup::Elsewhere => self.fetched.jobs.get(id),
        };
        job.filter(|job| job.is_ended()).cloned()
    }

    fn ended(&self, id: &JobId) -> Option<EndedJob> {
        match self.unwritten.job(id) {
            Lookup::Here(job) => EndedJob::of(job),
            Lookup::Gone => None,
            Lookup::Elsewhere => self.fetched.ended.get(id).copied(),
        }
    }

    fn reply(&self, key: &IdempotencyKey) -> Option<Arc<StoredReply>> {
        let id = ReplyId::of(key);
        let found = self.unwritten.batches().find_map(|batch| batch.reply(&id));
        let reply = found.or_else(|| self.fetched.replies.get(&id))?;
        let mut newer = self.unwritten.batches().take_while(|batch| batch.reply(&id).is_none());
        let is_forgotten = newer.any(|batch| batch.forgets(&id, reply));
        (!is_forgotten).then(|| Arc::clone(reply))
    }
}
