//! Going back to a snapshot, between two entries of the log.
//!
//! ```text
//!  order ─► judged by the state ─► all of before is in the database ─► put together, checked, written ─► loaded anew
//!              └► refused                      ▲                                  │
//!                                              └──── tried again, when it is this node's own trouble
//! ```
//!
//! Until it is done nothing that comes later is applied; look-ups are answered meanwhile, from what was
//! before. A refusal is the same on every node.

use std::sync::Arc;
use std::time::Duration;

use skyclaw_core::{
    Change, Command, Counters, Notice, Refusal, Reply, Restore, RollBack, SnapshotOf, State, Verdict,
};
use skyclaw_proto::EventId;
use skyclaw_store::snapshot::Header;
use skyclaw_store::{Batch, Installed, Position, RollBackError, Store};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::memory::Memory;
use super::{Answer, Task, Written};

/// How long to wait before it is tried again. Each try writes the whole snapshot.
const RETRY: Duration = Duration::from_secs(2);

/// The only command of an entry: to go back.
#[derive(Debug)]
pub(crate) struct GoBack {
    /// The place in the log after it.
    pub(crate) position: Position,
    pub(crate) command: Command,
    pub(crate) back: RollBack,
    /// An error says that the node is going down.
    pub(crate) answer: oneshot::Sender<Result<Answer, String>>,
}

/// A way back that is under way.
pub(super) struct Going {
    order: GoBack,
    not_before: Instant,
    work: Option<JoinHandle<Worked>>,
}

/// A refusal all nodes share, or this node's own trouble.
pub(super) type Worked = Result<Result<WentBack, Refusal>, String>;

pub(super) struct WentBack {
    installed: Installed,
    restore: Arc<Restore>,
}

impl Task {
    pub(super) fn go_back(&mut self, memory: &mut Memory, order: GoBack) {
        match memory.state.judge(&order.back) {
            Verdict::Done(restore) => self.pass_by(memory, order, Ok(Reply::Restored(restore))),
            Verdict::Refused(refusal) => self.pass_by(memory, order, Err(refusal)),
            Verdict::Go => {
                tracing::warn!(restore = %order.back.restore, by = order.back.requested_by, "going back to a snapshot");
                let now = Instant::now();
                self.flush_at = Some(now);
                self.back = Some(Going { order, not_before: now, work: None });
            }
        }
    }

    /// The entry changes nothing.
    fn pass_by(&mut self, memory: &mut Memory, order: GoBack, answer: Answer) {
        memory.unwritten.pending.reach(order.position.clone(), memory.state.counters());
        self.flush_soon(memory);
        self.applied.send_replace(order.position.index);
        let _ = order.answer.send(Ok(answer));
    }

    /// Begins the work once nothing of before is left to be written.
    pub(super) fn begin_going_back(&mut self, memory: &Memory) {
        let unwritten = &memory.unwritten;
        let is_settled = unwritten.in_flight.is_none() && unwritten.pending.is_empty();
        let Some(going) = self.back.as_mut().filter(|going| going.work.is_none()) else { return };
        if memory.is_closing() {
            if let Some(going) = self.back.take() {
                let _ = going.order.answer.send(Err("the node is going down".to_owned()));
            }
            return;
        }
        if !is_settled || self.commit.is_some() || Instant::now() < going.not_before {
            return;
        }
        let plan = Plan {
            store: self.store.clone(),
            position: going.order.position.clone(),
            command: going.order.command.clone(),
            back: going.order.back.clone(),
            last: memory.state.restores().last().cloned(),
            floor: memory.state.counters(),
        };
        // On a thread of its own, as the compiler cannot see that this future may be sent to another.
        let runtime = tokio::runtime::Handle::current();
        going.work = Some(tokio::task::spawn_blocking(move || runtime.block_on(plan.carry_out())));
    }

    /// When to look again whether the work can begin.
    pub(super) fn back_at(&self) -> Option<Instant> {
        let going = self.back.as_ref().filter(|going| going.work.is_none())?;
        // What is not written yet wakes the task by itself.
        (going.not_before > Instant::now()).then_some(going.not_before)
    }

    pub(super) fn went_back(&mut self, memory: &mut Memory, worked: Worked) {
        let Some(mut going) = self.back.take() else { return };
        let WentBack { installed, restore } = match worked {
            Ok(Ok(went)) => went,
            Ok(Err(refusal)) => {
                tracing::warn!(restore = %going.order.back.restore, %refusal, "not gone back");
                return self.pass_by(memory, going.order, Err(refusal));
            }
            Err(why) => {
                self.written.send_modify(|written| {
                    if written.trouble.is_none() {
                        tracing::error!(
                            restore = %going.order.back.restore, error = why,
                            "cannot go back to the snapshot; this node goes on with the log once it can"
                        );
                    }
                    written.trouble = Some(why);
                });
                (going.work, going.not_before) = (None, Instant::now() + RETRY);
                self.back = Some(going);
                return;
            }
        };
        let restores: Vec<_> =
            memory.state.restores().iter().cloned().chain([Arc::clone(&restore)]).collect();
        let state =
            State::load(installed.hosts, installed.active_jobs, installed.services, installed.counters);
        // A freeze ends by a command alone.
        let freezes = memory.state.freezes().to_vec();
        let state = state.with_restores(restores, None).with_freezes(freezes);
        memory.replace(state.with_schedules(installed.schedules));
        self.tell_due(memory);
        self.flush_at = None;
        let written = Written { position: installed.position.clone(), trouble: None };
        self.applied.send_replace(written.index());
        self.written.send_replace(written);
        // What was gone back to is durable.
        self.checkpointed.send_replace(installed.position);
        memory.live.refresh();
        tracing::warn!(
            restore = %restore.id, snapshot_of = %restore.snapshot.cluster, snapshot_index = restore.snapshot.index,
            by = restore.requested_by, "gone back to a snapshot"
        );
        let _ = going.order.answer.send(Ok(Ok(Reply::Restored(restore))));
    }
}

/// The result of the work under way; never, when there is none.
pub(super) async fn poll_back(back: &mut Option<Going>) -> Worked {
    match back.as_mut().and_then(|going| going.work.as_mut()) {
        Some(work) => work.await.unwrap_or_else(|error| Err(error.to_string())),
        None => std::future::pending().await,
    }
}

/// What the work needs to know.
struct Plan {
    store: Store,
    position: Position,
    command: Command,
    back: RollBack,
    last: Option<Arc<Restore>>,
    floor: Counters,
}

impl Plan {
    async fn carry_out(self) -> Worked {
        let assembled = match self.store.assemble(&self.back.restore).await {
            Ok(assembled) => assembled,
            Err(RollBackError::Refused(why)) => return Ok(Err(refusal(why))),
            Err(error) => return Err(with_causes(&error)),
        };
        let snapshot = snapshot_of(&assembled.snapshot);
        let restore = match Restore::of(&self.command, &self.back, snapshot, self.last.as_deref()) {
            Ok(restore) => Arc::new(restore),
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mut over = Batch::default();
        let change = Change::Restore(Arc::clone(&restore));
        if let Some(notice) = Notice::of(&self.command, &change) {
            over.note(EventId::new(self.position.index, 0), notice);
        }
        over.absorb([change]);
        over.reach(self.position, assembled.counters(self.floor));
        let installed = self.store.roll_back(assembled, over).await.map_err(|error| with_causes(&error))?;
        Ok(Ok(WentBack { installed, restore }))
    }
}

/// What the log says of a snapshot.
pub(crate) fn snapshot_of(header: &Header) -> SnapshotOf {
    SnapshotOf {
        cluster: header.cluster,
        created_at: header.created_at,
        index: header.position.as_ref().map_or(0, |position| position.index),
    }
}

/// The store's verdict in the words of the state machine.
pub(crate) fn refusal(why: skyclaw_store::Refusal) -> Refusal {
    match why {
        skyclaw_store::Refusal::NotStaged(restore) => Refusal::NotStaged(restore),
        skyclaw_store::Refusal::Incomplete { restore, part } => Refusal::RestoreIncomplete { restore, part },
        skyclaw_store::Refusal::Unusable(fault) => Refusal::SnapshotUnusable(fault.to_string()),
        other => Refusal::SnapshotUnusable(other.to_string()),
    }
}

/// An error with all that led to it.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
