//! What is counted and timed while the load runs.
//!
//! Workers write into one of a few shares, so that they hardly wait for each other; the shares are added up at
//! the end. A time is that of the whole operation, further tries included, and each of those is counted.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use skyclaw_client::{Error as ClientError, Reason};
use skyclaw_proto::{ErrorBody, ErrorCode};

use crate::error::Error;

/// Over how many shares the workers are spread.
const SHARES: usize = 16;
/// Significant decimal digits that are kept of a time.
const DIGITS: u8 = 3;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// `POST /v1/jobs`.
    Enqueue,
    /// `POST /v1/hosts/:id/claim` that was given a job. Timed where the job was there before.
    Claim,
    /// `POST /v1/jobs/:id/complete`.
    Complete,
    /// From the enqueue being sent to the job being with its host.
    EnqueueToClaimed,
    /// `POST /v1/hosts/:id/heartbeat`.
    Heartbeat,
}

impl Operation {
    pub(super) const ALL: [Self; 5] =
        [Self::Enqueue, Self::Claim, Self::Complete, Self::EnqueueToClaimed, Self::Heartbeat];

    /// The name in the report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Enqueue => "enqueue",
            Self::Claim => "claim",
            Self::Complete => "complete",
            Self::EnqueueToClaimed => "enqueueToClaimed",
            Self::Heartbeat => "heartbeat",
        }
    }
}

/// What is known of one operation.
#[derive(Debug, Clone)]
pub(super) struct Series {
    /// How often it was done.
    pub(super) done: u64,
    /// How often it was given up.
    pub(super) failed: u64,
    /// How often it was tried again.
    pub(super) retries: u64,
    /// Tries that failed, by kind.
    pub(super) errors: BTreeMap<String, u64>,
    /// Microseconds.
    pub(super) times: Histogram<u64>,
    /// When the first began and the last ended.
    pub(super) span: Option<(Duration, Duration)>,
}

impl Series {
    fn new() -> Result<Self, Error> {
        let times = Histogram::new(DIGITS).map_err(cannot_count)?;
        Ok(Self { done: 0, failed: 0, retries: 0, errors: BTreeMap::new(), times, span: None })
    }

    fn add(&mut self, other: &Self) -> Result<(), Error> {
        self.done += other.done;
        self.failed += other.failed;
        self.retries += other.retries;
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
        self.times.add(&other.times).map_err(cannot_count)?;
        self.widen(other.span);
        Ok(())
    }

    fn widen(&mut self, span: Option<(Duration, Duration)>) {
        self.span = match (self.span, span) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (one, other) => one.or(other),
        };
    }

    /// How many a second, from when the first began to when the last ended.
    pub(super) fn per_second(&self) -> f64 {
        let seconds = self.span.map_or(0.0, |(first, last)| last.saturating_sub(first).as_secs_f64());
        if seconds > 0.0 { (self.done as f64 / seconds * 10.0).round() / 10.0 } else { 0.0 }
    }
}

fn cannot_count(fault: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::BenchFailed { step: "keep its figures", source: std::io::Error::other(fault) }
}

type Share = [Series; Operation::ALL.len()];

/// Everything that is measured.
#[derive(Debug)]
pub(super) struct Figures(Vec<Mutex<Share>>);

impl Figures {
    pub(super) fn new() -> Result<Self, Error> {
        let share = || -> Result<_, Error> {
            let series = Series::new()?;
            Ok(Mutex::new(std::array::from_fn(|_| series.clone())))
        };
        (0..SHARES).map(|_| share()).collect::<Result<_, _>>().map(Self)
    }

    fn change(&self, worker: usize, operation: Operation, change: impl FnOnce(&mut Series)) {
        let mut share = self.0[worker % SHARES].lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut share[operation as usize]);
    }

    /// It was done, and ended `at` after the start. It is timed when that says something.
    pub(super) fn done(
        &self,
        worker: usize,
        operation: Operation,
        at: Duration,
        took: Duration,
        timed: bool,
    ) {
        self.change(worker, operation, |series| {
            series.done += 1;
            series.widen(Some((at.saturating_sub(took), at)));
            if timed {
                let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
                // It grows with what it is told, so that this does not fail.
                let _ = series.times.record(us);
            }
        });
    }

    /// A try failed.
    pub(super) fn missed(&self, worker: usize, operation: Operation, error: &ClientError) {
        self.change(worker, operation, |series| *series.errors.entry(kind(error)).or_default() += 1);
    }

    /// It is tried again.
    pub(super) fn retried(&self, worker: usize, operation: Operation) {
        self.change(worker, operation, |series| series.retries += 1);
    }

    /// It was given up.
    pub(super) fn failed(&self, worker: usize, operation: Operation) {
        self.change(worker, operation, |series| series.failed += 1);
    }

    /// All shares added up, in the order of [`Operation::ALL`].
    pub(super) fn sum(&self) -> Result<Share, Error> {
        let empty = Series::new()?;
        let mut sum: Share = std::array::from_fn(|_| empty.clone());
        for share in &self.0 {
            let share = share.lock().unwrap_or_else(PoisonError::into_inner);
            for (sum, series) in sum.iter_mut().zip(share.iter()) {
                sum.add(series)?;
            }
        }
        Ok(sum)
    }
}

/// What kind of failure it is, in a few words that do not grow in number with the requests.
fn kind(error: &ClientError) -> String {
    match error {
        ClientError::Refused { status, body, .. } => answered(*status, body),
        ClientError::Unavailable { failures, .. } => match failures.first().map(|failure| &failure.reason) {
            Some(Reason::Unreachable { .. }) => "unreachable".to_owned(),
            Some(Reason::Broken { .. }) => "connection broken".to_owned(),
            Some(Reason::Busy { status, body }) => answered(*status, body),
            _ => "no answer in time".to_owned(),
        },
        ClientError::InvalidAnswer { .. } => "invalid answer".to_owned(),
        _ => "other".to_owned(),
    }
}

fn answered(status: u16, body: &ErrorBody) -> String {
    let word = body.code.filter(|code| *code != ErrorCode::Unknown);
    match word.and_then(|code| serde_json::to_value(code).ok()) {
        Some(serde_json::Value::String(word)) => format!("{status} {word}"),
        _ => status.to_string(),
    }
}

/// Whether another try may do better.
pub(super) fn is_final(error: &ClientError) -> bool {
    !matches!(error, ClientError::Unavailable { .. } | ClientError::Unsure { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_shares_hold_is_added_up() {
        let figures = Figures::new().expect("figures");
        let ms = Duration::from_millis;
        for worker in 0..100_usize {
            let at = ms(worker as u64 + 10);
            figures.done(worker, Operation::Claim, at, ms(10), worker % 2 == 0);
        }
        figures.retried(3, Operation::Claim);
        figures.failed(4, Operation::Enqueue);
        let sum = figures.sum().expect("a sum");
        let [enqueue, claim, ..] = &sum;
        assert_eq!((enqueue.done, enqueue.failed, enqueue.per_second()), (0, 1, 0.0));
        assert_eq!((claim.done, claim.times.len(), claim.retries), (100, 50, 1));
        assert_eq!(claim.span, Some((ms(0), ms(109))));
        assert_eq!(claim.per_second(), 917.4);
        assert!(claim.times.max().abs_diff(10_000) <= 10, "{}", claim.times.max());
    }

    #[test]
    fn failures_are_told_apart_by_what_answered_and_how() {
        let body = |code| ErrorBody { error: "x".into(), code, details: None };
        let refused = |code| ClientError::Refused { status: 409, body: body(code), request_id: "r".into() };
        assert_eq!(kind(&refused(Some(ErrorCode::StaleFence))), "409 stale_fence");
        assert_eq!(kind(&refused(Some(ErrorCode::Unknown))), "409");
        assert_eq!(kind(&refused(None)), "409");
        let unavailable = |reason| ClientError::Unavailable {
            request: "r".into(),
            waited: Duration::ZERO,
            failures: vec![skyclaw_client::Failure { url: "u".into(), reason }],
            key: None,
            request_id: "r".into(),
        };
        let busy = Reason::Busy { status: 503, body: body(Some(ErrorCode::Overloaded)) };
        assert_eq!(kind(&unavailable(busy)), "503 overloaded");
        assert_eq!(kind(&unavailable(Reason::TimedOut)), "no answer in time");
        assert!(is_final(&refused(None)) && !is_final(&unavailable(Reason::TimedOut)));
    }
}
