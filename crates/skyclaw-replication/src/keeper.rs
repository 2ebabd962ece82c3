//! What a leader does unasked: it ends leases that ran out, writes down which were renewed and which hosts
//! are heard of, tells drained hosts when their time is over, and lets the log forget what the database holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use openraft::ServerState;
use skyclaw_core::Operation;
use skyclaw_proto::{JobId, Timestamp};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::machine::memory::Memory;
use crate::machine::{Gone, Machine};
use crate::options::Stamper;
use crate::proposer::Proposer;
use crate::raft::Raft;

/// How often leases are looked at.
const TICK: Duration = Duration::from_millis(200);
/// Most leases one command speaks of.
const LEASES_AT_ONCE: usize = 1000;
/// Most hosts of each kind that one command speaks of.
const HOSTS_AT_ONCE: usize = 1000;
/// Most jobs that have ended of which one command tells those who wait for them.
const JOBS_AT_ONCE: usize = 16;
/// How many such commands follow each other before the other duties are looked at again.
const SETTLED_IN_A_ROW: usize = 20;
/// How often it is looked which hosts are heard of, and whose time to be drained is over.
const HOSTS_EVERY: Duration = Duration::from_secs(1);
/// So much more rarely for each host there is, as all of them are gone through: 5 s for 10,000.
const HOSTS_EVERY_EACH: Duration = Duration::from_micros(500);
/// How many bytes the log gathers before it is compacted.
const COMPACT_BYTES: u64 = 64 * 1024 * 1024;
/// How long the parts of a snapshot are kept for a restore that nobody finishes.
const ABANDONED_AFTER: Duration = Duration::from_secs(6 * 3600);

pub(crate) struct Keeper {
    pub(crate) raft: Raft,
    pub(crate) machine: Machine,
    pub(crate) proposer: Proposer,
    pub(crate) stamper: Stamper,
    /// How many bytes were appended to the log since the start.
    pub(crate) appended: Arc<AtomicU64>,
    pub(crate) lease: Duration,
    pub(crate) stop: CancellationToken,
    /// Whether the last duty could not be done.
    pub(crate) waits: AtomicBool,
    /// Whether this node leads, and its leases are counted.
    pub(crate) leading: watch::Sender<bool>,
}

/// What was looked at, and what is to be.
struct Seen {
    /// When hosts are to be gone through again.
    hosts_at: Instant,
    /// Up to which time hosts were told that their time to be drained is over.
    drains: Timestamp,
}

impl Keeper {
    pub(crate) async fn run(self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut role = self.raft.server_metrics();
        let mut term_led = None;
        let mut seen = Seen { hosts_at: Instant::now(), drains: self.stamper.now() };
        let mut compacted_at = 0;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = tick.tick() => {}
                Ok(()) = role.changed() => {}
            }
            let appended = self.appended.load(Ordering::Relaxed);
            if appended - compacted_at > COMPACT_BYTES {
                compacted_at = appended;
                if let Err(error) = self.raft.trigger().snapshot().await {
                    tracing::warn!(%error, "the log cannot be compacted");
                }
            }
            let Ok(()) = self.lead(&mut term_led, &mut seen).await else { return };
        }
    }

    async fn lead(&self, term_led: &mut Option<u64>, seen: &mut Seen) -> Result<(), Gone> {
        let (state, term) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            (metrics.state, metrics.current_term)
        };
        if state != ServerState::Leader {
            if term_led.take().is_some() {
                self.leading.send_replace(false);
                self.machine.look(Memory::end_leading).await?;
                tracing::info!(term, "this coordinator leads no more");
            }
            return Ok(());
        }
        if *term_led != Some(term) {
            if !self.has_applied_the_past(term).await {
                return Ok(());
            }
            self.machine.look(|memory| memory.begin_leading(Instant::now())).await?;
            *term_led = Some(term);
            self.leading.send_replace(true);
            tracing::info!(term, "this coordinator leads");
        }
        self.look_after_leases().await?;
        self.look_after_dependents().await?;
        self.look_after_restores().await?;
        self.look_after_hosts(seen).await?;
        Ok(())
    }

    /// Goes through all hosts, so not at every tick. The wall clock decides no more than when a drained host is told
    /// to stop; what becomes of its runs does not depend on it.
    async fn look_after_hosts(&self, seen: &mut Seen) -> Result<(), Gone> {
        if Instant::now() < seen.hosts_at {
            return Ok(());
        }
        let (before, now) = (seen.drains, self.stamper.now());
        seen.drains = now;
        let look = move |memory: &mut Memory| {
            memory.wake_drained(before, now);
            (memory.hosts_news(Instant::now(), HOSTS_AT_ONCE), memory.state.hosts().len())
        };
        let (news, hosts) = self.machine.look(look).await?;
        let every = HOSTS_EVERY_EACH.saturating_mul(u32::try_from(hosts).unwrap_or(u32::MAX));
        seen.hosts_at = Instant::now() + every.max(HOSTS_EVERY);
        if !news.is_empty() {
            if let Some(first) = news.down.first() {
                tracing::warn!(hosts = news.down.len(), %first, "hosts have not been heard of for some time");
            }
            self.propose(Operation::NoteHosts { up: news.up, down: news.down }).await;
        }
        Ok(())
    }

    /// Waits until everything that earlier leaders committed is applied here: the first entry of this term
    /// comes after all of it. Whoever asked before would be told what is no longer so, and a host whose
    /// claim is committed but not applied yet would be told to stop. False when this node leads no more.
    async fn has_applied_the_past(&self, term: u64) -> bool {
        let mut metrics = self.raft.metrics();
        let decided = metrics.wait_for(|metrics| {
            metrics.state != ServerState::Leader
                || metrics.current_term != term
                || metrics.last_applied.is_some_and(|applied| applied.leader_id.term == term)
        });
        tokio::select! {
            () = self.stop.cancelled() => false,
            decided = decided => decided.is_ok_and(|m| m.state == ServerState::Leader && m.current_term == term),
        }
    }

    async fn look_after_leases(&self) -> Result<(), Gone> {
        let (over, renewed) = self
            .machine
            .look(|memory| {
                let now = Instant::now();
                let over = memory.leases.run_out(now, LEASES_AT_ONCE);
                (over, memory.leases.take_unrecorded(now, LEASES_AT_ONCE))
            })
            .await?;
        if !over.is_empty() {
            if !self.waits.load(Ordering::Relaxed) {
                tracing::warn!(leases = over.len(), first = %over[0].job, "leases ran out");
            }
            self.propose(Operation::ExpireLeases { leases: over }).await;
        }
        if !renewed.is_empty() {
            let lease_ms = u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX);
            self.propose(Operation::RenewLeases { leases: renewed, lease_ms }).await;
        }
        Ok(())
    }

    /// Has those told whom no command has told that what they wait for has ended, as there were too many of them
    /// for the command that ended it.
    async fn look_after_dependents(&self) -> Result<(), Gone> {
        for _ in 0..SETTLED_IN_A_ROW {
            let unsettled =
                |memory: &mut Memory| memory.state.unsettled().take(JOBS_AT_ONCE).cloned().collect();
            let ended: Vec<JobId> = self.machine.look(unsettled).await?;
            if ended.is_empty() || !self.propose(Operation::SettleDependents { ended }).await {
                break;
            }
        }
        Ok(())
    }

    async fn look_after_restores(&self) -> Result<(), Gone> {
        let look = |memory: &mut Memory| {
            let now = Instant::now();
            (memory.to_release(now), memory.abandoned(now, ABANDONED_AFTER))
        };
        let (release, abandoned) = self.machine.look(look).await?;
        if let Some(restore) = release {
            tracing::info!(%restore, "claims are answered again");
            self.propose(Operation::ReleaseClaims { restore }).await;
        }
        if let Some(restore) = abandoned {
            tracing::warn!(%restore, "nobody finishes this restore; what was staged for it is dropped");
            self.propose(Operation::CancelRestore { restore }).await;
        }
        Ok(())
    }

    /// What does not get through now, which is what `false` says, is proposed again at one of the next ticks.
    async fn propose(&self, operation: Operation) -> bool {
        let proposed = self.proposer.propose(self.stamper.stamp(None, operation)).await;
        let is_done = proposed.is_ok();
        let waited = self.waits.swap(!is_done, Ordering::Relaxed);
        match proposed {
            // Said once, not at every tick for as long as the disk is full.
            Err(error) if !waited => tracing::warn!(%error, "the duties of the leader have to wait"),
            Ok(_) if waited => tracing::info!("the duties of the leader are done again"),
            Ok(_) | Err(_) => {}
        }
        is_done
    }
}
