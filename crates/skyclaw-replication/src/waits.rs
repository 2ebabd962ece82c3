//! When requests that wait for something stop waiting.
//!
//! Each that ends at a moment of its own wakes a thread for itself, and with the client's next request once more; that
//! costs more than the answer. So long waits end at moments they have in common, a little later than was asked for: then
//! one wake answers many, and what their clients ask next comes together as well (ADR 32).

use std::time::Duration;

use tokio::time::Instant;

/// No wait is prolonged by more than this part of it.
const PART: u64 = 64;
/// Nor by more milliseconds; a power of two.
const MAX_MS: u64 = 64;

/// The moments at which waits end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    /// What the moments are counted from.
    began: Instant,
}

impl Waits {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now() }
    }

    /// When a wait that begins now is over.
    pub(crate) fn end_of(&self, wait: Duration) -> Instant {
        let end = Instant::now() + wait;
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        // Powers of two, so that the moments of long waits are among those of shorter ones.
        let Some(power) = (wait_ms / PART).min(MAX_MS).checked_ilog2() else { return end };
        let apart = Duration::from_millis(1 << power).as_nanos();
        let passed = end.duration_since(self.began).as_nanos();
        let more = passed.next_multiple_of(apart) - passed;
        end + Duration::from_nanos(u64::try_from(more).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_lasts_as_long_as_asked_and_at_most_a_64th_or_64_ms_longer() {
        let waits = Waits::new();
        for wait_ms in [0, 1, 63, 64, 65, 100, 1_000, 4_095, 4_096, 30_000, 86_400_000] {
            for passing in [0, 1, 7, 1_000_003] {
                tokio::time::advance(Duration::from_micros(passing)).await;
                let wait = Duration::from_millis(wait_ms);
                let lasts = waits.end_of(wait) - Instant::now();
                let most = wait + (wait / 64).min(Duration::from_millis(64));
                assert!((wait..=most).contains(&lasts), "{wait:?} lasts {lasts:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn long_waits_that_begin_at_many_moments_end_at_few() {
        let waits = Waits::new();
        let mut ends = HashSet::new();
        for _ in 0..1_000 {
            tokio::time::advance(Duration::from_micros(1_001)).await;
            ends.extend([20_000, 30_000].map(|wait_ms| waits.end_of(Duration::from_millis(wait_ms))));
        }
        // A second of them: 16 moments for each of the two, whose first and last may hold less than the others.
        assert!(ends.len() <= 2 * 17, "{} ends", ends.len());
    }
}
