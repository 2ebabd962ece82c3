//! Which coordinator to ask next, and when to give up.
//!
//! ```text
//! try each coordinator, the last good one first
//!   2xx               done, and this one is the good one now
//!   4xx               final: it would be the same everywhere
//!   500               its fault: the others are asked once; final when none does better
//!   408 429 502..504, no connection, no answer
//!                     the next one; when all were asked, wait (longer each time, or as long as a
//!                     `retry-after` says) and start over
//! ```

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use skyclaw_proto::ErrorBody;
use tokio::time::Instant;

use crate::Client;
use crate::attempt::Miss;
use crate::call::Call;
use crate::error::{Error, Failure, Reason};

/// First pause between two rounds.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between two rounds, unless a `retry-after` says more.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// The tries of one call.
pub(crate) struct Tries<'a> {
    client: &'a Client,
    call: &'a Call,
    began: Instant,
    deadline: Instant,
    pauses: ExponentialBackoff,
    /// Who is still to be asked in this round.
    round: VecDeque<usize>,
    /// The last failure of each coordinator, by its index.
    failures: Vec<Option<Failure>>,
    /// Whether a try may have been carried out without our knowing.
    open: bool,
    /// What a 500 of this round said, while no coordinator was more hopeful.
    fault: Option<(u16, ErrorBody)>,
    /// The shortest `retry-after` of this round.
    retry_after: Option<Duration>,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// Index of the coordinator.
    pub(crate) coordinator: usize,
    /// How long it may take.
    pub(crate) limit: Duration,
}

impl<'a> Tries<'a> {
    pub(crate) fn new(client: &'a Client, call: &'a Call) -> Self {
        let began = Instant::now();
        let pauses = ExponentialBuilder::new()
            .with_min_delay(MIN_PAUSE)
            .with_max_delay(MAX_PAUSE)
            .with_jitter()
            .without_max_times()
            .build();
        Self {
            client,
            call,
            began,
            deadline: began + client.shared.config.deadline + call.poll,
            pauses,
            round: client.order().collect(),
            failures: vec![None; client.shared.coordinators.len()],
            open: false,
            fault: None,
            retry_after: None,
        }
    }

    /// Whom to ask next. Waits between two rounds.
    pub(crate) async fn next(&mut self) -> Result<Turn, Error> {
        if self.round.is_empty() {
            if let Some((status, body)) = self.fault.take() {
                return Err(refused(self.call, status, body));
            }
            let pause = self.pauses.next().unwrap_or(MAX_PAUSE);
            let pause = pause.max(self.retry_after.take().unwrap_or_default());
            if Instant::now() + pause >= self.deadline {
                return Err(self.give_up());
            }
            tokio::time::sleep(pause).await;
            self.round.extend(self.client.order());
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        let Some(coordinator) = self.round.pop_front().filter(|_| !left.is_zero()) else {
            return Err(self.give_up());
        };
        let limit = left.min(self.client.shared.config.attempt_timeout + self.call.poll);
        Ok(Turn { coordinator, limit })
    }

    /// The coordinator whose turn it was answered, and is the first to be asked from now on.
    pub(crate) fn succeeded(&self, turn: Turn) {
        self.client.shared.good.store(turn.coordinator, Ordering::Relaxed);
    }

    /// The coordinator whose turn it was did not do it; an error when no other would.
    pub(crate) fn missed(&mut self, turn: Turn, miss: Miss) -> Result<(), Error> {
        let (reason, retry_after) = match miss {
            Miss::Refused(status, body) => {
                self.succeeded(turn);
                return Err(refused(self.call, status, body));
            }
            Miss::Invalid(error) => return Err(error),
            Miss::Failed { reason, retry_after } => (reason, retry_after),
        };
        let url = self.client.shared.coordinators[turn.coordinator].0.clone();
        tracing::debug!(request_id = self.call.request_id, url, %reason, "a try failed");
        self.open |= reason.leaves_open();
        match &reason {
            Reason::Busy { status: status @ 500, body } => self.fault = Some((*status, body.clone())),
            Reason::Unreachable { .. } => {}
            Reason::Busy { .. } | Reason::Broken { .. } | Reason::TimedOut => self.fault = None,
        }
        // Where one is free sooner than the others, it is worth asking then.
        let after = retry_after.unwrap_or_default();
        self.retry_after = Some(self.retry_after.map_or(after, |least| least.min(after)));
        self.failures[turn.coordinator] = Some(Failure { url, reason });
        Ok(())
    }

    fn give_up(&mut self) -> Error {
        let waited = self.began.elapsed().as_millis();
        Error::Unavailable {
            request: self.call.name(),
            waited: Duration::from_millis(u64::try_from(waited).unwrap_or(u64::MAX)),
            failures: self.failures.iter().flatten().cloned().collect(),
            key: self.call.key_text().filter(|_| self.open),
            request_id: self.call.request_id.clone(),
        }
    }
}

fn refused(call: &Call, status: u16, body: ErrorBody) -> Error {
    Error::Refused { status, body, request_id: call.request_id.clone() }
}
