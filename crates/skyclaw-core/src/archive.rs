//! What the state machine must know of the past and does not hold in memory.

use std::sync::Arc;

use crate::command::IdempotencyKey;
use crate::model::Job;
use crate::outcome::StoredReply;
use skyclaw_proto::JobId;

/// Jobs that have ended and replies that were kept, as of the command before the one being applied.
///
/// Implementations must answer from exactly that state: an answer that depends on how far a node has
/// written its state down would make nodes differ.
pub trait Archive {
    /// A job that has ended. Asked for every id a command names that is not active, a new job's too.
    fn job(&self, id: &JobId) -> Option<Arc<Job>>;
    /// The reply kept for a caller's key on a route, whatever the body was.
    fn reply(&self, key: &IdempotencyKey) -> Option<Arc<StoredReply>>;
}

/// A past in which nothing happened.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoArchive;

impl Archive for NoArchive {
    fn job(&self, _id: &JobId) -> Option<Arc<Job>> {
        None
    }
    fn reply(&self, _key: &IdempotencyKey) -> Option<Arc<StoredReply>> {
        None
    }
}
