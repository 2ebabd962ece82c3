//! Who brought something about, as far as that can be told. (Ours.)

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{NodeId, ScheduleId};

/// Who brought something about. Every field says how far it can be trusted: whoever has the token of the mesh can state
/// any name, and nothing else of a client is known but that it had the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Actor {
    /// What it is.
    pub kind: ActorKind,
    /// What it calls itself (`x-skyclaw-actor`, or `by` in the body). Stated, not proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stated: Option<String>,
    /// The label of the public key that it has shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The schedule whose time had come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_id: Option<ScheduleId>,
    /// The coordinator that took the request in, or that did it of its own accord.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeId>,
    /// The name of the request, which that coordinator's log has as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// What brought something about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ActorKind {
    /// Somebody with the token of the mesh.
    Client,
    /// Somebody with a key of the public API.
    Public,
    /// A schedule.
    Schedule,
    /// A coordinator of its own accord: a lease ran out, a time has passed.
    Coordinator,
    /// A word of a newer version.
    #[serde(other)]
    Unknown,
}

impl Actor {
    /// One of whom nothing more is known.
    #[must_use]
    pub fn new(kind: ActorKind) -> Self {
        Self { kind, stated: None, label: None, schedule_id: None, node_id: None, request_id: None }
    }

    /// A schedule.
    #[must_use]
    pub fn of_schedule(id: &ScheduleId) -> Self {
        Self { schedule_id: Some(id.clone()), ..Self::new(ActorKind::Schedule) }
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn approx_bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let ids = self.schedule_id.as_ref().map_or(0, |id| id.as_str().len())
            + self.node_id.as_ref().map_or(0, |id| id.as_str().len());
        64 + text(&self.stated) + text(&self.label) + text(&self.request_id) + ids
    }
}

/// In a few words, for people.
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |what: &str, id: Option<&str>, f: &mut fmt::Formatter<'_>| match id {
            Some(id) => write!(f, "{what} {id}"),
            None => write!(f, "a {what}"),
        };
        match self.kind {
            ActorKind::Client => match &self.stated {
                Some(name) => write!(f, "{name} (as stated)"),
                None => f.write_str("a client"),
            },
            ActorKind::Public => known("public key", self.label.as_deref(), f),
            ActorKind::Schedule => known("schedule", self.schedule_id.as_ref().map(ScheduleId::as_str), f),
            ActorKind::Coordinator => known("coordinator", self.node_id.as_ref().map(NodeId::as_str), f),
            ActorKind::Unknown => f.write_str("somebody"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_only_stated_is_shown_as_such() {
        let client = Actor { stated: Some("ann@laptop".into()), ..Actor::new(ActorKind::Client) };
        let public = Actor { label: Some("ann".into()), ..Actor::new(ActorKind::Public) };
        let node = Actor { node_id: NodeId::parse("a").ok(), ..Actor::new(ActorKind::Coordinator) };
        let shown = [client, public, node, Actor::new(ActorKind::Client), Actor::new(ActorKind::Unknown)];
        assert_eq!(
            shown.map(|actor| actor.to_string()),
            ["ann@laptop (as stated)", "public key ann", "coordinator a", "a client", "somebody"]
        );
    }

    #[test]
    fn a_kind_of_a_newer_version_is_read_as_unknown() {
        let read: Actor = serde_json::from_str(r#"{"kind": "robot", "badge": 7}"#).expect("an actor");
        assert_eq!(read, Actor::new(ActorKind::Unknown));
        let text = serde_json::to_string(&Actor::new(ActorKind::Coordinator)).expect("JSON");
        assert_eq!(text, r#"{"kind":"coordinator"}"#);
    }
}
