//! What is told of each change of anything, and the place of it among all of them. (Ours.)

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::status::status;
use crate::{Actor, AgentId, HostId, Timestamp};

/// The place of a change among all there ever were in a cluster: the index of its entry in the replicated log,
/// and its place in that entry. So it is the same at every coordinator, and no change comes between two of
/// one entry.
///
/// An index alone is the place after all of its entry: `x-skyclaw-index` of an answer is the place after what
/// that answer shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    index: u64,
    n: u32,
}

/// Why a text is no [`EventId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be the id of an event like 4711-0, or an index of the log like 4711")]
pub struct InvalidEventId;

impl EventId {
    /// Before everything.
    pub const START: Self = Self { index: 0, n: 0 };
    /// The greatest index of a log.
    const MAX_INDEX: u64 = i64::MAX.unsigned_abs();

    /// The `n`th change of an entry of the log.
    #[must_use]
    pub fn new(index: u64, n: u32) -> Self {
        Self { index: index.min(Self::MAX_INDEX), n }
    }

    /// After all changes of an entry of the log, and before those of the next.
    #[must_use]
    pub fn after(index: u64) -> Self {
        Self::new(index, u32::MAX)
    }

    /// The index of the entry.
    #[must_use]
    pub fn index(self) -> u64 {
        self.index
    }

    /// The place in the entry.
    #[must_use]
    pub fn n(self) -> u32 {
        self.n
    }

    /// Reads what [`Display`](fmt::Display) writes.
    ///
    /// # Errors
    /// When the text is none.
    pub fn parse(text: &str) -> Result<Self, InvalidEventId> {
        let (index, n) = match text.split_once('-') {
            Some((index, n)) => (index, Some(n)),
            None => (text, None),
        };
        let index: u64 = digits(index)?;
        let n = n.map_or(Ok(u32::MAX), digits)?;
        if index > Self::MAX_INDEX {
            return Err(InvalidEventId);
        }
        // "0" is before everything, for there is no entry 0.
        Ok(if index == 0 { Self::START } else { Self { index, n } })
    }
}

/// No sign, no blank, nothing but digits.
fn digits<T: FromStr>(text: &str) -> Result<T, InvalidEventId> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain { text.parse().map_err(|_| InvalidEventId) } else { Err(InvalidEventId) }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::START => f.write_str("0"),
            Self { index, n: u32::MAX } => write!(f, "{index}"),
            Self { index, n } => write!(f, "{index}-{n}"),
        }
    }
}

impl FromStr for EventId {
    type Err = InvalidEventId;
    fn from_str(text: &str) -> Result<Self, InvalidEventId> {
        Self::parse(text)
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for EventId {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        crate::openapi::place(
            "The place of a change: the index of its entry in the log, and its place in that.",
        )
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for EventId {
    fn name() -> std::borrow::Cow<'static, str> {
        "EventId".into()
    }
}

status!(
    /// What a change is about.
    NoticeKind {
        /// A job.
        Job = "job",
        /// A host.
        Host = "host",
        /// A service.
        Service = "service",
        /// A schedule.
        Schedule = "schedule",
        /// A use of the switch that stops everything.
        Freeze = "freeze",
        /// The way back to a snapshot: every record may be another.
        Restore = "restore",
        /// Records of jobs that were kept long enough, or are too many: they are no more.
        Retention = "retention",
    }
);

/// One change, in a few words: no payload, no output, no environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// Its place among all of them.
    pub id: EventId,
    /// When, by the clock of the coordinator that took the change in.
    pub at: Timestamp,
    /// What it is about.
    pub kind: NoticeKind,
    /// What happened: `queued`, `claimed`, `completed`, `registered`, `down` and so on.
    #[serde(rename = "type")]
    pub what: String,
    /// The id of the record.
    pub record_id: String,
    /// What it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The version it has now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The host that it is with, or was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_id: Option<HostId>,
    /// How often a job was claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The fencing token of its newest lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The labels of the job or service, or of what is frozen.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Who submitted the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_by: Option<String>,
    /// On whose behalf it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// Who brought the change about, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Actor>,
}

/// That what a reader of the stream asked for is not all kept: the `data` of an event `gap`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    /// What came after this was asked for.
    pub after: EventId,
    /// Everything that came after this is kept, and follows.
    pub kept_after: EventId,
    /// The oldest change that is kept, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<EventId>,
    /// Why, for people.
    pub reason: String,
}

/// The name of the event that tells of a [`Gap`].
pub const GAP_EVENT: &str = "gap";
/// The name of the event that ends a stream which was asked not to wait for more.
pub const END_EVENT: &str = "end";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written_and_places_are_in_the_order_of_the_log() {
        let ids = [
            EventId::START,
            EventId::new(1, 0),
            EventId::new(1, 7),
            EventId::after(1),
            EventId::new(2, 0),
            EventId::after(u64::MAX),
        ];
        assert!(ids.is_sorted_by(|one, next| one < next));
        for id in ids {
            assert_eq!(EventId::parse(&id.to_string()), Ok(id));
        }
        let texts: Vec<String> = ids.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["0", "1-0", "1-7", "1", "2-0", "9223372036854775807"]);
    }

    #[test]
    fn what_is_no_place_is_refused_whatever_it_is() {
        let long = "9".repeat(100_000);
        let bad = [
            "",
            "-",
            "1-",
            "-1",
            "+1",
            "1-+1",
            " 1",
            "1 ",
            "1-2-3",
            "x",
            "1.5",
            "0x1",
            "1-4294967296",
            "9223372036854775808",
            "99999999999999999999",
            "1-0\r\nid: 2",
            "é",
            &long,
        ];
        for text in bad {
            assert_eq!(EventId::parse(text), Err(InvalidEventId), "{text:.40}");
        }
    }
}
