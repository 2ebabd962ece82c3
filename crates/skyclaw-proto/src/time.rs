//! Points in time, in milliseconds since the epoch, UTC.

use std::fmt;
use std::time::Duration;

use jiff::fmt::temporal::DateTimePrinter;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time. RFC 3339 with milliseconds and `Z` in JSON, an integer in binary formats.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(i64);

/// Why a text is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be an RFC 3339 time like 2026-01-01T00:00:00.000Z")]
pub struct InvalidTimestamp;

/// The years 1 to 9998: what RFC 3339 can write with four digits, whatever the zone.
const RANGE_MS: std::ops::RangeInclusive<i64> = -62_135_596_800_000..=253_370_764_799_999;

/// How times are written in JSON.
const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));

impl Timestamp {
    /// 1970-01-01T00:00:00.000Z.
    pub const EPOCH: Self = Self(0);

    /// From milliseconds since the epoch; what is outside the years 1 to 9998 is moved to their ends.
    #[must_use]
    pub fn from_millis(ms: i64) -> Self {
        Self(ms.clamp(*RANGE_MS.start(), *RANGE_MS.end()))
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// This time and `duration` more.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long it is from `earlier` to this time; nothing when it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads an RFC 3339 time with any zone; what is finer than a millisecond is dropped.
    ///
    /// # Errors
    /// When the text is no such time.
    pub fn parse(text: &str) -> Result<Self, InvalidTimestamp> {
        let parsed: jiff::Timestamp = text.trim().parse().map_err(|_| InvalidTimestamp)?;
        Ok(Self::from_millis(parsed.as_millisecond()))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => Err(fmt::Error),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            let time = jiff::Timestamp::from_millisecond(self.0).map_err(serde::ser::Error::custom)?;
            // As `Display`, without the detour through a formatter: every answer has several of these.
            serializer.serialize_str(&PRINTER.timestamp_to_string(&time))
        } else {
            serializer.serialize_i64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
            Self::parse(&text).map_err(serde::de::Error::custom)
        } else {
            i64::deserialize(deserializer).map(Self::from_millis)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_with_milliseconds_and_z() {
        assert_eq!(Timestamp::from_millis(1_767_225_600_000).to_string(), "2026-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::from_millis(1_767_225_600_007).to_string(), "2026-01-01T00:00:00.007Z");
    }

    #[test]
    fn any_zone_and_precision_is_read() {
        let time = Timestamp::parse("2026-01-01T02:00:00.1239+02:00");
        assert_eq!(time.map(|t| t.to_string()), Ok("2026-01-01T00:00:00.123Z".into()));
        assert_eq!(Timestamp::parse("yesterday"), Err(InvalidTimestamp));
    }

    #[test]
    fn the_ends_of_time_can_be_written_and_read() {
        for ms in [i64::MIN, 0, i64::MAX] {
            let time = Timestamp::from_millis(ms);
            assert_eq!(Timestamp::parse(&time.to_string()), Ok(time));
            let json = serde_json::to_value(time).expect("encode");
            assert_eq!(json, serde_json::Value::from(time.to_string()));
            let bytes = rmp_serde::to_vec(&time).expect("encode");
            assert_eq!(rmp_serde::from_slice::<Timestamp>(&bytes).expect("decode"), time);
        }
    }
}
