//! When a job is to be run, and how often, as flags of a submission.

use std::time::Duration;

use clap::Args;
use skyclaw_config::clock;
use skyclaw_proto::Timestamp;
use skyclaw_proto::limits::MAX_ATTEMPTS;
use skyclaw_proto::request::{EnqueueJobBody, RetryBody};

use crate::arguments;

/// When a job is to be run, and how often.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// How long it may wait for a host before it expires, such as 10m
    #[arg(long, value_name = "DURATION", value_parser = arguments::duration)]
    ttl: Option<Duration>,
    /// When it can be run at the earliest: a time such as 2026-01-31T08:00:00Z, or from now on, such as 10m
    #[arg(long, value_name = "WHEN", value_parser = when)]
    not_before: Option<When>,
    /// How many runs may fail or be lost before the job has failed [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_ATTEMPTS)))]
    max_attempts: Option<u32>,
    /// How long it waits after the first run that failed; twice as long after each further one [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = arguments::duration, requires = "max_attempts")]
    backoff: Option<Duration>,
    /// How long it waits between two runs at most [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = arguments::duration, requires = "max_attempts")]
    max_backoff: Option<Duration>,
    /// How long its record is kept after its end, such as 90d; 0s for hardly at all [default: up to the coordinators]
    #[arg(long, value_name = "DURATION", value_parser = retain)]
    retain: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    At(Timestamp),
    In(Duration),
}

fn when(text: &str) -> Result<When, String> {
    match (Timestamp::parse(text), arguments::duration(text)) {
        (Ok(time), _) => Ok(When::At(time)),
        (_, Ok(time)) => Ok(When::In(time)),
        (Err(_), Err(_)) => {
            Err("must be a time such as 2026-01-31T08:00:00Z, or a span of time such as 10m".into())
        }
    }
}

fn retain(text: &str) -> Result<Duration, String> {
    match text {
        "0" | "0s" => Ok(Duration::ZERO),
        _ => arguments::duration(text),
    }
}

impl PlanArgs {
    /// The submission with what these say in its place.
    pub(super) fn put(self, body: EnqueueJobBody) -> EnqueueJobBody {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let retry = self.max_attempts.map(|max_attempts| RetryBody {
            max_attempts: Some(max_attempts),
            backoff_ms: self.backoff.map(ms),
            max_backoff_ms: self.max_backoff.map(ms),
        });
        let not_before = self.not_before.map(|when| match when {
            When::At(time) => time,
            When::In(time) => clock::now().plus(time),
        });
        EnqueueJobBody {
            ttl_ms: self.ttl.map(ms),
            not_before: not_before.map(|time| time.to_string()),
            retry,
            retain_ms: self.retain.map(ms),
            ..body
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_may_be_kept_for_no_time_at_all() {
        assert_eq!(retain("0s"), Ok(Duration::ZERO));
        assert_eq!(retain("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert!(retain("-1").is_err() && retain("").is_err());
    }

    #[test]
    fn a_job_is_for_a_time_or_from_now_on() {
        assert_eq!(when("1970-01-01T00:00:01Z"), Ok(When::At(Timestamp::from_millis(1000))));
        assert_eq!(when("1970-01-01T01:00:00+01:00"), Ok(When::At(Timestamp::EPOCH)));
        assert_eq!(when("10m"), Ok(When::In(Duration::from_secs(600))));
        assert!(when("tomorrow").is_err() && when("").is_err());
    }
}
