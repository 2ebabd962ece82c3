//! When a job is to be run, how often, and how long it is remembered.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{JobId, Timestamp, limits};

/// When a job is to be run, and how often. What is absent is as with any job: at once, without an end to its
/// waiting, and once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Plan {
    /// How long it may wait for a host, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// It is not claimed before then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// How often it is tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// How long its record is kept after its end, in milliseconds; as long as any other when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain_ms: Option<u64>,
}

/// How often a job is tried whose runs fail, and how long it waits in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Retry {
    /// How many runs may fail or be lost before the job has failed; 1 to [`limits::MAX_ATTEMPTS`].
    pub max_attempts: u32,
    /// How long it waits after the first run that failed, in milliseconds; twice as long after each further one.
    pub backoff_ms: u64,
    /// How long it waits at most, in milliseconds.
    pub max_backoff_ms: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: 1,
            backoff_ms: limits::DEFAULT_BACKOFF_MS,
            max_backoff_ms: limits::DEFAULT_MAX_BACKOFF_MS,
        }
    }
}

impl Plan {
    /// This plan if it says anything: most jobs have none, and pay for none.
    #[must_use]
    pub fn kept(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn approx_bytes(&self) -> usize {
        192
    }
}

impl Retry {
    /// How long a job waits after so many runs of it failed: three quarters to the whole of the backoff, which
    /// doubles from one to the next up to its bound. Which part of the last quarter it is follows from the job's
    /// id and the number: it is the same wherever it is computed, in every version, and differs between jobs.
    #[must_use]
    pub fn backoff(&self, job: &JobId, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(63);
        let whole = self.backoff_ms.saturating_mul(1 << doublings).min(self.max_backoff_ms);
        let part = spread(job.as_str().as_bytes(), failures) % (whole / 4 + 1);
        Duration::from_millis(whole - part)
    }
}

/// A number that looks like any other: FNV-1a over the bytes, then the last steps of SplitMix64.
fn spread(bytes: &[u8], number: u32) -> u64 {
    let number = number.to_le_bytes();
    let all = bytes.iter().chain(&number);
    let hash = all.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> JobId {
        JobId::parse(text).expect("an id")
    }

    #[test]
    fn a_backoff_doubles_up_to_its_bound_and_is_shorter_by_a_quarter_at_most() {
        let retry = Retry { max_attempts: 100, backoff_ms: 1000, max_backoff_ms: 60_000 };
        for job in (0..50).map(|n| id(&format!("job_{n}"))) {
            for failures in 1..=100 {
                let whole = if failures > 6 { 60_000 } else { 1000 << (failures - 1) };
                let wait = retry.backoff(&job, failures).as_millis();
                assert!(wait <= whole && wait >= whole * 3 / 4, "{wait} of {whole} after {failures}");
            }
        }
    }

    #[test]
    fn jobs_that_failed_at_once_do_not_come_back_at_once() {
        let retry = Retry { backoff_ms: 60_000, ..Retry::default() };
        let waits: std::collections::BTreeSet<_> =
            (0..1000).map(|n| retry.backoff(&id(&format!("job_{n}")), 1)).collect();
        assert!(waits.len() > 900, "{} of 1000 differ", waits.len());
    }

    #[test]
    fn every_version_waits_equally_long() {
        let retry = Retry::default();
        let waits = [1, 2, 3, 60].map(|n| retry.backoff(&id("job_1"), n).as_millis());
        expect_test::expect!["[762, 1548, 3098, 287208]"].assert_eq(&format!("{waits:?}"));
    }

    #[test]
    fn no_backoff_is_none_and_the_longest_does_not_overflow() {
        let none = Retry { backoff_ms: 0, ..Retry::default() };
        assert_eq!(none.backoff(&id("j"), 7), Duration::ZERO);
        let long = Retry { backoff_ms: u64::MAX, max_backoff_ms: u64::MAX, max_attempts: 100 };
        assert!(long.backoff(&id("j"), u32::MAX) >= Duration::from_millis(u64::MAX / 4 * 3));
    }

    #[test]
    fn a_plan_that_says_nothing_takes_no_room() {
        assert_eq!(Plan::default().kept(), None);
        assert_eq!(serde_json::to_string(&Plan::default()).expect("json"), "{}");
        assert!(Plan { ttl_ms: Some(1), ..Plan::default() }.kept().is_some());
    }
}
