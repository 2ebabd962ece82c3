//! What a job runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Environment variables, in order of their names.
pub type Env = BTreeMap<String, String>;

/// What a job runs, as it is kept and sent. (What a client sends is checked from
/// [`crate::request::PayloadBody`].)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind")]
pub enum Payload {
    /// A command with arguments.
    #[serde(rename = "shell")]
    Shell(ShellPayload),
    /// The host's OpenClaw command.
    #[serde(rename = "openclaw-run")]
    OpenclawRun(OpenclawPayload),
}

/// A command with arguments. It is run as it is, without a shell in between.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ShellPayload {
    /// A bare name or a path.
    pub command: String,
    /// Arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Variables added to the built environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<BTreeMap<String, String>>))]
    pub env: Option<Env>,
    /// How long it may run, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// A run of the host's OpenClaw command.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct OpenclawPayload {
    /// Arguments; the host's default (`run`) when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openclaw_dir: Option<String>,
    /// Variables added to the built environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<BTreeMap<String, String>>))]
    pub env: Option<Env>,
    /// How long it may run, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

impl Payload {
    /// The `kind` on the wire.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Shell(_) => "shell",
            Self::OpenclawRun(_) => "openclaw-run",
        }
    }
}
