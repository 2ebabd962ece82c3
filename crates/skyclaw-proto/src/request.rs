//! Requests as clients send them, and what is left of each after it was checked.
//!
//! A body is first read into the `…Body` type of its route: every field optional, so that a missing
//! one gets its own sentence. `check` then gives a value that holds only what is allowed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::object;
use crate::payload::{Env, OpenclawPayload, Payload, ShellPayload};
use crate::{AssignmentStatus, Capabilities, HostId, JobId, ServiceId};

/// A field that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {fault}")]
pub struct Invalid {
    /// The path of the field, such as `payload.timeoutMs`.
    pub field: String,
    /// What is wrong, as the rest of a sentence.
    pub fault: String,
}

impl Invalid {
    /// Names a field and its fault.
    pub fn new(field: impl Into<String>, fault: impl Into<String>) -> Self {
        Self { field: field.into(), fault: fault.into() }
    }

    /// A field that must be there and is not.
    pub fn required(field: impl Into<String>) -> Self {
        Self::new(field, "is required")
    }
}

/// Reads an optional id that may be blank, which counts as absent.
fn optional_id<T>(
    field: &str,
    raw: Option<&str>,
    parse: impl Fn(&str) -> Result<T, crate::InvalidId>,
) -> Result<Option<T>, Invalid> {
    match raw.map(str::trim).filter(|s| !s.is_empty()) {
        None => Ok(None),
        Some(text) => parse(text).map(Some).map_err(|e| Invalid::new(field, e.to_string())),
    }
}

fn required_host(raw: Option<&str>) -> Result<HostId, Invalid> {
    optional_id("hostId", raw, HostId::parse)?.ok_or_else(|| Invalid::required("hostId"))
}

/// A trimmed text that must be there and be no longer than `max` bytes.
fn required_text(field: &str, raw: Option<&str>, max: usize) -> Result<String, Invalid> {
    let text = raw.map(str::trim).filter(|s| !s.is_empty()).ok_or_else(|| Invalid::required(field))?;
    bounded_text(field, text, max)?;
    Ok(text.to_owned())
}

fn bounded_text(field: &str, text: &str, max: usize) -> Result<(), Invalid> {
    if text.len() > max {
        return Err(Invalid::new(field, format!("must be at most {max} bytes long")));
    }
    no_nul(field, text)
}

/// What ends up in `execve` cannot hold a NUL.
fn no_nul(field: &str, text: &str) -> Result<(), Invalid> {
    if text.contains('\0') { Err(Invalid::new(field, "must not contain a NUL character")) } else { Ok(()) }
}

/// An optional text; blank counts as absent.
fn optional_text(field: &str, raw: Option<String>, max: usize) -> Result<Option<String>, Invalid> {
    let Some(text) = raw.filter(|s| !s.trim().is_empty()) else { return Ok(None) };
    bounded_text(field, &text, max)?;
    Ok(Some(text))
}

fn capabilities(field: &str, raw: Option<Vec<String>>) -> Result<Capabilities, Invalid> {
    let caps = Capabilities::new(raw.unwrap_or_default());
    if caps.len() > limits::MAX_CAPABILITIES {
        return Err(Invalid::new(field, format!("must have at most {} entries", limits::MAX_CAPABILITIES)));
    }
    for cap in caps.iter() {
        bounded_text(field, cap, limits::MAX_CAPABILITY_LEN)?;
    }
    Ok(caps)
}

/// The reference raises a count of 0 to 1, so it is no fault here either.
fn count(field: &str, raw: Option<u32>, max: u32) -> Result<u32, Invalid> {
    match raw.unwrap_or(1).max(1) {
        n if n > max => Err(Invalid::new(field, format!("must be at most {max}"))),
        n => Ok(n),
    }
}

fn arguments(field: &str, args: Option<&[String]>) -> Result<(), Invalid> {
    args.unwrap_or_default().iter().enumerate().try_for_each(|(i, arg)| no_nul(&format!("{field}[{i}]"), arg))
}

fn environment(field: &str, env: Option<&Env>) -> Result<(), Invalid> {
    for (name, value) in env.into_iter().flatten() {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(Invalid::new(field, "must have names that are not empty and contain no = or NUL"));
        }
        no_nul(&format!("{field}.{name}"), value)?;
    }
    Ok(())
}

fn timeout(field: &str, raw: Option<u64>) -> Result<(), Invalid> {
    match raw {
        Some(0) => Err(Invalid::new(field, "must be at least 1")),
        Some(ms) if ms > limits::MAX_TIMEOUT_MS => {
            Err(Invalid::new(field, format!("must be at most {}", limits::MAX_TIMEOUT_MS)))
        }
        _ => Ok(()),
    }
}

/// `POST /v1/hosts/register`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegisterHostBody {
    /// The id the host wants to keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_id: Option<String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
    /// How many jobs it takes at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<u32>,
}

/// A checked [`RegisterHostBody`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterHost {
    /// The id the host wants to keep.
    pub host_id: Option<HostId>,
    /// For people.
    pub name: String,
    /// What it can do.
    pub capabilities: Capabilities,
    /// How many jobs it takes at once.
    pub max_parallel: u32,
}

impl RegisterHostBody {
    /// Checks the body.
    ///
    /// # Errors
    /// The first field that is not as it must be.
    pub fn check(self) -> Result<RegisterHost, Invalid> {
        Ok(RegisterHost {
            name: required_text("name", self.name.as_deref(), limits::MAX_NAME_LEN)?,
            host_id: optional_id("hostId", self.host_id.as_deref(), HostId::parse)?,
            capabilities: capabilities("capabilities", self.capabilities)?,
            max_parallel: count("maxParallel", self.max_parallel, limits::MAX_PARALLEL)?,
        })
    }
}

/// `POST /v1/hosts/:id/heartbeat`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeartbeatBody {
    /// What a reference host believes it holds. Read and not used: the coordinator knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_leases: Option<u32>,
    /// The runs whose leases this renews. (Ours.)
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object::optional_list")]
    pub running: Option<Vec<RunningJob>>,
    /// How long the answer may wait for something to stop, in milliseconds. (Ours.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

/// One run a host names as its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunningJob {
    /// The job.
    pub job_id: JobId,
    /// The fencing token of the lease it runs under.
    pub fence: u64,
}

/// A checked [`HeartbeatBody`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The runs whose leases this renews.
    pub running: Vec<RunningJob>,
    /// How long the answer may wait, in milliseconds; 0 for not at all.
    pub wait_ms: u64,
}

impl HeartbeatBody {
    /// Checks the body.
    ///
    /// # Errors
    /// The first field that is not as it must be.
    pub fn check(self) -> Result<Heartbeat, Invalid> {
        let running = self.running.unwrap_or_default();
        if running.len() > limits::MAX_PARALLEL as usize {
            return Err(Invalid::new(
                "running",
                format!("must have at most {} entries", limits::MAX_PARALLEL),
            ));
        }
        Ok(Heartbeat { running, wait_ms: wait_ms(self.wait_ms)? })
    }
}

fn wait_ms(raw: Option<u64>) -> Result<u64, Invalid> {
    match raw.unwrap_or(0) {
        ms if ms > limits::MAX_WAIT_MS => {
            Err(Invalid::new("waitMs", format!("must be at most {}", limits::MAX_WAIT_MS)))
        }
        ms => Ok(ms),
    }
}

/// `POST /v1/hosts/:id/claim`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimBody {
    /// How long the answer may wait for a job, in milliseconds. (Ours.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// How many jobs to take at most. (Ours.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

/// A checked [`ClaimBody`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// How long the answer may wait for a job, in milliseconds; 0 for not at all.
    pub wait_ms: u64,
    /// How many jobs to take at most; `None` from a client that takes one and expects no list.
    pub max: Option<u32>,
}

impl ClaimBody {
    /// Checks the body.
    ///
    /// # Errors
    /// The first field that is not as it must be.
    pub fn check(self) -> Result<Claim, Invalid> {
        match self.max {
            Some(n) if n == 0 || n > limits::MAX_CLAIM => {
                Err(Invalid::new("max", format!("must be between 1 and {}", limits::MAX_CLAIM)))
            }
            max => Ok(Claim { wait_ms: wait_ms(self.wait_ms)?, max }),
        }
    }
}

/// The `payload` of a submission, of either kind.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
#[serde(rename_all = "camelCase", default)]
pub struct RequirementBody {
    /// Capabilities the host must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required_capabilities: Option<Vec<String>>,
}

/// `POST /v1/jobs` and `POST /v1/public/jobs`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
}

impl EnqueueJobBody {
    /// Checks the body.
    ///
    /// # Errors
    /// The first field that is not as it must be.
    pub fn check(self) -> Result<EnqueueJob, Invalid> {
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
        check_labels(&labels)?;
        Ok(EnqueueJob { payload, required_capabilities, submitted_by, priority, labels })
    }
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Invalid> {
    if labels.len() > limits::MAX_LABELS {
        return Err(Invalid::new("labels", format!("must have at most {} entries", limits::MAX_LABELS)));
    }
    for (key, value) in labels {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
        if key.is_empty() || key.len() > limits::MAX_LABEL_KEY_LEN || !key.bytes().all(allowed) {
            let max = limits::MAX_LABEL_KEY_LEN;
            return Err(Invalid::new(
                "labels",
                format!("must have keys of 1 to {max} of A-Z a-z 0-9 . _ - /"),
            ));
        }
        bounded_text(&format!("labels.{key}"), value, limits::MAX_LABEL_VALUE_LEN)?;
    }
    Ok(())
}

/// `POST /v1/jobs/:id/complete`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
    /// The fencing token of the lease it ran under. (Ours.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
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
        })
    }
}

/// `POST /v1/services`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
    pub env: Option<Env>,
    /// How many of it should run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// What it asks of a host; `service-host` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required_capabilities: Option<Vec<String>>,
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
        Ok(DeployService {
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
#[serde(rename_all = "camelCase", default)]
pub struct ClaimServiceBody {
    /// The services the host runs already, which it need not be told of again. (Ours.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<Vec<ServiceId>>,
}

/// `POST /v1/services/:id/report`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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

/// `POST /v1/network/join`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JoinBody {
    /// The base URL of the coordinator that announces itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// `POST /v1/cluster/transfer`. (Ours.)
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TransferBody {
    /// The member that is to lead, by node id or number; the one most up to date when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check<T: for<'de> Deserialize<'de>, U>(json: &str, run: fn(T) -> Result<U, Invalid>, want: &Expect) {
        let body: T = serde_json::from_str(json).expect("the body must be readable");
        let got = run(body).err().map_or_else(|| "ok".to_owned(), |e| e.to_string());
        want.assert_eq(&got);
    }

    #[test]
    fn a_fault_names_its_field() {
        check("{}", RegisterHostBody::check, &expect!["name is required"]);
        check(r#"{"name":"  "}"#, RegisterHostBody::check, &expect!["name is required"]);
        check(
            r#"{"name":"a","hostId":"a b"}"#,
            RegisterHostBody::check,
            &expect!["hostId must be 1 to 128 of the characters A-Z a-z 0-9 . _ : -"],
        );
        check("{}", EnqueueJobBody::check, &expect!["payload is required"]);
        check(r#"{"payload":{}}"#, EnqueueJobBody::check, &expect!["payload is required"]);
        check(
            r#"{"payload":{"kind":"shell"}}"#,
            EnqueueJobBody::check,
            &expect!["payload.command is required"],
        );
        check(
            r#"{"payload":{"kind":"python"}}"#,
            EnqueueJobBody::check,
            &expect![[r#"payload.kind must be "shell" or "openclaw-run""#]],
        );
        check(
            r#"{"payload":{"kind":"shell","command":"sh","env":{"A=B":"1"}}}"#,
            EnqueueJobBody::check,
            &expect!["payload.env must have names that are not empty and contain no = or NUL"],
        );
        check(r#"{"hostId":"h"}"#, CompleteJobBody::check, &expect!["success is required"]);
        check("{}", DeployServiceBody::check, &expect!["name is required"]);
        check(r#"{"name":"a"}"#, DeployServiceBody::check, &expect!["command is required"]);
        check(
            r#"{"hostId":"h","status":"fine"}"#,
            ReportServiceBody::check,
            &expect![[r#"status must be "pending", "running" or "failed""#]],
        );
    }

    #[test]
    fn a_count_of_nothing_is_one_as_in_the_reference() {
        let host = RegisterHostBody { name: Some("h".into()), max_parallel: Some(0), ..Default::default() };
        assert_eq!(host.check().map(|h| h.max_parallel), Ok(1));
    }

    #[test]
    fn no_requirement_and_an_empty_one_are_told_apart() {
        let read =
            |json: &str| serde_json::from_str::<EnqueueJobBody>(json).expect("json").check().expect("valid");
        let payload = r#""payload":{"kind":"openclaw-run"}"#;
        assert_eq!(read(&format!("{{{payload}}}")).required_capabilities, None);
        assert_eq!(
            read(&format!(r#"{{{payload},"requirement":{{}}}}"#)).required_capabilities,
            Some(Capabilities::default())
        );
    }
}
