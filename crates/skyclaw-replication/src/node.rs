//! The handle of a coordinator's replicated state: what the HTTP layer talks to.
//!
//! Cheap to clone. Writes go through the log; reads are answered from this node's own state; what only
//! the leader knows (who was heard of, who waits for a job) is asked of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use skyclaw_core::{IdempotencyKey, Job, Operation, Reply, Service, ServiceOffer};
use skyclaw_proto::request::RunningJob;
use skyclaw_proto::response::Stop;
use skyclaw_proto::{HostId, JobId, NodeId, ServiceId, record};
use skyclaw_store::{Export, JobFilter, Store};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::{ReadError, WriteError};
use crate::log::Log;
use crate::machine::Machine;
use crate::machine::memory::{Beat, ClaimLook};
use crate::options::Stamper;
use crate::proposer::Proposer;
use crate::raft::Raft;

/// A coordinator's replicated state.
#[derive(Clone)]
pub struct Node(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) raft: Raft,
    pub(crate) log: Log,
    pub(crate) machine: Machine,
    pub(crate) proposer: Proposer,
    pub(crate) stamper: Stamper,
    pub(crate) lease: Duration,
    pub(crate) min_replications: u32,
    pub(crate) known_peers: AtomicU32,
    pub(crate) leading: watch::Receiver<bool>,
    pub(crate) stop: CancellationToken,
    /// The database, when it was too large to be checked as a whole before the start.
    pub(crate) verify: Option<(PathBuf, Store)>,
}

/// A command that was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// What came of it.
    pub reply: Reply,
    /// The place in the log at which it can be seen.
    pub index: u64,
}

/// Whether a node can do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Whether it takes writes.
    pub ready: bool,
    /// Why not.
    pub reason: Option<String>,
}

impl Node {
    /// What this coordinator is called.
    #[must_use]
    pub fn node_id(&self) -> &NodeId {
        &self.0.stamper.node
    }

    /// Carries out an operation, durably and once.
    ///
    /// # Errors
    /// When it is refused, could not be proposed, or its outcome is unknown.
    pub async fn write(
        &self,
        idempotency: Option<IdempotencyKey>,
        operation: Operation,
    ) -> Result<Written, WriteError> {
        self.check_target()?;
        let command = self.0.stamper.stamp(idempotency, operation);
        let (answer, index) = self.0.proposer.propose(command).await?;
        Ok(Written { reply: answer?, index })
    }

    /// Takes up to `max` jobs for a host, waiting up to `wait` for the first. What finds nothing writes
    /// nothing.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn claim(
        &self,
        host: &HostId,
        max: u32,
        wait: Duration,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Written, WriteError> {
        self.check_target()?;
        let deadline = Instant::now() + wait;
        // Whether the key has been used is known only where the log is applied.
        let mut ask_anyway = self.was_used(idempotency.as_ref()).await?;
        loop {
            let id = host.clone();
            let woken = match self.0.machine.look(move |memory| memory.look_for_claim(&id)).await? {
                ClaimLook::UnknownHost => return Err(skyclaw_core::Refusal::UnknownHost(host.clone()).into()),
                ClaimLook::Wait(woken) if !ask_anyway => Some(woken),
                ClaimLook::Wait(_) | ClaimLook::Found => None,
            };
            if let Some(woken) = woken {
                // An error says that nobody will ever wake it: the node is going down.
                match tokio::time::timeout_at(deadline, woken).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(_)) | Err(_) => return Ok(self.nothing_claimed()),
                }
            }
            let lease_ms = u64::try_from(self.0.lease.as_millis()).unwrap_or(u64::MAX);
            let operation = Operation::Claim { host: host.clone(), max, lease_ms };
            let written = self.write(idempotency.clone(), operation).await?;
            let found = !matches!(&written.reply, Reply::Claimed(jobs) if jobs.is_empty());
            if found || ask_anyway || Instant::now() >= deadline {
                return Ok(written);
            }
            ask_anyway = false;
        }
    }

    fn nothing_claimed(&self) -> Written {
        Written { reply: Reply::Claimed(Vec::new()), index: self.applied() }
    }

    /// Whether a reply is kept for a key.
    async fn was_used(&self, key: Option<&IdempotencyKey>) -> Result<bool, WriteError> {
        let Some(key) = key else { return Ok(false) };
        let sought = key.clone();
        let unwritten = move |memory: &mut crate::machine::memory::Memory| {
            memory.unwritten.batches().any(|batch| batch.reply(&sought).is_some())
        };
        if self.0.machine.look(unwritten).await? {
            return Ok(true);
        }
        let stored = self.0.machine.store().replies(std::slice::from_ref(key)).await;
        // If the database cannot be read, the log's answer is the one that counts.
        Ok(stored.map_or(true, |replies| !replies.is_empty()))
    }

    /// Takes in a host's sign of life, renews the leases of the runs it names, and says which runs it
    /// must stop; waits up to `wait` for one.
    ///
    /// # Errors
    /// When the host is unknown or the node goes down.
    pub async fn heartbeat(
        &self,
        host: &HostId,
        running: Vec<RunningJob>,
        wait: Duration,
    ) -> Result<(record::Host, Vec<Stop>), WriteError> {
        let deadline = Instant::now() + wait;
        let first = self.beat(host, running, !wait.is_zero()).await?;
        let Some(woken) = first.wait else { return Ok((first.host, first.stop)) };
        let _ = tokio::time::timeout_at(deadline, woken).await;
        let last = self.beat(host, Vec::new(), false).await?;
        Ok((last.host, last.stop))
    }

    async fn beat(
        &self,
        host: &HostId,
        running: Vec<RunningJob>,
        may_wait: bool,
    ) -> Result<Beat, WriteError> {
        let (id, at) = (host.clone(), self.0.stamper.now());
        let beat = move |memory: &mut crate::machine::memory::Memory| {
            memory.beat(&id, &running, at, std::time::Instant::now(), may_wait)
        };
        let beat = self.0.machine.look(beat).await?;
        beat.ok_or_else(|| skyclaw_core::Refusal::UnknownHost(host.clone()).into())
    }

    /// Takes a replica of a service for a host, or names one it has already. What changes nothing
    /// writes nothing.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn claim_service(
        &self,
        host: &HostId,
        running: Option<Vec<ServiceId>>,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Written, WriteError> {
        self.check_target()?;
        let (id, names, now) = (host.clone(), running.clone(), self.0.stamper.now());
        let look = move |memory: &mut crate::machine::memory::Memory| {
            let after = memory.last_service(&id).cloned();
            let offer = memory.state.service_offer(&id, names.as_deref(), after.as_ref(), now);
            if let ServiceOffer::Held(service) = &offer {
                memory.told_service(id, service.id.clone());
            }
            (offer, after)
        };
        let (offer, after) = self.0.machine.look(look).await?;
        let used = self.was_used(idempotency.as_ref()).await?;
        let held = match offer {
            ServiceOffer::UnknownHost => return Err(skyclaw_core::Refusal::UnknownHost(host.clone()).into()),
            ServiceOffer::Nothing => None,
            ServiceOffer::Held(service) => Some(service),
            ServiceOffer::Free(_) => {
                let operation = Operation::ClaimService { host: host.clone(), running, after };
                return self.write(idempotency, operation).await;
            }
        };
        if used {
            let operation = Operation::ClaimService { host: host.clone(), running, after };
            return self.write(idempotency, operation).await;
        }
        Ok(Written { reply: Reply::ClaimedService(held), index: self.applied() })
    }

    /// A job in any state.
    ///
    /// # Errors
    /// When the database cannot be read or the node goes down.
    pub async fn job(&self, id: &JobId) -> Result<Option<Arc<Job>>, ReadError> {
        let sought = id.clone();
        if let Some(job) = self.0.machine.look(move |memory| memory.job(&sought)).await? {
            return Ok(Some(job));
        }
        Ok(self.0.machine.store().job(id).await?)
    }

    /// A job, as soon as it is of another version than the one known, or has ended; as it is after
    /// `wait` otherwise.
    ///
    /// # Errors
    /// As [`Self::job`].
    pub async fn watch_job(
        &self,
        id: &JobId,
        known_version: Option<u64>,
        wait: Duration,
    ) -> Result<Option<Arc<Job>>, ReadError> {
        let deadline = Instant::now() + wait;
        loop {
            let sought = id.clone();
            // Both at once, or the change between them would be missed.
            let look = move |memory: &mut crate::machine::memory::Memory| {
                let changed = memory.jobs.watch(sought.clone());
                (memory.job(&sought), changed)
            };
            let (job, changed) = self.0.machine.look(look).await?;
            let Some(job) = job else { return self.job(id).await };
            let is_news = known_version.is_some_and(|known| known != job.version);
            if job.is_ended() || is_news || Instant::now() >= deadline || self.0.stop.is_cancelled() {
                return Ok(Some(job));
            }
            let _ = tokio::time::timeout_at(deadline, changed).await;
        }
    }

    /// The newest jobs that fit the filter and were enqueued before `before`.
    ///
    /// # Errors
    /// As [`Self::job`].
    pub async fn jobs(
        &self,
        filter: &JobFilter,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Arc<Job>>, ReadError> {
        self.0.machine.settle().await?;
        Ok(self.0.machine.store().page(filter, before, limit).await?)
    }

    /// A host.
    ///
    /// # Errors
    /// When the node goes down.
    pub async fn host(&self, id: &HostId) -> Result<Option<record::Host>, ReadError> {
        let id = id.clone();
        Ok(self.0.machine.look(move |memory| memory.host(&id)).await?)
    }

    /// All hosts, by id.
    ///
    /// # Errors
    /// When the node goes down.
    pub async fn hosts(&self) -> Result<Vec<record::Host>, ReadError> {
        Ok(self.0.machine.look(|memory| memory.hosts()).await?)
    }

    /// A service.
    ///
    /// # Errors
    /// When the node goes down.
    pub async fn service(&self, id: &ServiceId) -> Result<Option<Arc<Service>>, ReadError> {
        let id = id.clone();
        Ok(self.0.machine.look(move |memory| memory.state.service(&id).cloned()).await?)
    }

    /// All services, oldest first.
    ///
    /// # Errors
    /// When the node goes down.
    pub async fn services(&self) -> Result<Vec<Arc<Service>>, ReadError> {
        Ok(self.0.machine.look(|memory| memory.state.services().cloned().collect()).await?)
    }

    /// Begins to read the whole state as it is now.
    ///
    /// # Errors
    /// As [`Self::job`].
    pub async fn export(&self) -> Result<Export, ReadError> {
        self.0.machine.settle().await?;
        Ok(self.0.machine.store().export().await?)
    }

    /// The index of the last entry of the log that is applied here.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.0.machine.applied()
    }

    /// Waits until an index is applied here. False when it is not after `timeout`.
    pub async fn wait_applied(&self, index: u64, timeout: Duration) -> bool {
        let mut applied = self.0.machine.watch_applied();
        let reached = applied.wait_for(|applied| *applied >= index);
        matches!(tokio::time::timeout(timeout, reached).await, Ok(Ok(_)))
    }

    /// Says how many other coordinators are known.
    pub fn set_known_peers(&self, known: u32) {
        self.0.known_peers.store(known, Ordering::Relaxed);
    }

    /// Whether the node takes writes, and if not, why.
    #[must_use]
    pub fn health(&self) -> Health {
        let reason = if self.0.stop.is_cancelled() {
            Some("the coordinator is going down".to_owned())
        } else if !*self.0.leading.borrow() {
            Some("there is no leader".to_owned())
        } else if let Some(trouble) = self.0.machine.trouble() {
            Some(format!("the disk cannot be written: {trouble}"))
        } else {
            self.check_target().err().map(|error| error.to_string())
        };
        Health { ready: reason.is_none(), reason }
    }

    /// Resolves, with the reason, when the node can go on no more.
    pub async fn failed(&self) -> String {
        let verify = async {
            if let Some((path, store)) = &self.0.verify
                && let Err(error) = store.verify().await
            {
                return crate::error::damaged(path, &error).to_string();
            }
            std::future::pending().await
        };
        let raft = async {
            let mut metrics = self.0.raft.metrics();
            loop {
                if let Err(fatal) = &metrics.borrow_and_update().running_state
                    && !self.0.stop.is_cancelled()
                {
                    return format!("the replicated log has stopped: {fatal}");
                }
                if metrics.changed().await.is_err() {
                    return "the replicated log has stopped".to_owned();
                }
            }
        };
        tokio::select! {
            why = verify => why,
            why = raft => why,
        }
    }

    /// Answers everyone who waits, then ends the log and closes all files.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        let _ = self.0.machine.look(crate::machine::memory::Memory::close).await;
        if let Err(error) = self.0.raft.shutdown().await {
            tracing::warn!(%error, "the replicated log did not end as it should");
        }
        self.0.machine.ended().await;
        if let Err(error) = self.0.machine.store().close().await {
            tracing::warn!(%error, "the database was not closed as it should; the log makes up for it");
        }
        let log = self.0.log.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || log.close()).await {
            tracing::warn!(%error, "the log was not closed as it should");
        }
    }

    /// Whether the replication target can be met at all.
    fn check_target(&self) -> Result<(), WriteError> {
        let needed = self.0.min_replications - 1;
        let known = self.0.known_peers.load(Ordering::Relaxed);
        if known < needed {
            return Err(WriteError::InsufficientPeers { needed, known });
        }
        // The log has one voter: nobody else can hold what is written.
        if needed > 0 {
            return Err(WriteError::PeersUnreachable { needed, reached: 0 });
        }
        Ok(())
    }
}
