//! Points in time, in milliseconds since the epoch, UTC.

use std::fmt;
use std::time::Duration;

use jiff::tz::Offset;
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

    /// This time and `duration` less.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self::from_millis(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
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

    /// The time as text. Every answer has several of these, and most of a printer's work is to see what it is to
    /// print.
    fn text(self) -> Result<[u8; 24], jiff::Error> {
        let time = Offset::UTC.to_datetime(jiff::Timestamp::from_millisecond(self.0)?);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        put(&mut text[0..4], time.year().unsigned_abs());
        for (at, number) in
            [(5, time.month()), (8, time.day()), (11, time.hour()), (14, time.minute()), (17, time.second())]
        {
            put(&mut text[at..at + 2], number.unsigned_abs().into());
        }
        put(&mut text[20..23], time.millisecond().unsigned_abs());
        Ok(text)
    }
}

/// Writes the last digits of a number.
fn put(digits: &mut [u8], mut number: u16) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789"[usize::from(number % 10)];
        number /= 10;
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text().map_err(|_| fmt::Error)?;
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
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
            // As `Display`, without the detour through a formatter.
            let text = self.text().map_err(serde::ser::Error::custom)?;
            serializer.serialize_str(std::str::from_utf8(&text).map_err(serde::ser::Error::custom)?)
        } else {
            serializer.serialize_i64(self.0)
        }
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for Timestamp {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        crate::openapi::time("A point in time: RFC 3339 in UTC, with milliseconds and `Z`.")
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Timestamp {
    fn name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
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
    fn a_time_is_written_as_the_library_writes_it() {
        const DAY: i64 = 86_400_000;
        // Every day of a year with a leap day and of one without, at another time of day each.
        let days = (0..800).map(|day| 1_704_067_200_000 + day * (DAY + 61_037));
        let far = [RANGE_MS.start(), RANGE_MS.end()].map(|end| *end).into_iter();
        for ms in days.chain(far).chain([-1, 0, 951_782_399_999, 4_107_542_400_000]) {
            let by_library = jiff::Timestamp::from_millisecond(ms).expect("a time");
            assert_eq!(Timestamp::from_millis(ms).to_string(), format!("{by_library:.3}"));
        }
    }

    #[test]
    fn what_is_beyond_the_ends_of_time_is_moved_to_them() {
        let time = Timestamp::from_millis(5000);
        assert_eq!(time.minus(Duration::from_secs(2)), Timestamp::from_millis(3000));
        assert_eq!(time.minus(Duration::MAX), Timestamp::from_millis(i64::MIN));
        assert_eq!(time.plus(Duration::MAX), Timestamp::from_millis(i64::MAX));
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
