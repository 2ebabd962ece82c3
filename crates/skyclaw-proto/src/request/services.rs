//! Requests about services: deploying, claiming, reporting.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::check::{
    arguments, capabilities, count, environment, labels, optional_id, optional_text, required_host,
    required_text,
};
use crate::limits;
use crate::payload::Env;
use crate::{AgentId, AssignmentStatus, Capabilities, HostId, ServiceId};

/// `POST /v1/services`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct DeployServiceBody {
    /// The id the client wants it to have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_id: Option<String>,
    /// The name gateways route by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A bare name or a path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<BTreeMap<String, String>>))]
    pub env: Option<Env>,
    /// How many of it should run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// What it asks of a host; `service-host` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required_capabilities: Option<Vec<String>>,
    /// For finding it again, and for freezing it. (Ours.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// On whose behalf it runs. (Ours.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
}

/// A checked [`DeployServiceBody`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployService {
    /// The id the client wants it to have.
    pub service_id: Option<ServiceId>,
    /// The name gateways route by.
    pub name: String,
    /// A bare name or a path.
    pub command: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Working directory.
    pub cwd: Option<String>,
    /// Variables.
    pub env: Option<Env>,
    /// How many of it should run.
    pub replicas: u32,
    /// What it asks of a host.
    pub required_capabilities: Capabilities,
    /// For finding it again, and for freezing it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// On whose behalf it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
}

impl DeployServiceBody {
    /// Checks the body.
    ///
    /// # Errors
    /// The first field that is not as it must be.
    pub fn check(self) -> Result<DeployService, Invalid> {
        let name = required_text("name", self.name.as_deref(), limits::MAX_NAME_LEN)?;
        let command = required_text("command", self.command.as_deref(), limits::MAX_TEXT_LEN)?;
        arguments("args", self.args.as_deref())?;
        environment("env", self.env.as_ref())?;
        let given = self.labels.unwrap_or_default();
        labels(&given)?;
        Ok(DeployService {
            labels: given,
            agent_id: optional_id("agentId", self.agent_id.as_deref(), AgentId::parse)?,
            service_id: optional_id("serviceId", self.service_id.as_deref(), ServiceId::parse)?,
            name,
            command,
            args: self.args.unwrap_or_default(),
            cwd: optional_text("cwd", self.cwd, limits::MAX_TEXT_LEN)?,
            env: self.env,
            replicas: count("replicas", self.replicas, limits::MAX_REPLICAS)?,
            required_capabilities: match self.required_capabilities {
                None => Capabilities::new(["service-host"]),
                listed => capabilities("requiredCapabilities", listed)?,
            },
        })
    }
}

/// `POST /v1/hosts/:id/services/claim`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimServiceBody {
    /// The services the host runs already, which it need not be told of again. (Ours.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<Vec<ServiceId>>,
}

/// `POST /v1/services/:id/report`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ReportServiceBody {
    /// Who runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_id: Option<String>,
    /// How it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Where it can be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Why it does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A checked [`ReportServiceBody`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportService {
    /// Who runs it.
    pub host_id: HostId,
    /// How it does.
    pub status: AssignmentStatus,
    /// Where it can be reached.
    pub endpoint: Option<String>,
    /// Why it does not run.
    pub error: Option<String>,
}

impl ReportServiceBody {
    /// Checks the body.
    ///
    /// # Errors
    /// The first field that is not as it must be.
    pub fn check(self) -> Result<ReportService, Invalid> {
        let status = self.status.ok_or_else(|| Invalid::required("status"))?;
        Ok(ReportService {
            host_id: required_host(self.host_id.as_deref())?,
            status: AssignmentStatus::parse(&status)
                .ok_or_else(|| Invalid::new("status", "must be \"pending\", \"running\" or \"failed\""))?,
            endpoint: optional_text("endpoint", self.endpoint, limits::MAX_TEXT_LEN)?,
            error: optional_text("error", self.error, limits::MAX_BODY_BYTES)?,
        })
    }
}
