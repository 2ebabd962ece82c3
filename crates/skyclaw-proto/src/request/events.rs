//! What a host tells about a run.

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::check::{bounded_text, required_host, required_word};
use crate::limits;
use crate::object;
use crate::record::Event;
use crate::{HostId, Timestamp};

/// Something that happened to a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct EventBody {
    /// When, by the host's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// What: a word of `a-z 0-9 . _ -`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// More about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// `POST /v1/jobs/:id/events`. (Ours.)
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct JobEventsBody {
    /// Who runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_id: Option<String>,
    /// The fencing token of the lease it runs under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
    /// What happened, in its order.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object::optional_list")]
    pub events: Option<Vec<EventBody>>,
}

/// A checked [`JobEventsBody`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEvents {
    /// Who runs it.
    pub host_id: HostId,
    /// The fencing token of the lease it runs under.
    pub fence: u64,
    /// What happened, in its order.
    pub events: Vec<Event>,
}

impl JobEventsBody {
    /// Checks the body.
    ///
    /// # Errors
    /// The first field that is not as it must be.
    pub fn check(self) -> Result<JobEvents, Invalid> {
        Ok(JobEvents {
            host_id: required_host(self.host_id.as_deref())?,
            fence: self.fence.ok_or_else(|| Invalid::required("fence"))?,
            events: check(self.events.ok_or_else(|| Invalid::required("events"))?)?,
        })
    }
}

/// Checks what a host tells.
pub(super) fn check(events: Vec<EventBody>) -> Result<Vec<Event>, Invalid> {
    if events.len() > limits::MAX_EVENTS_AT_ONCE {
        let most = limits::MAX_EVENTS_AT_ONCE;
        return Err(Invalid::new("events", format!("must have at most {most} entries")));
    }
    events.into_iter().enumerate().map(|(i, event)| one(&format!("events[{i}]"), event)).collect()
}

fn one(place: &str, event: EventBody) -> Result<Event, Invalid> {
    let field = format!("{place}.kind");
    let kind = required_word(&field, event.kind.as_deref(), limits::MAX_EVENT_KIND_LEN)?;
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    if !kind.bytes().all(allowed) {
        return Err(Invalid::new(field, "must be of the characters a-z 0-9 . _ -"));
    }
    if let Some(detail) = &event.detail {
        bounded_text(format_args!("{place}.detail"), detail, limits::MAX_EVENT_DETAIL_LEN)?;
    }
    Ok(Event {
        at: event.at.ok_or_else(|| Invalid::required(format!("{place}.at")))?,
        kind,
        detail: event.detail.filter(|detail| !detail.is_empty()),
        host_id: None,
        fence: None,
        by: None,
    })
}
