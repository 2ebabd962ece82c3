//! What a freeze covers.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::AgentId;

/// Which jobs and services are meant: those that fulfil all that is given, and all of them when nothing is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Scope {
    /// With all of these labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// On behalf of this agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
}

impl Scope {
    /// Whether it means everything.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.labels.is_empty() && self.agent_id.is_none()
    }

    /// Whether it means something with these labels, of this agent.
    #[must_use]
    pub fn covers(&self, labels: &BTreeMap<String, String>, agent: Option<&AgentId>) -> bool {
        self.agent_id.as_ref().is_none_or(|wanted| Some(wanted) == agent)
            && self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

/// For people: `everything`, or `team=a, agent x`.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return f.write_str("everything");
        }
        let labels = self.labels.iter().map(|(key, value)| format!("{key}={value}"));
        let agent = self.agent_id.iter().map(|agent| format!("agent {agent}"));
        f.write_str(&labels.chain(agent).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_covers_what_fulfils_all_of_it() {
        let labels = |text: &str| -> BTreeMap<String, String> {
            text.split_terminator(',')
                .filter_map(|pair| pair.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect()
        };
        let agent = |text: &str| AgentId::parse(text).ok();
        let scope = |pairs: &str, of: &str| Scope { labels: labels(pairs), agent_id: agent(of) };
        assert!(scope("", "").covers(&labels(""), None), "nothing given means all");
        assert!(scope("team=a", "").covers(&labels("team=a,x=y"), None));
        assert!(!scope("team=a,x=z", "").covers(&labels("team=a,x=y"), None));
        assert!(!scope("", "bot").covers(&labels(""), None));
        assert!(scope("team=a", "bot").covers(&labels("team=a"), agent("bot").as_ref()));
        assert!(!scope("team=a", "bot").covers(&labels("team=b"), agent("bot").as_ref()));
        assert_eq!(scope("team=a", "bot").to_string(), "team=a, agent bot");
        assert_eq!(scope("", "").to_string(), "everything");
    }
}
