//! Getting something done at the leader, wherever it is.
//!
//! A node asked for what only the leader can do does it itself if it leads, and asks the leader
//! otherwise. When the leader changes in between, it looks for the new one and asks again, as long as
//! that cannot do anything twice.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skyclaw_proto::Explanation;
use skyclaw_proto::logs::{LogPiece, LogWant};
use skyclaw_proto::record;
use skyclaw_proto::response;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::error::WriteError;
use crate::machine::logs::LogsFault;
use crate::machine::memory::Memory;
use crate::node::{Inner, Written};
use crate::peer::{Call, LeaderCall, LeaderError};
use crate::proposer::Decided;
use crate::raft::{Raft, RaftId};
use crate::restore::STEP_WITHIN;
use crate::trail::Aside;

/// How long to look for a leader before giving up.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the leader may take for what does not wait.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// How long the leader may take to say what it knows of a job; what the records tell is known here.
pub(crate) const EXPLAINED_WITHIN: Duration = Duration::from_secs(2);
/// How often to look whether there is a leader by now, should no change be noticed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Who leads, as far as this node knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Leader {
    Me,
    Other { id: RaftId, url: String },
    Nobody,
}

/// What the leader says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum LeaderReply {
    /// To a write: one for each command.
    Decided(Vec<Result<Decided, WriteError>>),
    /// To a claim.
    Written(Written),
    /// To a heartbeat.
    Beat(Box<response::Heartbeat>),
    /// To the question up to where a read must see.
    Index(u64),
    /// All hosts.
    Hosts(Vec<record::Host>),
    /// What the autopilot has found.
    Autopilot(response::Autopilot),
    /// A piece of a job's output.
    Logs(Result<LogPiece, LogsFault>),
    /// What is wanted of a job's output, to a host that has brought some.
    LogWants(Result<Vec<LogWant>, LogsFault>),
    /// Why a job is not running; nothing of one that has ended or is not known.
    Explained(Option<Box<Explanation>>),
}

/// Who leads, as far as this node knows. A node that was removed may still believe in itself.
pub(crate) fn leader(raft: &Raft) -> Leader {
    let metrics = raft.metrics();
    let metrics = metrics.borrow();
    let membership = metrics.membership_config.membership();
    match metrics.current_leader {
        Some(id) if id == metrics.id => {
            // Asked for each write; the ids of all voters would be a set made for it.
            if membership.get_joint_config().iter().any(|voters| voters.contains(&id)) {
                Leader::Me
            } else {
                Leader::Nobody
            }
        }
        Some(id) => match membership.get_node(&id).and_then(|member| member.url.clone()) {
            Some(url) => Leader::Other { id, url },
            None => Leader::Nobody,
        },
        None => Leader::Nobody,
    }
}

impl LeaderCall {
    /// Whether doing it twice does no more than doing it once.
    fn can_be_repeated(&self) -> bool {
        match self {
            Self::Write(commands) => commands.iter().all(|packed| packed.command().idempotency.is_some()),
            Self::Claim { idempotency, .. } | Self::ClaimService { idempotency, .. } => idempotency.is_some(),
            Self::Heartbeat { .. }
            | Self::ReadIndex
            | Self::Hosts
            | Self::Autopilot
            | Self::ReadLogs(_)
            | Self::PushLogs(_)
            | Self::Explain(_)
            | Self::Restore { .. } => true,
        }
    }

    /// What it is, in a word.
    fn name(&self) -> &'static str {
        match self {
            Self::Write(_) => "write",
            Self::Claim { .. } => "claim",
            Self::Heartbeat { .. } => "heartbeat",
            Self::ClaimService { .. } => "claim_service",
            Self::ReadIndex => "read_index",
            Self::Hosts => "hosts",
            Self::Restore { .. } => "restore",
            Self::Autopilot => "autopilot",
            Self::ReadLogs(_) => "read_logs",
            Self::PushLogs(_) => "push_logs",
            Self::Explain(_) => "explain",
        }
    }

    /// How long the answer may take.
    fn answer_within(&self) -> Duration {
        match self {
            Self::Claim { wait, .. } | Self::Heartbeat { wait, .. } => *wait + ANSWER_WITHIN,
            Self::Restore { wait, .. } => *wait + STEP_WITHIN,
            Self::ReadLogs(read) => read.wait + ANSWER_WITHIN,
            Self::PushLogs(_) => ANSWER_WITHIN,
            Self::Explain(_) => EXPLAINED_WITHIN,
            Self::Write(_) | Self::ClaimService { .. } | Self::ReadIndex | Self::Hosts | Self::Autopilot => {
                ANSWER_WITHIN
            }
        }
    }
}

impl Inner {
    /// Has the leader do something.
    pub(crate) async fn at_leader(&self, call: LeaderCall) -> Result<LeaderReply, WriteError> {
        self.at_leader_saying(call, &Aside::current(&self.stamper.node)).await
    }

    /// The same, on behalf of those who are named.
    pub(crate) async fn at_leader_saying(
        &self,
        call: LeaderCall,
        aside: &Aside,
    ) -> Result<LeaderReply, WriteError> {
        let mut deadline = Instant::now() + PATIENCE;
        let mut metrics = self.raft.server_metrics();
        loop {
            if self.stop.is_cancelled() {
                return Err(WriteError::ShuttingDown);
            }
            self.serving().await?;
            metrics.mark_unchanged();
            let asked = Instant::now();
            match self.ask_leader(&call, aside).await {
                Ok(reply) => return Ok(reply),
                Err(LeaderError::Write(error)) => return Err(error),
                // A long poll that was cut off by a change of leaders has not used up its patience.
                Err(LeaderError::NotLeader) => deadline += asked.elapsed().saturating_sub(LOOK_EVERY),
            }
            if Instant::now() >= deadline {
                return Err(WriteError::NoLeader);
            }
            let _ = tokio::time::timeout(LOOK_EVERY, metrics.changed()).await;
        }
    }

    async fn ask_leader(&self, call: &LeaderCall, aside: &Aside) -> Result<LeaderReply, LeaderError> {
        match leader(&self.raft) {
            Leader::Me => self.lead(call.clone(), aside).await,
            Leader::Nobody => Err(LeaderError::NotLeader),
            // On the heap, so that requests at the leader are not as large as one that goes over the network.
            Leader::Other { id, url } => Box::pin(self.ask_other(id, url, call, aside)).await,
        }
    }

    async fn ask_other(
        &self,
        id: u64,
        url: String,
        call: &LeaderCall,
        aside: &Aside,
    ) -> Result<LeaderReply, LeaderError> {
        let asked = Call::Leader(call.clone());
        let reply: Result<Result<LeaderReply, LeaderError>, _> =
            self.peers.call_saying(&url, id, &asked, aside, call.answer_within()).await;
        match reply {
            Ok(reply) => reply,
            Err(error) if error.nothing_was_done() || call.can_be_repeated() => Err(LeaderError::NotLeader),
            Err(error) => {
                tracing::warn!(%error, requests = aside.names(), "the leader's answer was lost");
                Err(LeaderError::Write(WriteError::OutcomeUnknown))
            }
        }
    }

    /// Does what only the leader can do for another node, and says for whom in its spans.
    pub(crate) async fn lead_for(&self, call: LeaderCall, aside: &Aside) -> Result<LeaderReply, LeaderError> {
        // A write is of many, and each of its commands has a span of its own.
        let is_write = matches!(call, LeaderCall::Write(_));
        let followed = (!is_write).then(|| Some((aside.of(0)?, aside.span(0, &self.follow, call.name())?)));
        let Some((trail, span)) = followed.flatten() else { return self.lead(call, aside).await };
        Box::pin(Arc::clone(trail).followed(self.lead(call, aside)).instrument(span)).await
    }

    /// Does what only the leader can do.
    pub(crate) async fn lead(&self, call: LeaderCall, aside: &Aside) -> Result<LeaderReply, LeaderError> {
        if !*self.leading.borrow() {
            return Err(LeaderError::NotLeader);
        }
        match call {
            LeaderCall::Write(commands) => {
                Ok(LeaderReply::Decided(self.proposer.propose_all_for(commands, aside, &self.follow).await))
            }
            LeaderCall::Claim { host, max, wait, idempotency, node } => {
                self.lead_claim(&host, max, wait, idempotency, node).await.map(LeaderReply::Written)
            }
            LeaderCall::Heartbeat { host, running, wait, logs } => {
                let answer = self.lead_heartbeat(&host, running, logs, wait).await?;
                Ok(LeaderReply::Beat(Box::new(answer)))
            }
            LeaderCall::ClaimService { host, running, idempotency, node } => {
                let written = self.lead_claim_service(&host, running, idempotency, node).await?;
                Ok(LeaderReply::Written(written))
            }
            LeaderCall::ReadIndex => self.read_index.get().await.map(LeaderReply::Index),
            LeaderCall::Restore { back, wait, node } => {
                Box::pin(self.lead_restore(back, wait, node)).await.map(LeaderReply::Written)
            }
            LeaderCall::Hosts => {
                let hosts = self.machine.look(|memory| memory.hosts()).await;
                hosts.map(LeaderReply::Hosts).map_err(|gone| LeaderError::Write(gone.into()))
            }
            // It has not looked yet when it has only begun to lead.
            LeaderCall::Autopilot => {
                let found = self.autopilot.borrow().clone();
                found.map(LeaderReply::Autopilot).ok_or(LeaderError::NotLeader)
            }
            LeaderCall::ReadLogs(read) => self.lead_logs(read).await.map(LeaderReply::Logs),
            LeaderCall::PushLogs(piece) => {
                let look = move |memory: &mut Memory| memory.take_logs(&piece, std::time::Instant::now());
                let wanted = self.machine.look(look).await?.map_err(WriteError::Refused)?;
                Ok(LeaderReply::LogWants(wanted))
            }
            LeaderCall::Explain(id) => {
                let at = self.stamper.now();
                let look =
                    move |memory: &mut Memory| memory.explain_leading(&id, std::time::Instant::now(), at);
                Ok(LeaderReply::Explained(self.machine.look(look).await?.map(Box::new)))
            }
        }
    }
}

impl From<WriteError> for LeaderError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::NoLeader => Self::NotLeader,
            other => Self::Write(other),
        }
    }
}

impl From<crate::machine::Gone> for LeaderError {
    fn from(gone: crate::machine::Gone) -> Self {
        Self::Write(gone.into())
    }
}
