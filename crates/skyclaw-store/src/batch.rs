//! What waits to be written: the changes of many commands, the newest of each record.
//!
//! A batch is also where readers find what is not in the file yet, so it must be asked before the store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use skyclaw_core::model::{Host, Job, Phase, Service};
use skyclaw_core::{
    ById, Change, Counters, Freeze, IdempotencyKey, Ids, KEPT_RESTORES, Notice, Pruned, Reply, Restore,
    Schedule, StagedPart, StoredReply,
};
use skyclaw_proto::{EventId, HostId, JobId, Payload, ScheduleId, ServiceId, Timestamp};

use crate::events::Noted;

/// A place in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The index of the last log entry that was applied.
    pub index: u64,
    /// What else the log needs to know of that place; opaque here.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// Names the reply kept for a caller's key on a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyId([u8; 16]);

impl ReplyId {
    /// The id of the reply to a key; fingerprint and expiry have no part in it.
    #[must_use]
    pub fn of(key: &IdempotencyKey) -> Self {
        let mut hasher = Sha256::new();
        for part in [&key.caller, &key.route, &key.key] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        let digest: [u8; 32] = hasher.finalize().into();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        Self(id)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for ReplyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Changes that are written in one transaction.
///
/// When it is written the prune comes first and the replies after, so what was put after a prune survives
/// it; what was put before a prune that forgets it is dropped from the batch as the prune is absorbed. The
/// same goes for what is staged and for dropping it.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub(crate) hosts: BTreeMap<HostId, Arc<Host>>,
    /// Hosts that are no more.
    pub(crate) removed_hosts: BTreeSet<HostId>,
    pub(crate) jobs: ById<JobId, Arc<Job>>,
    /// Jobs that are no more, unless they came back since.
    pub(crate) pruned_jobs: Ids<JobId>,
    /// Their places in the order of enqueueing.
    pub(crate) pruned_seqs: Vec<u64>,
    pub(crate) services: BTreeMap<ServiceId, Arc<Service>>,
    /// `None` where the prune forgot one that was put before: an older one must not show through.
    pub(crate) replies: HashMap<ReplyId, Option<Arc<StoredReply>>>,
    pub(crate) prune: Option<Timestamp>,
    /// Whether everything staged before is dropped.
    pub(crate) drop_staged: bool,
    /// All of one restore.
    pub(crate) staged: BTreeMap<u32, Arc<StagedPart>>,
    /// By their numbers.
    pub(crate) restores: BTreeMap<u64, Arc<Restore>>,
    /// By their numbers; `None` for one that is forgotten.
    pub(crate) freezes: BTreeMap<u64, Option<Arc<Freeze>>>,
    /// `None` for one that is no more.
    pub(crate) schedules: BTreeMap<ScheduleId, Option<Arc<Schedule>>>,
    /// What is told of the changes, of each and not of the newest alone, oldest first.
    pub(crate) notices: Vec<Noted>,
    pub(crate) applied: Option<(Position, Counters)>,
    bytes: usize,
}

impl Batch {
    /// An empty batch for what comes after this one, with room for as many jobs.
    #[must_use]
    pub fn successor(&self) -> Self {
        let jobs = ById::with_capacity_and_hasher(self.jobs.len(), Default::default());
        Self { jobs, notices: Vec::with_capacity(self.notices.len()), ..Self::default() }
    }

    /// Adds changes, in the order in which they came about.
    pub fn absorb(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            match change {
                Change::Host(host) => {
                    self.grow(host_bytes(&host));
                    self.removed_hosts.remove(&host.id);
                    let old = self.hosts.insert(host.id.clone(), host);
                    self.shrink(old.map(|old| host_bytes(&old)));
                }
                Change::RemoveHost(id) => {
                    let old = self.hosts.remove(&id);
                    self.shrink(old.map(|old| host_bytes(&old)));
                    self.removed_hosts.insert(id);
                }
                Change::Job(job) => {
                    self.grow(job_bytes(&job));
                    let old = self.jobs.insert(job.id.clone(), job);
                    self.shrink(old.map(|old| job_bytes(&old)));
                }
                Change::PruneJobs(pruned) => self.prune_jobs(&pruned),
                Change::Service(service) => {
                    self.grow(service_bytes(&service));
                    let old = self.services.insert(service.id.clone(), service);
                    self.shrink(old.map(|old| service_bytes(&old)));
                }
                Change::Reply(reply) => {
                    self.grow(reply_bytes(&reply));
                    let old = self.replies.insert(ReplyId::of(&reply.key), Some(reply));
                    self.shrink(old.flatten().map(|old| reply_bytes(&old)));
                }
                Change::PruneReplies(before) => self.prune(before),
                Change::Stage(part) => {
                    if self.staged.values().next().is_some_and(|other| other.restore != part.restore) {
                        self.drop_staged();
                    }
                    self.grow(part_bytes(&part));
                    let old = self.staged.insert(part.part, part);
                    self.shrink(old.map(|old| part_bytes(&old)));
                }
                Change::DropStaged => self.drop_staged(),
                Change::Restore(restore) => {
                    self.grow(restore_bytes(&restore));
                    let old = self.restores.insert(restore.number, restore);
                    self.shrink(old.map(|old| restore_bytes(&old)));
                    if self.restores.len() > KEPT_RESTORES {
                        let oldest = self.restores.pop_first();
                        self.shrink(oldest.map(|(_, old)| restore_bytes(&old)));
                    }
                }
                Change::Freeze(freeze) => {
                    self.grow(freeze_bytes(&freeze));
                    let old = self.freezes.insert(freeze.number, Some(freeze));
                    self.shrink(old.flatten().map(|old| freeze_bytes(&old)));
                }
                Change::ForgetFreeze(number) => {
                    let old = self.freezes.insert(number, None);
                    self.shrink(old.flatten().map(|old| freeze_bytes(&old)));
                }
                Change::Schedule(schedule) => {
                    self.grow(schedule.approx_bytes());
                    let old = self.schedules.insert(schedule.id.clone(), Some(schedule));
                    self.shrink(old.flatten().map(|old| old.approx_bytes()));
                }
                Change::RemoveSchedule(id) => {
                    let old = self.schedules.insert(id, None);
                    self.shrink(old.flatten().map(|old| old.approx_bytes()));
                }
            }
        }
    }

    /// Adds what is told of a change, in the order of the ids.
    pub fn note(&mut self, id: EventId, notice: Notice) {
        self.grow(notice.approx_bytes());
        self.notices.push(Noted { id, notice });
    }

    /// Says how far in the log the changes go, and which numbers come next there. A batch is committed
    /// only after this.
    pub fn reach(&mut self, position: Position, counters: Counters) {
        self.applied = Some((position, counters));
    }

    /// How far in the log the changes go.
    #[must_use]
    pub fn position(&self) -> Option<&Position> {
        self.applied.as_ref().map(|(position, _)| position)
    }

    /// Whether a job found in an earlier batch or in the store is no more.
    #[must_use]
    pub fn has_pruned(&self, id: &JobId) -> bool {
        !self.pruned_jobs.is_empty() && self.pruned_jobs.contains(id) && !self.jobs.contains_key(id)
    }

    /// A job that changed.
    #[must_use]
    pub fn job(&self, id: &JobId) -> Option<&Arc<Job>> {
        self.jobs.get(id)
    }

    /// A reply that is new. When there is none, one in the store counts only if this batch does not
    /// [forget](Self::forgets) it.
    #[must_use]
    pub fn reply(&self, id: &ReplyId) -> Option<&Arc<StoredReply>> {
        self.replies.get(id)?.as_ref()
    }

    /// Whether a reply found under this id in an earlier batch or in the store is forgotten by this one.
    #[must_use]
    pub fn forgets(&self, id: &ReplyId, reply: &StoredReply) -> bool {
        self.prune.is_some_and(|before| reply.key.expires_at < before)
            || self.replies.get(id).is_some_and(Option::is_none)
    }

    /// About how many bytes will be written.
    #[must_use]
    pub fn approx_bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing to write, not even a place in the log.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let keeps_all = self.prune.is_none() && !self.drop_staged && self.removed_hosts.is_empty();
        let is_quiet = self.freezes.is_empty() && self.schedules.is_empty() && self.pruned_seqs.is_empty();
        self.bytes == 0 && keeps_all && is_quiet && self.applied.is_none()
    }

    fn prune(&mut self, before: Timestamp) {
        let mut freed = 0;
        for kept in self.replies.values_mut() {
            if let Some(reply) = kept.take_if(|reply| reply.key.expires_at < before) {
                freed += reply_bytes(&reply);
            }
        }
        self.shrink(Some(freed));
        self.prune = self.prune.max(Some(before));
    }

    fn prune_jobs(&mut self, pruned: &Pruned) {
        for (id, seq) in &pruned.jobs {
            let old = self.jobs.remove(id);
            self.shrink(old.map(|old| job_bytes(&old)));
            self.pruned_jobs.insert(id.clone());
            self.pruned_seqs.push(*seq);
        }
    }

    fn drop_staged(&mut self) {
        let freed = self.staged.values().map(|part| part_bytes(part)).sum();
        self.staged.clear();
        self.shrink(Some(freed));
        self.drop_staged = true;
    }

    fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    fn shrink(&mut self, bytes: Option<usize>) {
        self.bytes -= bytes.unwrap_or(0);
    }
}

/// What a record takes beside its texts: names of fields, numbers, times, index entries.
const FIXED_BYTES: usize = 512;

fn host_bytes(host: &Host) -> usize {
    FIXED_BYTES
        + host.name.len()
        + host.capabilities.iter().map(|c| c.len() + 3).sum::<usize>()
        + host.enforces.as_ref().map_or(0, |enforces| enforces.approx_bytes())
}

fn job_bytes(job: &Job) -> usize {
    let (args, env) = match &*job.payload {
        Payload::Shell(shell) => (&shell.args, &shell.env),
        Payload::OpenclawRun(openclaw) => (&openclaw.args, &openclaw.env),
    };
    let output = match &job.phase {
        Phase::Ended(ended) => {
            ended.run.as_ref().map_or(0, |run| run.stdout.len() + run.stderr.len())
                + ended.error.as_ref().map_or(0, String::len)
        }
        Phase::Queued | Phase::Leased(_) | Phase::Lost(_) => 0,
    };
    FIXED_BYTES
        + output
        + job.terms.as_ref().map_or(0, |terms| terms.approx_bytes())
        + job.bonds.as_ref().map_or(0, |bonds| bonds.approx_bytes())
        + job.life.as_ref().map_or(0, |life| life.approx_bytes())
        + job.history.as_ref().map_or(0, |history| history.approx_bytes())
        + args.iter().flatten().map(|arg| arg.len() + 3).sum::<usize>()
        + env.as_ref().map_or(0, pairs)
        + 2 * pairs(&job.labels)
        + job.required.iter().map(|c| c.len() + 3).sum::<usize>()
}

fn service_bytes(service: &Service) -> usize {
    FIXED_BYTES
        + service.args.iter().map(|arg| arg.len() + 3).sum::<usize>()
        + service.env.as_ref().map_or(0, pairs)
        + pairs(&service.labels)
        + FIXED_BYTES * service.assignments.len()
}

fn part_bytes(part: &StagedPart) -> usize {
    FIXED_BYTES + part.bytes.len()
}

fn restore_bytes(restore: &Restore) -> usize {
    FIXED_BYTES + restore.requested_by.as_ref().map_or(0, String::len)
}

fn freeze_bytes(freeze: &Freeze) -> usize {
    let said = [&freeze.reason, &freeze.by];
    FIXED_BYTES + pairs(&freeze.scope.labels) + said.into_iter().flatten().map(String::len).sum::<usize>()
}

fn reply_bytes(stored: &StoredReply) -> usize {
    let key = &stored.key;
    let reply = match &stored.reply {
        Reply::Host(host) => host_bytes(host),
        Reply::Job(job) | Reply::Existing(job) => job_bytes(job),
        Reply::Claimed(jobs) => jobs.iter().map(|job| job_bytes(job)).sum(),
        Reply::Service(service) => service_bytes(service),
        Reply::ClaimedService(service) => service.as_ref().map_or(0, |service| service_bytes(service)),
        Reply::Restored(restore) => restore_bytes(restore),
        Reply::Freeze(freeze) => freeze_bytes(freeze),
        Reply::Schedule(schedule) => schedule.approx_bytes(),
        Reply::Triggered { schedule, job } => {
            schedule.approx_bytes() + job.as_ref().map_or(0, |job| job_bytes(job))
        }
        Reply::Merged(_) | Reply::Done => 0,
    };
    FIXED_BYTES + key.caller.len() + key.route.len() + key.key.len() + reply
}

fn pairs(map: &BTreeMap<String, String>) -> usize {
    map.iter().map(|(key, value)| key.len() + value.len() + 6).sum()
}
