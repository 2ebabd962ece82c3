//! Requests about the coordinators themselves.

use serde::{Deserialize, Serialize};

/// `POST /v1/network/join`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct JoinBody {
    /// The base URL of the coordinator that announces itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// `POST /v1/cluster/transfer`. (Ours.)
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct TransferBody {
    /// The member that is to lead, by node id or number; the one most up to date when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}
