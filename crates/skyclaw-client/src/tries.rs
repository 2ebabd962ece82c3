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
//!   503 not_leader    the leader it names is next, configured or not, unless it was asked in this
//!                     round; given up after a few rounds that end without a leader
//! ```

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use skyclaw_proto::{ErrorBody, ErrorCode};
use tokio::time::Instant;

use crate::Client;
use crate::attempt::Miss;
use crate::call::Call;
use crate::config::Coordinator;
use crate::error::{Error, Failure, Reason};

/// First pause between two rounds.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between two rounds, unless a `retry-after` says more.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// Rounds in which a coordinator was asked that does not lead, at most.
const MAX_LEADERLESS_ROUNDS: u32 = 5;
/// Leaders that are asked though they are not configured, at most, in one call.
const MAX_LEARNED: usize = 5;

/// The tries of one call.
pub(crate) struct Tries<'a> {
    client: &'a Client,
    call: &'a Call,
    began: Instant,
    deadline: Instant,
    pauses: ExponentialBackoff,
    /// Who is still to be asked in this round.
    round: VecDeque<usize>,
    /// How many were asked.
    made: u32,
    /// Leaders that were named and are not configured. Their indexes follow those of the configured.
    learned: Vec<Coordinator>,
    /// Whether somebody in this round said that it does not lead.
    leaderless: bool,
    leaderless_rounds: u32,
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
            made: 0,
            learned: vec![],
            leaderless: false,
            leaderless_rounds: 0,
            failures: vec![None; client.shared.coordinators.len()],
            open: false,
            fault: None,
            retry_after: None,
        }
    }

    /// Whom to ask next. Waits between two rounds.
    pub(crate) async fn next(&mut self) -> Result<Turn, Error> {
        if self.client.shared.config.max_tries.is_some_and(|most| self.made >= most) {
            return Err(match self.fault.take() {
                Some((status, body)) => refused(self.call, status, body),
                None => self.give_up(),
            });
        }
        if self.round.is_empty() {
            if let Some((status, body)) = self.fault.take() {
                return Err(refused(self.call, status, body));
            }
            self.leaderless_rounds += u32::from(std::mem::take(&mut self.leaderless));
            if self.leaderless_rounds >= MAX_LEADERLESS_ROUNDS {
                return Err(self.give_up());
            }
            let pause = self.pauses.next().unwrap_or(MAX_PAUSE);
            let pause = pause.max(self.retry_after.take().unwrap_or_default());
            if Instant::now() + pause >= self.deadline {
                return Err(self.give_up());
            }
            tokio::time::sleep(pause).await;
            let configured = self.client.shared.coordinators.len();
            self.round.extend(self.client.order().chain(configured..self.failures.len()));
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        let Some(coordinator) = self.round.pop_front().filter(|_| !left.is_zero()) else {
            return Err(self.give_up());
        };
        let limit = left.min(self.client.shared.config.attempt_timeout + self.call.poll);
        self.made += 1;
        Ok(Turn { coordinator, limit })
    }

    /// Whose turn it is.
    pub(crate) fn coordinator(&self, turn: Turn) -> &Coordinator {
        let configured = &self.client.shared.coordinators;
        configured.get(turn.coordinator).unwrap_or_else(|| &self.learned[turn.coordinator - configured.len()])
    }

    /// The coordinator whose turn it was answered, and is the first to be asked from now on if it is one
    /// of the configured.
    pub(crate) fn succeeded(&self, turn: Turn) {
        if turn.coordinator < self.client.shared.coordinators.len() {
            self.client.shared.good.store(turn.coordinator, Ordering::Relaxed);
        }
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
        let url = self.coordinator(turn).0.clone();
        tracing::debug!(request_id = self.call.request_id, url, %reason, "a try failed");
        if reason.leaves_open() {
            if !self.call.repeatable {
                let (request, request_id) = (self.call.name(), self.call.request_id.clone());
                return Err(Error::Unsure { request, url, reason: Box::new(reason), request_id });
            }
            self.open = true;
        }
        match &reason {
            Reason::Busy { body, .. } if body.code == Some(ErrorCode::NotLeader) => {
                (self.leaderless, self.fault) = (true, None);
                self.follow(turn, body);
            }
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

    /// Puts the leader that was named next, unless it was asked in this round: it may not know yet that
    /// it leads, and another round comes after a pause.
    fn follow(&mut self, turn: Turn, body: &ErrorBody) {
        let named = body.details.as_ref().and_then(|details| details.get("leaderUrl")?.as_str());
        let Some(leader) = named.and_then(|url| Coordinator::parse(url).ok()) else { return };
        let mut known = self.client.shared.coordinators.iter().chain(&self.learned);
        if let Some(index) = known.position(|coordinator| *coordinator == leader) {
            if let Some(place) = self.round.iter().position(|waiting| *waiting == index) {
                self.round.remove(place);
                self.round.push_front(index);
            }
            return;
        }
        if self.learned.len() < MAX_LEARNED && self.coordinator(turn).may_name(&leader) {
            self.round.push_front(self.failures.len());
            self.learned.push(leader);
            self.failures.push(None);
        }
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
