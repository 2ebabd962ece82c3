//! What happened to a job, bounded.
//!
//! The first events tell how it began, the newest where it stands: of too many, the oldest between those
//! are dropped, and a mark says how many there were.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skyclaw_proto::limits::{MAX_EVENT_DETAIL_LEN, MAX_JOB_EVENT_BYTES, MAX_JOB_EVENTS};
use skyclaw_proto::{Actor, HostId, Timestamp, record};

/// How many of the first events are never dropped.
const FIRST: usize = 8;
/// The kind of the mark that stands for those that were.
const DROPPED: &str = "dropped";
/// The kind of the event that a job begins with.
pub(crate) const SUBMITTED: &str = "submitted";
/// What an event takes beside its texts.
const FIXED_BYTES: usize = 64;

/// Something that happened to a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, by the clock of who tells it.
    pub at: Timestamp,
    /// What.
    pub kind: Box<str>,
    /// More about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Box<str>>,
    /// On which host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// Under which lease; 0 when under none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fence: u64,
    /// Who brought it about, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Arc<Actor>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(fence: &u64) -> bool {
    *fence == 0
}

/// What happened to a job, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    events: Vec<Event>,
    /// How many are left out after the first, and when the last of them was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dropped: Option<(u64, Timestamp)>,
}

impl Event {
    /// An event of the coordinators' own.
    pub(crate) fn new(at: Timestamp, kind: &str, detail: impl Into<String>) -> Self {
        let mut detail: String = detail.into();
        detail.truncate(detail.floor_char_boundary(MAX_EVENT_DETAIL_LEN));
        let detail = Some(detail.into_boxed_str()).filter(|detail| !detail.is_empty());
        Self { at, kind: kind.into(), detail, host: None, fence: 0, by: None }
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn approx_bytes(&self) -> usize {
        let host = self.host.as_ref().map_or(0, |host| host.as_str().len());
        let by = self.by.as_ref().map_or(0, |by| by.approx_bytes());
        FIXED_BYTES + self.kind.len() + self.detail.as_ref().map_or(0, |detail| detail.len()) + host + by
    }
}

impl From<record::Event> for Event {
    fn from(event: record::Event) -> Self {
        Self {
            at: event.at,
            kind: event.kind.into(),
            detail: event.detail.map(Into::into),
            host: event.host_id,
            fence: event.fence.unwrap_or(0),
            by: event.by.map(Arc::new),
        }
    }
}

impl From<&Event> for record::Event {
    fn from(event: &Event) -> Self {
        Self {
            at: event.at,
            kind: event.kind.to_string(),
            detail: event.detail.as_deref().map(str::to_owned),
            host_id: event.host.clone(),
            fence: (event.fence != 0).then_some(event.fence),
            by: event.by.as_deref().cloned(),
        }
    }
}

impl History {
    /// Adds an event, and drops what there is too much of.
    pub fn push(&mut self, event: Event) {
        self.events.push(event);
        while self.events.len() > MAX_JOB_EVENTS || self.approx_bytes() > MAX_JOB_EVENT_BYTES {
            // The newest one stays whatever it takes.
            if self.events.len() <= FIRST + 1 {
                return;
            }
            let gone = self.events.remove(FIRST);
            let before = self.dropped.map_or(0, |(count, _)| count);
            self.dropped = Some((before + 1, gone.at));
        }
    }

    /// Adds what a host tells of a run, unless it was told already: a host tells how a run began while it goes
    /// on, and all of it with its end.
    pub fn push_told(&mut self, event: Event) {
        let same = |known: &Event| {
            (known.fence, &known.host, &known.kind, &known.detail)
                == (event.fence, &event.host, &event.kind, &event.detail)
        };
        if !self.events.iter().any(same) {
            self.push(event);
        }
    }

    /// What happened, oldest first, with a mark where something is left out.
    pub fn events(&self) -> impl Iterator<Item = Event> {
        let mark =
            self.dropped.map(|(count, at)| Event::new(at, DROPPED, format!("{count} events are left out")));
        let split = FIRST.min(self.events.len());
        self.events[..split].iter().cloned().chain(mark).chain(self.events[split..].iter().cloned())
    }

    /// What happened, newest first, as far as it is kept.
    pub(crate) fn newest(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().rev()
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn approx_bytes(&self) -> usize {
        self.events.iter().map(Event::approx_bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(n: usize, detail: usize) -> Event {
        Event::new(
            Timestamp::from_millis(i64::try_from(n).unwrap_or(0)),
            &format!("k{n}"),
            "x".repeat(detail),
        )
    }

    proptest! {
        #[test]
        fn whatever_is_told_stays_within_bounds_and_ends_with_the_newest(
            details in prop::collection::vec(0usize..=MAX_EVENT_DETAIL_LEN, 1..200)
        ) {
            let mut history = History::default();
            for (n, detail) in details.iter().enumerate() {
                history.push(event(n, *detail));
                prop_assert!(history.events.len() <= MAX_JOB_EVENTS);
                prop_assert!(history.approx_bytes() <= MAX_JOB_EVENT_BYTES);
                prop_assert_eq!(history.events().last(), Some(event(n, *detail)));
            }
            let dropped = history.dropped.map_or(0, |(count, _)| count);
            prop_assert_eq!(history.events.len() as u64 + dropped, details.len() as u64);
            let first: Vec<_> = history.events().take(FIRST).map(|event| event.kind).collect();
            let want: Vec<Box<str>> = (0..details.len().min(FIRST)).map(|n| format!("k{n}").into()).collect();
            prop_assert_eq!(first, want);
        }
    }

    #[test]
    fn what_a_host_tells_twice_of_a_run_is_kept_once() {
        let told = |at, fence, kind: &str| Event {
            fence,
            ..Event::new(Timestamp::from_millis(at), kind, "process 7")
        };
        let mut history = History::default();
        for event in
            [told(1, 1, "started"), told(2, 1, "started"), told(2, 1, "killed"), told(3, 2, "started")]
        {
            history.push_told(event);
        }
        let kept: Vec<_> = history.events().map(|event| (event.at.as_millis(), event.fence)).collect();
        assert_eq!(kept, [(1, 1), (2, 1), (3, 2)]);
    }

    #[test]
    fn a_mark_stands_where_something_is_left_out() {
        let mut history = History::default();
        (0..MAX_JOB_EVENTS + 3).for_each(|n| history.push(event(n, 0)));
        let shown: Vec<_> = history.events().collect();
        assert_eq!(shown.len(), MAX_JOB_EVENTS + 1);
        assert_eq!(
            (&*shown[FIRST].kind, shown[FIRST].detail.as_deref()),
            ("dropped", Some("3 events are left out"))
        );
        assert_eq!(&*shown[FIRST + 1].kind, "k11");
    }

    #[test]
    fn a_detail_that_is_too_long_is_cut_between_characters() {
        let event = Event::new(Timestamp::EPOCH, "k", "ü".repeat(MAX_EVENT_DETAIL_LEN));
        assert_eq!(event.detail.map(|detail| detail.len()), Some(MAX_EVENT_DETAIL_LEN));
    }
}
