//! How a job is to be run: the checks of what a submission says of it.

use serde::{Deserialize, Serialize};

use super::check::{between, optional_id, optional_text, required_text, status};
use super::{EnqueueJobBody, Invalid};
use crate::limits;
use crate::{AgentId, Isolation, Mount, OnLost, Resources, Terms};

/// A part of the host that a container is to see.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct MountBody {
    /// Where it is on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Where it is to be in the container; the same place when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Whether the container can only read it; true when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
}

/// Checks what a submission says of how the job is to be run.
pub(super) fn check(body: &EnqueueJobBody) -> Result<Terms, Invalid> {
    let isolation = status("isolation", body.isolation.as_deref(), Isolation::ALL, Isolation::as_str)?;
    let terms = Terms {
        on_lost: status("onLost", body.on_lost.as_deref(), OnLost::ALL, OnLost::as_str)?.unwrap_or_default(),
        isolation,
        image: plain("image", body.image.clone(), limits::MAX_IMAGE_LEN)?,
        resources: resources(body.resources.unwrap_or_default())?,
        agent_id: optional_id("agentId", body.agent_id.as_deref(), AgentId::parse)?,
        network: plain("network", body.network.clone(), limits::MAX_NETWORK_LEN)?,
        mounts: mounts(body.mounts.as_deref().unwrap_or_default())?,
        grace_ms: between("graceMs", body.grace_ms, 0, limits::MAX_GRACE_MS)?,
    };
    let of_containers = [
        ("image", terms.image.is_some()),
        ("network", terms.network.is_some()),
        ("mounts", !terms.mounts.is_empty()),
        ("resources.tmpfsBytes", terms.resources.tmpfs_bytes.is_some()),
    ];
    match of_containers.into_iter().find(|(_, given)| *given) {
        Some((field, _)) if isolation != Some(Isolation::Podman) => {
            Err(Invalid::new(field, "can only be given with the isolation \"podman\""))
        }
        _ => Ok(terms),
    }
}

/// A name without white space or control characters.
fn plain(field: &str, raw: Option<String>, max: usize) -> Result<Option<String>, Invalid> {
    let Some(text) = optional_text(field, raw, max)? else { return Ok(None) };
    let text = text.trim();
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Invalid::new(field, "must not contain white space or control characters"));
    }
    Ok(Some(text.to_owned()))
}

fn resources(given: Resources) -> Result<Resources, Invalid> {
    let (least, most) = (limits::MIN_MEMORY_BYTES, limits::MAX_MEMORY_BYTES);
    Ok(Resources {
        cpu_millis: between("resources.cpuMillis", given.cpu_millis, 1, limits::MAX_CPU_MILLIS)?,
        memory_bytes: between("resources.memoryBytes", given.memory_bytes, least, most)?,
        pids: between("resources.pids", given.pids, 1, limits::MAX_PIDS)?,
        tmpfs_bytes: between("resources.tmpfsBytes", given.tmpfs_bytes, 1, most)?,
    })
}

fn mounts(given: &[MountBody]) -> Result<Vec<Mount>, Invalid> {
    if given.len() > limits::MAX_MOUNTS {
        return Err(Invalid::new("mounts", format!("must have at most {} entries", limits::MAX_MOUNTS)));
    }
    let one = |(i, mount): (usize, &MountBody)| {
        let path = |name: &str, raw: Option<&str>| absolute(&format!("mounts[{i}].{name}"), raw);
        let source = path("source", mount.source.as_deref())?;
        let target = path("target", mount.target.as_deref().or(Some(&source)))?;
        Ok(Mount { source, target, read_only: mount.read_only.unwrap_or(true) })
    };
    given.iter().enumerate().map(one).collect()
}

/// A path from the root that goes nowhere but down.
fn absolute(field: &str, raw: Option<&str>) -> Result<String, Invalid> {
    let path = required_text(field, raw, limits::MAX_TEXT_LEN)?;
    if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(Invalid::new(field, "must be an absolute path without .."));
    }
    Ok(path)
}
