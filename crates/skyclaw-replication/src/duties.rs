//! What hosts ask of the leader: claims that wait, heartbeats, services. All of it rests on what only
//! the leader knows.

use std::time::Duration;

use skyclaw_core::{Command, IdempotencyKey, Operation, Refusal, Reply, ServiceOffer};
use skyclaw_proto::logs::LogWant;
use skyclaw_proto::request::RunningJob;
use skyclaw_proto::response;
use skyclaw_proto::{HostId, NodeId, ServiceId};
use skyclaw_store::ReplyId;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::WriteError;
use crate::machine::Woken;
use crate::machine::claims::ClaimLook;
use crate::machine::memory::{Beat, Memory};
use crate::node::{Inner, Written};
use crate::peer::LeaderError;
use crate::proposer::{Decided, Seat, Waiting};
use crate::raft::Packed;
use crate::trail::Trail;

/// How long a heartbeat waits at most when its host was told before what it has to stop: the answer may have
/// been lost on its way.
const TELL_AGAIN: Duration = Duration::from_secs(1);

impl Inner {
    /// A claim on behalf of `node`, which took it in.
    pub(crate) async fn lead_claim(
        &self,
        host: &HostId,
        max: u32,
        wait: Duration,
        idempotency: Option<IdempotencyKey>,
        node: NodeId,
    ) -> Result<Written, LeaderError> {
        let deadline = Instant::now() + wait;
        // Whether the key has been used is known only where the log is applied.
        let mut ask_anyway = self.was_used(idempotency.as_ref()).await?;
        loop {
            if !*self.leading.borrow() {
                return Err(LeaderError::NotLeader);
            }
            let id = host.clone();
            let woken = match self.machine.look(move |memory| memory.look_for_claim(&id)).await? {
                ClaimLook::UnknownHost => {
                    self.make_sure_of(host).await?;
                    continue;
                }
                ClaimLook::Wait(woken) if !ask_anyway => Some(woken),
                ClaimLook::Wait(_) | ClaimLook::Found => None,
            };
            let seat = match woken {
                None => None,
                // An error says that nobody will ever wake it: the node is going down.
                Some(woken) => match tokio::time::timeout_at(deadline, woken).await {
                    Ok(Ok(Woken::Look)) => continue,
                    Ok(Ok(Woken::Ride(seat))) => Some(seat),
                    Ok(Err(_)) | Err(_) => return Ok(self.nothing_claimed()),
                },
            };
            let lease_ms = u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX);
            let operation = Operation::Claim { host: host.clone(), max, lease_ms };
            let decided = match seat {
                None => Some(self.decide(idempotency.clone(), operation, node.clone()).await),
                Some(seat) => self.ride(seat, idempotency.clone(), operation, node.clone()).await,
            };
            // The entry left without it.
            let Some(written) = decided.transpose()? else { continue };
            let found = !matches!(&written.reply, Reply::Claimed(jobs) if jobs.is_empty());
            if found || ask_anyway || Instant::now() >= deadline {
                return Ok(written);
            }
            ask_anyway = false;
        }
    }

    fn nothing_claimed(&self) -> Written {
        Written { reply: Reply::Claimed(Vec::new()), index: self.machine.applied() }
    }

    /// Proposes here, as the leader, what another node took in.
    async fn decide(
        &self,
        idempotency: Option<IdempotencyKey>,
        operation: Operation,
        node: NodeId,
    ) -> Result<Written, LeaderError> {
        let command = self.stamped(idempotency, operation, node);
        told(self.proposer.propose(command).await)
    }

    /// The same in an entry that is about to leave; `None` when it has left.
    async fn ride(
        &self,
        seat: Seat,
        idempotency: Option<IdempotencyKey>,
        operation: Operation,
        node: NodeId,
    ) -> Option<Result<Written, LeaderError>> {
        let (decided, decision) = oneshot::channel();
        let command = Packed::new(self.stamped(idempotency, operation, node)).ok()?;
        seat.send(Waiting { command, decided, trail: Trail::current() }).ok()?;
        Some(told(decision.await.unwrap_or(Err(WriteError::OutcomeUnknown))))
    }

    fn stamped(&self, idempotency: Option<IdempotencyKey>, operation: Operation, node: NodeId) -> Command {
        let mut command = self.stamper.stamp(idempotency, operation);
        command.node = node;
        command
    }

    /// Whether a reply is kept for a key.
    async fn was_used(&self, key: Option<&IdempotencyKey>) -> Result<bool, LeaderError> {
        let Some(key) = key else { return Ok(false) };
        let id = ReplyId::of(key);
        let unwritten =
            move |memory: &mut Memory| memory.unwritten.batches().any(|batch| batch.reply(&id).is_some());
        if self.machine.look(unwritten).await? {
            return Ok(true);
        }
        let stored = self.machine.store().replies(&[id]).await;
        // If the database cannot be read, the log's answer is the one that counts.
        Ok(stored.map_or(true, |replies| !replies.is_empty()))
    }

    /// A heartbeat that may wait for something to stop.
    pub(crate) async fn lead_heartbeat(
        &self,
        host: &HostId,
        running: Vec<RunningJob>,
        logs: Option<Vec<LogWant>>,
        wait: Duration,
    ) -> Result<response::Heartbeat, LeaderError> {
        let mut deadline = Instant::now() + wait;
        let names_runs = !running.is_empty();
        let first = self.beat(host, running, logs.clone(), !wait.is_zero()).await?;
        if names_runs {
            // It counts only if nobody else led when it was taken in: another leader knows nothing of it,
            // and gives the job to another host a period after its own election. A leader that is cut off
            // would go on to renew, and not know. So the quorum is asked, once for all that wait.
            if let Err(error) = self.read_index.get().await {
                // Nobody has told the host what is in this answer: when it asks again, there is reason to hurry.
                let id = host.clone();
                self.machine.look(move |memory| memory.untell(&id)).await?;
                return Err(error);
            }
        }
        let Some(woken) = first.wait else { return Ok(first.answer) };
        if !(first.answer.stop.is_empty() && first.answer.stop_services.is_empty()) {
            deadline = deadline.min(Instant::now() + TELL_AGAIN);
        }
        let _ = tokio::time::timeout_at(deadline, woken).await;
        if !*self.leading.borrow() {
            return Err(LeaderError::NotLeader);
        }
        let last = self.beat(host, Vec::new(), logs, false).await?;
        Ok(last.answer)
    }

    async fn beat(
        &self,
        host: &HostId,
        running: Vec<RunningJob>,
        logs: Option<Vec<LogWant>>,
        may_wait: bool,
    ) -> Result<Beat, LeaderError> {
        let (id, at) = (host.clone(), self.stamper.now());
        let beat = move |memory: &mut Memory| {
            memory.beat(&id, &running, logs.as_deref(), at, std::time::Instant::now(), may_wait)
        };
        if let Some(beat) = self.machine.look(beat.clone()).await? {
            return Ok(beat);
        }
        self.make_sure_of(host).await?;
        self.machine.look(beat).await?.ok_or_else(|| unknown(host))
    }

    /// Refuses a host that nobody knows. A leader that is cut off may not have heard of one that registered
    /// with its successor, so a quorum must still follow when it denies one.
    async fn make_sure_of(&self, host: &HostId) -> Result<(), LeaderError> {
        let index = self.read_index.get().await?;
        let mut applied = self.machine.watch_applied();
        applied.wait_for(|applied| *applied >= index).await.map_err(|_| WriteError::ShuttingDown)?;
        let id = host.clone();
        let is_known = self.machine.look(move |memory| memory.state.host(&id).is_some()).await?;
        if is_known { Ok(()) } else { Err(unknown(host)) }
    }

    /// A claim of a service. What changes nothing writes nothing.
    pub(crate) async fn lead_claim_service(
        &self,
        host: &HostId,
        running: Option<Vec<ServiceId>>,
        idempotency: Option<IdempotencyKey>,
        node: NodeId,
    ) -> Result<Written, LeaderError> {
        let (id, names, now) = (host.clone(), running.clone(), self.stamper.now());
        let look = move |memory: &mut Memory| {
            let after = memory.last_service(&id).cloned();
            let offer = memory.state.service_offer(&id, names.as_deref(), after.as_ref(), now);
            if let ServiceOffer::Held(service) = &offer {
                memory.told_service(id, service.id.clone());
            }
            (offer, after)
        };
        let (offer, after) = self.machine.look(look).await?;
        let held = match offer {
            ServiceOffer::UnknownHost => {
                self.make_sure_of(host).await?;
                None
            }
            ServiceOffer::Nothing => Some(None),
            ServiceOffer::Held(service) => Some(Some(service)),
            ServiceOffer::Free(_) => None,
        };
        match held {
            Some(held) if !self.was_used(idempotency.as_ref()).await? => {
                if held.is_some() {
                    // A leader that is cut off must not have a host run what others may have now.
                    self.read_index.get().await?;
                }
                Ok(Written { reply: Reply::ClaimedService(held), index: self.machine.applied() })
            }
            _ => {
                let operation = Operation::ClaimService { host: host.clone(), running, after };
                self.decide(idempotency, operation, node).await
            }
        }
    }
}

/// What became of a command, for who asked.
fn told(decided: Result<Decided, WriteError>) -> Result<Written, LeaderError> {
    let (answer, index) = decided?;
    Ok(Written { reply: answer.map_err(refused)?, index })
}

fn unknown(host: &HostId) -> LeaderError {
    refused(Refusal::UnknownHost(host.clone()))
}

fn refused(refusal: Refusal) -> LeaderError {
    LeaderError::Write(WriteError::Refused(refusal))
}
