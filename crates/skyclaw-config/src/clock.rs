//! The one place that reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use skyclaw_proto::Timestamp;

/// The time now, to the millisecond.
#[must_use]
pub fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "this is the one clock")]
    let now = SystemTime::now();
    let millis = match now.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    };
    Timestamp::from_millis(millis)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_clock_shows_a_time_after_this_was_written() {
        assert!(super::now().to_string().as_str() > "2025");
    }
}
