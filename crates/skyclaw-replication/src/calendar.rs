//! At which times a schedule is due: cron expressions in time zones.
//!
//! This is the one place that knows of calendars, and it is asked by who proposes alone: what it says travels in
//! the command. So coordinators of different versions, which may know different rules about a zone, agree all
//! the same. The rules are those built into this program, never those of the machine.
//!
//! Where clocks are put forward, a time of day that does not exist is the first moment after the gap. Where they
//! are put back, a time of day that exists twice is the first of the two; an expression that repeats by itself
//! (`*`, or a range of minutes or hours) goes on through both.

use std::sync::LazyLock;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Zoned;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use skyclaw_proto::{Invalid, Timestamp};

/// The rules of all zones, as this program was built with them.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
/// Most times that are counted one by one of those that were missed.
const COUNTED: u64 = 1000;

/// The times of a schedule.
#[derive(Debug, Clone)]
pub(crate) struct Calendar {
    cron: Cron,
    zone: TimeZone,
}

/// What is to be done about times that have come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    /// The time that a job is submitted for.
    pub(crate) due: Option<Timestamp>,
    /// How many have passed without one.
    pub(crate) missed: u64,
    /// The time that comes next.
    pub(crate) next_at: Option<Timestamp>,
}

impl Calendar {
    /// Reads an expression of five fields, or of six with seconds before the others, or a name such as
    /// `@daily`; and the IANA name of a time zone.
    ///
    /// # Errors
    /// The field, `cron` or `timeZone`, that is not understood.
    pub(crate) fn new(cron: &str, zone: &str) -> Result<Self, Invalid> {
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(cron).map_err(|error| {
            const SHAPE: &str = "must be minute, hour, day of month, month and day of week, with seconds before \
                                 them if wanted, or a name such as @daily";
            let error = error.to_string();
            let fault = error.rsplit(": ").next().unwrap_or(&error).trim_end_matches('.');
            Invalid::new("cron", format!("{SHAPE}: {fault}"))
        })?;
        let zone = ZONES.get(zone).map_err(|_| {
            let fault = "must be the name of an IANA time zone, such as UTC or Europe/Berlin";
            Invalid::new("timeZone", format!("{fault}: {zone} is none"))
        })?;
        Ok(Self { cron, zone })
    }

    /// The name of the zone, as the database writes it.
    #[must_use]
    pub(crate) fn zone(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// The first time after this one; `None` when none ever comes. To find that none does takes long: some tens
    /// of milliseconds.
    #[must_use]
    pub(crate) fn after(&self, at: Timestamp) -> Option<Timestamp> {
        let next = self.cron.find_next_occurrence(&self.zoned(at)?, false).ok()?;
        Some(Timestamp::from_millis(next.timestamp().as_millisecond())).filter(|next| *next > at)
    }

    /// The last time up to this one.
    fn until(&self, at: Timestamp) -> Option<Timestamp> {
        let last = self.cron.find_previous_occurrence(&self.zoned(at)?, true).ok()?;
        Some(Timestamp::from_millis(last.timestamp().as_millisecond())).filter(|last| *last <= at)
    }

    /// The second that a time lies in: no expression names anything finer.
    fn zoned(&self, at: Timestamp) -> Option<Zoned> {
        let second = jiff::Timestamp::from_second(at.as_millis().div_euclid(1000)).ok()?;
        Some(second.to_zoned(self.zone.clone()))
    }

    /// What is to be done now about a time that was waited for and those after it: of all that have come, the
    /// newest is made up for, unless it is too late for that.
    pub(crate) fn due(&self, at: Timestamp, now: Timestamp, within: Duration) -> Due {
        let (mut newest, mut missed) = (at, 0);
        let mut next_at = self.after(newest);
        while let Some(next) = next_at.filter(|next| *next <= now) {
            missed += 1;
            newest = next;
            next_at = self.after(newest);
            if missed == COUNTED && next_at.is_some_and(|next| next <= now) {
                newest = newest.max(self.until(now).unwrap_or(newest));
                next_at = self.after(newest.max(now));
            }
        }
        let due = Some(newest).filter(|newest| now.since(*newest) <= within);
        Due { due, missed: missed + u64::from(due.is_none()), next_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn calendar(cron: &str, zone: &str) -> Calendar {
        Calendar::new(cron, zone).expect("a calendar")
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("a time")
    }

    /// The times after another, in local time with the offset from UTC.
    fn times(cron: &str, zone: &str, from: &str, count: usize, want: &Expect) {
        let calendar = calendar(cron, zone);
        let mut shown = String::new();
        let mut last = at(from);
        for _ in 0..count {
            last = calendar.after(last).expect("another");
            let local = calendar.zoned(last).expect("a time").strftime("%a %F %T %:z").to_string();
            shown.push_str(&format!("{local}\n"));
        }
        want.assert_eq(&shown);
    }

    #[test]
    fn a_time_of_day_is_that_of_the_zone_in_summer_and_winter() {
        let want = expect![[r"
            Sat 2026-03-28 03:30:00 +01:00
            Sun 2026-03-29 03:30:00 +02:00
            Mon 2026-03-30 03:30:00 +02:00
        "]];
        times("30 3 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3, &want);
    }

    #[test]
    fn a_time_of_day_that_does_not_exist_is_the_first_moment_after_the_gap() {
        let want = expect![[r"
            Sat 2026-03-28 02:30:00 +01:00
            Sun 2026-03-29 03:00:00 +02:00
            Mon 2026-03-30 02:30:00 +02:00
        "]];
        times("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3, &want);
    }

    #[test]
    fn a_time_of_day_that_exists_twice_is_the_first_of_the_two() {
        let want = expect![[r"
            Sat 2026-10-24 02:30:00 +02:00
            Sun 2026-10-25 02:30:00 +02:00
            Mon 2026-10-26 02:30:00 +01:00
        "]];
        times("30 2 * * *", "Europe/Berlin", "2026-10-23T12:00:00Z", 3, &want);
    }

    #[test]
    fn what_repeats_by_itself_neither_stops_nor_doubles_where_clocks_change() {
        let want = expect![[r"
            Sun 2026-03-29 01:40:00 +01:00
            Sun 2026-03-29 03:00:00 +02:00
            Sun 2026-03-29 03:20:00 +02:00
        "]];
        times("*/20 * * * *", "Europe/Berlin", "2026-03-29T00:20:00Z", 3, &want);
        let want = expect![[r"
            Sun 2026-10-25 02:00:00 +02:00
            Sun 2026-10-25 02:30:00 +02:00
            Sun 2026-10-25 02:00:00 +01:00
            Sun 2026-10-25 02:30:00 +01:00
            Sun 2026-10-25 03:00:00 +01:00
        "]];
        times("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", 5, &want);
    }

    #[test]
    fn seconds_stand_before_the_other_fields_and_weekdays_beside_days_of_the_month() {
        let want = expect![[r"
            Thu 2026-01-01 00:00:20 +00:00
            Thu 2026-01-01 00:00:40 +00:00
        "]];
        times("*/20 * * * * *", "UTC", "2026-01-01T00:00:00.999Z", 2, &want);
        let want = expect![[r"
            Mon 2026-01-05 09:00:00 -05:00
            Mon 2026-01-12 09:00:00 -05:00
            Thu 2026-01-15 09:00:00 -05:00
        "]];
        times("0 9 15 * MON", "America/New_York", "2026-01-01T15:00:00Z", 3, &want);
        let want = expect![[r"
            Sat 2026-01-31 00:00:00 +00:00
            Sat 2026-02-28 00:00:00 +00:00
        "]];
        times("0 0 L * *", "UTC", "2026-01-01T00:00:00Z", 2, &want);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let fault = |cron: &str, zone: &str| Calendar::new(cron, zone).expect_err("a fault");
        for cron in
            ["", "* * * *", "* * * * * * *", "61 * * * *", "* * * * FOO", "@reboot", "*/0 * * * *", "ü"]
        {
            assert_eq!(fault(cron, "UTC").field, "cron", "{cron}");
        }
        assert!(
            fault("61 * * * *", "UTC")
                .fault
                .ends_with("if wanted, or a name such as @daily: Number out of bounds")
        );
        for zone in ["", "Nowhere/Atall", "+02:00", "../../etc/passwd", "localtime"] {
            assert_eq!(fault("* * * * *", zone).field, "timeZone", "{zone}");
        }
        assert_eq!(calendar("@daily", "europe/berlin").zone(), "Europe/Berlin");
        assert_eq!(calendar("0 0 31 2 *", "UTC").after(at("2026-01-01T00:00:00Z")), None);
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_time_that_has_just_come_is_due_and_none_is_missed() {
        let now = at("2026-01-01T00:01:00.003Z");
        let due = calendar("* * * * *", "UTC").due(at("2026-01-01T00:01:00Z"), now, HOUR);
        let next_at = Some(at("2026-01-01T00:02:00Z"));
        assert_eq!(due, Due { due: Some(at("2026-01-01T00:01:00Z")), missed: 0, next_at });
    }

    #[test]
    fn of_times_that_were_missed_the_newest_is_made_up_for_unless_it_is_too_late() {
        let (first, now) = (at("2026-01-01T00:10:00Z"), at("2026-01-01T00:55:30Z"));
        let minutely = calendar("*/10 * * * *", "UTC");
        let next_at = Some(at("2026-01-01T01:00:00Z"));
        let due = Some(at("2026-01-01T00:50:00Z"));
        assert_eq!(minutely.due(first, now, HOUR), Due { due, missed: 4, next_at });
        let late = Duration::from_secs(60);
        assert_eq!(minutely.due(first, now, late), Due { due: None, missed: 5, next_at });
    }

    #[test]
    fn a_gap_of_years_is_passed_over_at_once() {
        let (first, now) = (at("2016-01-01T00:00:01Z"), at("2026-01-01T00:00:00.500Z"));
        let due = calendar("* * * * * *", "UTC").due(first, now, HOUR);
        assert_eq!(due.due, Some(at("2026-01-01T00:00:00Z")));
        assert_eq!((due.missed, due.next_at), (COUNTED, Some(at("2026-01-01T00:00:01Z"))));
    }
}
