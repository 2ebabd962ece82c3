//! Requests about going back to a snapshot.

use serde::{Deserialize, Serialize};

use super::Invalid;
use crate::limits;

/// `POST /v1/restores/:id/commit`. (Ours.)
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, rename_all = "camelCase")]
pub struct CommitRestoreBody {
    /// Whether the snapshot may be one of another cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
    /// How long to wait for leases to be over, in milliseconds; no new ones begin meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// Who asks for it, in their own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
}

/// The last step of a restore, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitRestore {
    /// Whether the snapshot may be one of another cluster.
    pub force: bool,
    /// How long to wait for leases to be over, in milliseconds.
    pub wait_ms: u64,
    /// Who asks for it, in their own words.
    pub requested_by: Option<String>,
}

impl CommitRestoreBody {
    /// # Errors
    /// The first field that is not as it must be.
    pub fn check(self) -> Result<CommitRestore, Invalid> {
        let wait_ms = self.wait_ms.unwrap_or(0);
        if wait_ms > limits::MAX_WAIT_MS {
            return Err(Invalid::new("waitMs", format!("must be at most {}", limits::MAX_WAIT_MS)));
        }
        let requested_by = self.requested_by.map(|by| by.trim().to_owned()).filter(|by| !by.is_empty());
        if requested_by.as_ref().is_some_and(|by| by.len() > limits::MAX_NAME_LEN) {
            return Err(Invalid::new(
                "requestedBy",
                format!("must be at most {} bytes", limits::MAX_NAME_LEN),
            ));
        }
        Ok(CommitRestore { force: self.force.unwrap_or(false), wait_ms, requested_by })
    }
}
