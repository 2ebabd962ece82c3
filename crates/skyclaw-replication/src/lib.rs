//! The replicated log and the state machine that follows it.
//!
//! ```text
//!  Node::write ─► Proposer ─► openraft ─► log (fsync) ─► Machine: core::apply ─► reply
//!                 (batches)                               ├─► effects (wake, count leases)
//!                                                         └─► store, twice a second
//!  Node::claim, heartbeat, reads ───────────────────────► Machine (memory), store (what has ended)
//!  Keeper: ends leases, prunes, compacts; Due: has time pass for queued jobs; Scheduler: has schedules submit theirs
//! ```
//!
//! Every write goes through the log, with one voter as with many. Nothing outside this crate sees
//! openraft; nothing here knows of HTTP, configuration or the environment; the clock and the source of
//! ids are handed in.

mod calendar;
mod cluster;
mod discovery;
mod due;
mod duties;
mod error;
mod events;
mod forward;
pub mod gossip;
mod keeper;
mod leader;
pub mod log;
mod logs;
mod machine;
mod metrics;
mod node;
mod options;
mod peer;
mod proposer;
mod raft;
mod read_index;
mod restore;
mod retention;
mod scheduler;
mod schedules;
mod serve;
#[cfg(test)]
mod simulation;
mod start;
mod target;
mod trail;

pub use cluster::{ChangeError, Role};
pub use discovery::Discovery;
pub use error::{ReadError, StartError, WriteError};
pub use events::{Follow, Told};
pub use logs::LogsError;
pub use machine::logs::{LogsFault, ReadLogs};
pub use node::{Health, Node, Written};
pub use options::Options;
pub use peer::{Answered, HttpWire, PEER_PATH, Refused, Wire, WireError};
pub use restore::{Backup, BackupError};
pub use retention::JobRetention;
pub use schedules::ScheduleError;
pub use skyclaw_store::{Export, JobFilter, Retention, Section};
pub use trail::{Follow as FollowTrace, Trail};
