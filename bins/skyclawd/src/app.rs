//! What every route can reach.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;
use skyclaw_proto::Timestamp;
use skyclaw_replication::Node;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::admission::Admission;
use crate::metrics::Metrics;
use crate::public_keys::PublicKeys;
use crate::token::Token;

/// An [`App`] as the routes hold it.
pub type Shared = Arc<App>;

/// What every route can reach.
pub struct App {
    /// The replicated state.
    pub node: Node,
    /// The base URL under which others reach this coordinator, if it was told.
    pub public_url: Option<String>,
    /// What opens the core routes; `None` opens them to everybody.
    pub token: Option<Token>,
    /// What opens the public routes.
    pub public_keys: PublicKeys,
    /// From which pages browsers may call the public routes.
    pub cors_origin: HeaderValue,
    /// How much may go on at once.
    pub admission: Admission,
    /// What is measured.
    pub metrics: Metrics,
    /// Rights to do what takes much memory or a database snapshot for long: whole states, in and out.
    pub bulk: Arc<Semaphore>,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// How long the answer to an idempotency key is kept.
    pub idempotency_ttl: Duration,
    /// Cancelled when nothing should wait any more.
    pub soft: CancellationToken,
    /// Where tasks run.
    pub tracker: TaskTracker,
    /// The wall clock.
    pub clock: fn() -> Timestamp,
    /// The source of ids.
    pub new_uuid: fn() -> Uuid,
}

impl App {
    /// Awaits `waiting`, but not beyond the moment the daemon begins to end: then `None`.
    pub(crate) async fn unless_ending<T>(&self, waiting: impl Future<Output = T>) -> Option<T> {
        // Dropping `waiting` is up to the caller to make harmless.
        tokio::select! {
            done = waiting => Some(done),
            () = self.soft.cancelled() => None,
        }
    }
}
