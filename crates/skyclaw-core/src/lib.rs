//! The replicated state machine: commands in, replies, changes and effects out.
//!
//! ```text
//!             ┌────────────── State::apply ──────────────┐
//!  Command ──►│ idempotency ─► operation ─► record, queue │──► Outcome { reply, changes, effects }
//!             └──────────────────────────────────────────┘
//! ```
//!
//! Pure and deterministic: time and ids come stamped into the command, what has ended and is no longer
//! in memory comes through [`Archive`]. The same commands in the same order give the same state on
//! every node. Nothing here knows of disks, sockets, clocks, tasks or the log.
//!
//! What always holds between two commands:
//! - a job is queued, leased, lost or ended, never two of them, and has at most one lease;
//! - nothing that is frozen or whose time has not come is claimed, and a host that is drained claims nothing;
//! - nothing is claimed before all that it depends on are completed, or beside more with its concurrency key than it says;
//! - a host's `active_leases` is the number of leases held in its name;
//! - within a priority, queued jobs are handed out in the order they were enqueued;
//! - every claim has a fencing token greater than all before it;
//! - what is forgotten has ended, and nobody waits for it;
//! - a time that a schedule waited for is dealt with once;
//! - an idempotent command given twice changes the state once;
//! - the state goes back to a snapshot only while nothing is leased.

mod apply;
mod archive;
mod bonds;
mod by_id;
pub mod command;
mod dependents;
mod explain;
mod freeze;
mod history;
mod keys;
mod lanes;
mod life;
pub mod model;
mod notice;
mod outcome;
mod queue;
pub mod restore;
mod retention;
mod schedule;
mod standing;
mod state;
mod subsets;
mod supersets;
mod wire;

pub use apply::{SETTLED_AT_ONCE, Verdict};
pub use archive::{Archive, NoArchive};
pub use bonds::Bonds;
pub use by_id::{ById, Ids};
pub use command::{Command, Completion, IdempotencyKey, LeaseRef, Operation};
pub use freeze::{Freeze, KEPT_FREEZES, Thawed};
pub use history::{Event, History};
pub use lanes::Turn;
pub use life::{Attempt, Life};
pub use model::{
    Assignment, Condition, Drain, EndStatus, Ended, Host, HostEvent, HostFreeze, Job, Lease, Lost, Phase,
    Run, Service,
};
pub use notice::Notice;
pub use outcome::{Change, Effect, Outcome, Refusal, Reply, StagedPart, StoredReply};
pub use restore::{KEPT_RESTORES, Restore, RollBack, SnapshotOf};
pub use retention::{EndedJob, Expendable, Kept, PruneJobs, Pruned, WhyPruned};
pub use schedule::{Fire, Origin, Paused, Schedule, ScheduleSpec, Submission};
pub use standing::Reason;
pub use state::{Claimable, Counters, ServiceOffer, State};
pub use supersets::Supersets;
