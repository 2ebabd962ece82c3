//! Requests about the switch that stops everything.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::check::{labels, optional_id, optional_text};
use crate::limits;
use crate::{AgentId, Scope};

/// `POST /v1/freezes`: what fulfils all that is given is frozen; everything, when nothing is. (Ours.)
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = FreezeRequest))]
#[serde(rename_all = "camelCase", default)]
pub struct FreezeBody {
    /// With all of these labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// On behalf of this agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who asks for it, as they say themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A checked [`FreezeBody`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    /// What is frozen.
    pub scope: Scope,
    /// Why.
    pub reason: Option<String>,
    /// Who asks for it, as they say themselves.
    pub by: Option<String>,
}

impl FreezeBody {
    /// Checks the body.
    ///
    /// # Errors
    /// The first field that is not as it must be. One that is given and says nothing is a fault: taken for
    /// absent, it would freeze everything.
    pub fn check(self) -> Result<Freeze, Invalid> {
        if self.agent_id.as_ref().is_some_and(|agent| agent.trim().is_empty()) {
            return Err(Invalid::new("agentId", "must not be blank: leave it out to freeze every agent"));
        }
        if self.labels.as_ref().is_some_and(BTreeMap::is_empty) {
            return Err(Invalid::new(
                "labels",
                "must not be empty: leave it out to freeze whatever the labels",
            ));
        }
        let given = self.labels.unwrap_or_default();
        labels(&given)?;
        let agent_id = optional_id("agentId", self.agent_id.as_deref(), AgentId::parse)?;
        Ok(Freeze {
            scope: Scope { labels: given, agent_id },
            reason: optional_text("reason", self.reason, limits::MAX_REASON_LEN)?,
            by: optional_text("by", self.by, limits::MAX_NAME_LEN)?,
        })
    }
}

/// `POST /v1/freezes/:id/thaw`. (Ours.)
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ThawBody {
    /// Who asks for it, as they say themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl ThawBody {
    /// Checks the body: who asks for it.
    ///
    /// # Errors
    /// The first field that is not as it must be.
    pub fn check(self) -> Result<Option<String>, Invalid> {
        optional_text("by", self.by, limits::MAX_NAME_LEN)
    }
}
