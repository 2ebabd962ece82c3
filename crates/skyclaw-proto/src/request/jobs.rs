//! Requests about jobs: submitting them and telling how they ended.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Invalid;
use super::check::{
    self, arguments, capabilities, environment, optional_text, required_host, required_text, timeout,
};
use super::events::{self, EventBody};
use super::links;
use super::plan::{self, RetryBody};
use super::terms::{self, MountBody};
use crate::limits;
use crate::links::Links;
use crate::object;
use crate::payload::{Env, OpenclawPayload, Payload, ShellPayload};
use crate::record::{Event, Usage};
use crate::{Capabilities, HostId, Plan, Resolution, Resources, Stopped, Terms};

/// The `payload` of a submission, of either kind.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct PayloadBody {
    /// `shell` or `openclaw-run`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Of a shell job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Of a shell job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Of an OpenClaw job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub openclaw_dir: Option<String>,
    /// Variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<BTreeMap<String, String>>))]
    pub env: Option<Env>,
    /// How long it may run, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

impl PayloadBody {
    fn check(self) -> Result<Payload, Invalid> {
        let kind = self
            .kind
            .as_deref()
            .filter(|k| !k.trim().is_empty())
            .ok_or_else(|| Invalid::required("payload"))?;
        arguments("payload.args", self.args.as_deref())?;
        environment("payload.env", self.env.as_ref())?;
        timeout("payload.timeoutMs", self.timeout_ms)?;
        match kind {
            "shell" => Ok(Payload::Shell(ShellPayload {
                command: required_text("payload.command", self.command.as_deref(), limits::MAX_TEXT_LEN)?,
                args: self.args,
                cwd: optional_text("payload.cwd", self.cwd, limits::MAX_TEXT_LEN)?,
                env: self.env,
                timeout_ms: self.timeout_ms,
            })),
            "openclaw-run" => Ok(Payload::OpenclawRun(OpenclawPayload {
                args: self.args,
                openclaw_dir: optional_text("payload.openclawDir", self.openclaw_dir, limits::MAX_TEXT_LEN)?,
                env: self.env,
                timeout_ms: self.timeout_ms,
            })),
            _ => Err(Invalid::new("payload.kind", "must be \"shell\" or \"openclaw-run\"")),
        }
    }
}

/// The `requirement` of a submission.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RequirementBody {
    /// Capabilities the host must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required_capabilities: Option<Vec<String>>,
}

/// `POST /v1/jobs` and `POST /v1/public/jobs`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct EnqueueJobBody {
    /// What to run.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object::optional")]
    pub payload: Option<PayloadBody>,
    /// What it asks of a host.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object::optional")]
    pub requirement: Option<RequirementBody>,
    /// Who submits it. Not read on the public route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submitted_by: Option<String>,
    /// 0 to 100, higher first. (Ours.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// For finding it again. (Ours.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// `retry`, `fail` or `hold`: what happens when its host is lost. (Ours, as all that follows.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_lost: Option<String>,
    /// `process` or `podman`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<String>,
    /// The image of its container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What it may use.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object::optional")]
    pub resources: Option<Resources>,
    /// On whose behalf it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// The network of its container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// What of the host its container sees.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object::optional_list")]
    pub mounts: Option<Vec<MountBody>>,
    /// How long it may take to stop by itself, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
    /// The jobs that must be completed first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depends_on: Option<Vec<String>>,
    /// `fail` or `skip`: what becomes of it when one of those ends otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_dependency_failure: Option<String>,
    /// Of the jobs with this key, only so many run at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<String>,
    /// How many; 1 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency_limit: Option<u32>,
    /// While a job with this key has not ended, submitting another one answers with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique_key: Option<String>,
    /// How long it may wait for a host, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// An RFC 3339 time before which it is not claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// How often it is tried.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object::optional")]
    pub retry: Option<RetryBody>,
    /// How long its record is kept after its end, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain_ms: Option<u64>,
}

/// A checked [`EnqueueJobBody`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnqueueJob {
    /// What to run.
    pub payload: Payload,
    /// What it asks of a host; `None` when the client said nothing of it.
    pub required_capabilities: Option<Capabilities>,
    /// Who submits it.
    pub submitted_by: Option<String>,
    /// 0 to 100, higher first.
    pub priority: u8,
    /// For finding it again.
    pub labels: BTreeMap<String, String>,
    /// How it is to be run; `None` when nothing was said of it.
    pub terms: Option<Box<Terms>>,
    /// What ties it to other jobs; `None` when nothing does.
    pub links: Option<Box<Links>>,
    /// When it is to be run, and how often; `None` when nothing was said of it.
    pub plan: Option<Box<Plan>>,
}

impl EnqueueJobBody {
    /// Checks the body.
    ///
    /// # Errors
    /// The first field that is not as it must be.
    pub fn check(self) -> Result<EnqueueJob, Invalid> {
        let terms = terms::check(&self)?.kept();
        let links = links::check(&self)?.kept();
        let plan = plan::check(&self)?.kept();
        let payload = self.payload.ok_or_else(|| Invalid::required("payload"))?.check()?;
        let required_capabilities = self
            .requirement
            .map(|r| capabilities("requirement.requiredCapabilities", r.required_capabilities))
            .transpose()?;
        let priority = self.priority.unwrap_or(limits::DEFAULT_PRIORITY);
        if priority > limits::MAX_PRIORITY {
            return Err(Invalid::new("priority", format!("must be at most {}", limits::MAX_PRIORITY)));
        }
        let submitted_by = optional_text("submittedBy", self.submitted_by, limits::MAX_NAME_LEN)?
            .map(|s| s.trim().to_owned());
        let labels = self.labels.unwrap_or_default();
        check::labels(&labels)?;
        Ok(EnqueueJob { payload, required_capabilities, submitted_by, priority, labels, terms, links, plan })
    }
}

/// `POST /v1/jobs/:id/complete`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CompleteJobBody {
    /// Who ran it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_id: Option<String>,
    /// Whether it succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success: Option<bool>,
    /// How long it ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// The exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// What it wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    /// What it wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
    /// Why it did not succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The fencing token of the lease it ran under. (Ours, as all that follows.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
    /// Why the host stopped the run before its end: `cancelled`, `frozen`, `draining`, `shutdown` or
    /// `lease`; absent when it ended by itself or by its timeout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// What it used.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object::optional")]
    pub usage: Option<Usage>,
    /// Whether it ran out of the memory it may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom: Option<bool>,
    /// What happened to the run and was not told yet.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object::optional_list")]
    pub events: Option<Vec<EventBody>>,
}

/// A checked [`CompleteJobBody`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompleteJob {
    /// Who ran it.
    pub host_id: HostId,
    /// Whether it succeeded.
    pub success: bool,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
    /// The exit code.
    pub exit_code: i32,
    /// What it wrote.
    pub stdout: String,
    /// What it wrote.
    pub stderr: String,
    /// Why it did not succeed.
    pub error: Option<String>,
    /// The fencing token of the lease it ran under.
    pub fence: Option<u64>,
    /// Why the host stopped the run before its end.
    pub stopped: Option<Stopped>,
    /// What it used.
    pub usage: Option<Usage>,
    /// Whether it ran out of the memory it may use.
    pub oom: bool,
    /// What happened to the run and was not told yet.
    pub events: Vec<Event>,
}

impl CompleteJobBody {
    /// Checks the body.
    ///
    /// # Errors
    /// The first field that is not as it must be.
    pub fn check(self) -> Result<CompleteJob, Invalid> {
        Ok(CompleteJob {
            host_id: required_host(self.host_id.as_deref())?,
            success: self.success.ok_or_else(|| Invalid::required("success"))?,
            duration_ms: self.duration_ms.ok_or_else(|| Invalid::required("durationMs"))?,
            exit_code: self.exit_code.ok_or_else(|| Invalid::required("exitCode"))?,
            stdout: self.stdout.ok_or_else(|| Invalid::required("stdout"))?,
            stderr: self.stderr.ok_or_else(|| Invalid::required("stderr"))?,
            error: self.error,
            fence: self.fence,
            stopped: check::status("stopped", self.stopped.as_deref(), Stopped::ALL, Stopped::as_str)?,
            usage: self.usage.filter(|usage| !usage.is_empty()),
            oom: self.oom.unwrap_or(false),
            events: events::check(self.events.unwrap_or_default())?,
        })
    }
}

/// `POST /v1/jobs/:id/resolve`. (Ours.)
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ResolveJobBody {
    /// `requeue`, `fail` or `complete`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who decides it, as they say themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// How the run ended, when it is found to be done.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object::optional")]
    pub result: Option<FoundResult>,
}

/// How a run ended, as an operator found out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct FoundResult {
    /// The exit code.
    pub exit_code: i32,
    /// What it wrote.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stdout: String,
    /// What it wrote.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stderr: String,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
}

/// A checked [`ResolveJobBody`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolveJob {
    /// What is decided.
    pub action: Resolution,
    /// Why.
    pub reason: Option<String>,
    /// Who decides it, as they say themselves.
    pub by: Option<String>,
    /// How the run ended.
    pub result: Option<FoundResult>,
}

impl ResolveJobBody {
    /// Checks the body.
    ///
    /// # Errors
    /// The first field that is not as it must be.
    pub fn check(self) -> Result<ResolveJob, Invalid> {
        let action = check::status("action", self.action.as_deref(), Resolution::ALL, Resolution::as_str)?;
        let action = action.ok_or_else(|| Invalid::required("action"))?;
        if self.result.is_some() && action != Resolution::Complete {
            return Err(Invalid::new("result", "can only be given with the action \"complete\""));
        }
        Ok(ResolveJob {
            action,
            reason: optional_text("reason", self.reason, limits::MAX_REASON_LEN)?,
            by: optional_text("by", self.by, limits::MAX_NAME_LEN)?,
            result: self.result,
        })
    }
}
