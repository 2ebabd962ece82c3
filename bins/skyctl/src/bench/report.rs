//! What a bench found, for programs and for people.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use super::cleanup::Left;
use super::figures::{Operation, Series};
use super::load::Load;
use crate::error::Error;
use crate::output::{Table, say};

/// What a bench found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// The label, capability and submitter of its jobs.
    run_id: String,
    coordinators: Vec<String>,
    enqueuers: usize,
    hosts: usize,
    /// How long the payload of a job was, as JSON.
    payload_bytes: usize,
    separately: bool,
    elapsed_ms: u64,
    /// Whether it was ended by a signal.
    pub(super) interrupted: bool,
    /// Whether it was ended as nothing moved any more.
    stalled: bool,
    /// Jobs that were acknowledged.
    accepted: u64,
    /// Jobs whose completion was acknowledged.
    completed: u64,
    /// Claims that were answered with nothing.
    empty_claims: u64,
    /// Whether claims wait at the coordinator; if not, the hosts' pauses are part of `enqueueToClaimed`.
    long_poll: bool,
    operations: Vec<Measured>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_error: Option<String>,
    /// What could not be cleaned up.
    left_behind: Left,
}

/// One operation.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Measured {
    name: &'static str,
    count: u64,
    per_second: f64,
    /// Further tries, which are part of the times.
    retries: u64,
    /// Given up after all tries.
    failed: u64,
    /// Tries that failed, by kind.
    errors: BTreeMap<String, u64>,
    /// Absent when none was timed.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_us: Option<Latency>,
}

/// In microseconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Latency {
    samples: u64,
    mean: u64,
    p50: u64,
    p90: u64,
    p99: u64,
    max: u64,
}

impl Measured {
    fn new(operation: Operation, series: Series) -> Self {
        let times = &series.times;
        let latency_us = (!times.is_empty()).then(|| Latency {
            samples: times.len(),
            mean: rounded(times.mean()),
            p50: times.value_at_quantile(0.5),
            p90: times.value_at_quantile(0.9),
            p99: times.value_at_quantile(0.99),
            max: times.max(),
        });
        Self {
            name: operation.name(),
            count: series.done,
            per_second: series.per_second(),
            retries: series.retries,
            failed: series.failed,
            errors: series.errors,
            latency_us,
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean of what is positive")]
fn rounded(mean: f64) -> u64 {
    mean.round() as u64
}

/// How the load ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) elapsed: Duration,
    pub(super) interrupted: bool,
    pub(super) stalled: bool,
}

impl Report {
    pub(super) fn new(
        load: &Load,
        ended: Ended,
        coordinators: Vec<String>,
        left: Left,
    ) -> Result<Self, Error> {
        let sum = load.figures.sum()?;
        Ok(Self {
            run_id: load.run.clone(),
            coordinators,
            enqueuers: load.plan.enqueuers,
            hosts: load.plan.hosts,
            payload_bytes: load.plan.payload_bytes,
            separately: load.plan.separately,
            elapsed_ms: u64::try_from(ended.elapsed.as_millis()).unwrap_or(u64::MAX),
            interrupted: ended.interrupted,
            stalled: ended.stalled,
            accepted: load.accepted.load(Ordering::SeqCst),
            completed: load.completed.load(Ordering::SeqCst),
            empty_claims: load.empty_claims.load(Ordering::Relaxed),
            long_poll: !load.polls.load(Ordering::Relaxed),
            operations: Operation::ALL
                .into_iter()
                .zip(sum)
                .map(|(op, series)| Measured::new(op, series))
                .collect(),
            first_error: load.first_error.get().cloned(),
            left_behind: left,
        })
    }

    /// Whether all went as it should.
    pub(super) fn is_good(&self) -> bool {
        let failed: u64 = self.operations.iter().map(|operation| operation.failed).sum();
        failed == 0 && self.accepted == self.completed && !self.stalled && self.left_behind.is_nothing()
    }

    /// The operations as rows.
    pub(super) fn table(&self) -> Table {
        let header = ["OPERATION", "COUNT", "PER SECOND", "P50", "P90", "P99", "MAX", "RETRIES", "FAILED"];
        let mut table = Table::new(&header);
        for operation in self.operations.iter().filter(|operation| operation.count + operation.failed > 0) {
            let time = |of: fn(&Latency) -> u64| {
                operation.latency_us.as_ref().map_or_else(|| "-".to_owned(), |latency| shown(of(latency)))
            };
            table.row(vec![
                operation.name.to_owned(),
                operation.count.to_string(),
                format!("{:.1}", operation.per_second),
                time(|latency| latency.p50),
                time(|latency| latency.p90),
                time(|latency| latency.p99),
                time(|latency| latency.max),
                operation.retries.to_string(),
                operation.failed.to_string(),
            ]);
        }
        table
    }

    /// Says what a table has no room for.
    pub(super) fn explain(&self) {
        let bytes = self.payload_bytes;
        let seconds = Duration::from_millis(self.elapsed_ms).as_secs_f64();
        say(&format!(
            "{} of {} jobs of {bytes} bytes completed in {seconds:.1}s",
            self.completed, self.accepted
        ));
        if !self.long_poll {
            say(
                "note: claims do not wait here, so hosts pause between them (up to 100ms): that is in enqueueToClaimed",
            );
        }
        for operation in &self.operations {
            for (kind, count) in &operation.errors {
                say(&format!("{}: {count} tries failed: {kind}", operation.name));
            }
        }
        if let Some(error) = &self.first_error {
            say(&format!("the first failure: {error}"));
        }
        if self.stalled {
            say("warning: nothing moved any more, so it was ended: is the cluster frozen?");
        }
        self.left_behind.explain(&self.run_id);
    }
}

/// A time with three digits that count.
fn shown(us: u64) -> String {
    match us {
        0..1_000 => format!("{us}us"),
        1_000..1_000_000 => format!("{:.2}ms", us as f64 / 1e3),
        _ => format!("{:.2}s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_in_the_unit_that_fits() {
        assert_eq!(
            [5, 999, 1_000, 12_345, 2_500_000].map(shown),
            ["5us", "999us", "1.00ms", "12.35ms", "2.50s"]
        );
    }
}
