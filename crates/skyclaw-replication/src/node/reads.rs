//! What a node tells: from its own state, or of what only the leader knows.

use std::sync::Arc;
use std::time::Duration;

use skyclaw_core::{Freeze, HostFreeze, Job, Service};
use skyclaw_proto::{Explanation, HostId, JobId, JobStatus, ServiceId, record};
use skyclaw_store::{Export, JobFilter};
use tokio::time::Instant;

use super::Node;
use crate::error::ReadError;
use crate::leader::{EXPLAINED_WITHIN, Leader, LeaderReply, leader};
use crate::machine::memory::{Lookup, Memory};
use crate::peer::LeaderCall;

impl Node {
    /// A job in any state.
    ///
    /// # Errors
    /// When the database cannot be read or the node goes down.
    pub async fn job(&self, id: &JobId) -> Result<Option<Arc<Job>>, ReadError> {
        let sought = id.clone();
        match self.0.machine.look(move |memory| memory.job(&sought)).await? {
            Lookup::Here(job) => Ok(Some(job)),
            Lookup::Gone => Ok(None),
            Lookup::Elsewhere => Ok(self.0.machine.store().job(id).await?),
        }
    }

    /// Why a job is not running: with what the leader knows of hosts, or as far as this node has applied the log where it
    /// cannot be asked.
    ///
    /// # Errors
    /// As [`Self::job`].
    pub async fn explain(&self, id: &JobId) -> Result<Option<Explanation>, ReadError> {
        let sought = id.clone();
        let look = move |memory: &mut Memory| memory.explain(&sought);
        let known = match self.0.machine.look(look).await? {
            Lookup::Here(known) => Some(known),
            Lookup::Gone => return Ok(None),
            Lookup::Elsewhere => None,
        };
        if known.as_ref().is_none_or(|known| known.status == JobStatus::Queued) {
            let asked = self.0.at_leader(LeaderCall::Explain(id.clone()));
            if let Ok(Ok(LeaderReply::Explained(Some(told)))) =
                tokio::time::timeout(EXPLAINED_WITHIN, asked).await
            {
                return Ok(Some(*told));
            }
        }
        if known.is_some() {
            return Ok(known);
        }
        let job = self.0.machine.store().job(id).await?;
        // What is not in memory has ended, and there is nothing to explain about it.
        Ok(job.map(|job| Explanation { job_id: job.id.clone(), status: job.status(), reasons: Vec::new() }))
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
            let look = move |memory: &mut Memory| {
                let changed = memory.jobs.watch(sought.clone());
                (memory.job(&sought), changed)
            };
            let (job, changed) = self.0.machine.look(look).await?;
            let Lookup::Here(job) = job else { return self.job(id).await };
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

    /// That a host was frozen on its machine, as it is written down here; `None` for a host that is not known.
    ///
    /// # Errors
    /// When the node goes down.
    pub async fn host_freeze(&self, id: &HostId) -> Result<Option<Option<HostFreeze>>, ReadError> {
        let id = id.clone();
        Ok(self.0.machine.look(move |memory| memory.host_freeze(&id)).await?)
    }

    /// All hosts, by id. When each was last heard of only the leader knows; without one, they are as
    /// they registered.
    ///
    /// # Errors
    /// When the node goes down.
    pub async fn hosts(&self) -> Result<Vec<record::Host>, ReadError> {
        if let Leader::Other { .. } = leader(&self.0.raft)
            && let Ok(LeaderReply::Hosts(hosts)) = self.0.at_leader(LeaderCall::Hosts).await
        {
            return Ok(hosts);
        }
        Ok(self.0.machine.look(|memory| memory.hosts()).await?)
    }

    /// The freezes in force and the newest of those that are over, oldest first.
    ///
    /// # Errors
    /// When the node goes down.
    pub async fn freezes(&self) -> Result<Vec<Arc<Freeze>>, ReadError> {
        Ok(self.0.machine.look(|memory| memory.state.freezes().to_vec()).await?)
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
}
