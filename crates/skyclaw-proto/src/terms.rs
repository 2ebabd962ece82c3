//! How a job is to be run, beyond what it runs: what most jobs say nothing of.

use serde::{Deserialize, Serialize};

use crate::{AgentId, Isolation, OnLost};

/// How a job is to be run. What is absent is up to the host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Terms {
    /// What happens when its host is lost, or has to stop it.
    #[serde(skip_serializing_if = "is_default")]
    pub on_lost: OnLost,
    /// What keeps it apart from the rest of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// The image of its container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What it may use.
    #[serde(skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// On whose behalf it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// The network of its container: `none` when absent, `host`, or one by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// What of the host its container sees.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// How long it may take to stop by itself, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
}

/// What a run may use. What is absent is not bounded by the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// Thousandths of a processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u32>,
    /// Memory, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// The size of `/tmp`, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_bytes: Option<u64>,
}

/// A part of the host that a container sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// Where it is on the host.
    pub source: String,
    /// Where it is in the container.
    pub target: String,
    /// Whether the container can only read it.
    #[serde(default = "yes")]
    pub read_only: bool,
}

fn yes() -> bool {
    true
}

fn is_default(on_lost: &OnLost) -> bool {
    *on_lost == OnLost::default()
}

impl Resources {
    /// Whether nothing is bounded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Terms {
    /// These terms if they say anything: most jobs have none, and pay for none.
    #[must_use]
    pub fn kept(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }

    /// About how many bytes they take.
    #[must_use]
    pub fn approx_bytes(&self) -> usize {
        const FIXED: usize = 256;
        let texts = [&self.image, &self.network].into_iter().flatten().map(String::len);
        let mounts = self.mounts.iter().map(|mount| mount.source.len() + mount.target.len() + 48);
        FIXED + texts.chain(mounts).sum::<usize>()
    }

    /// The words a host must say of what it [enforces](crate::Enforces) to be given such a job.
    pub fn needs(&self) -> impl Iterator<Item = String> {
        let kind = self.isolation.unwrap_or(Isolation::Process);
        let limits = [
            ("cpu", self.resources.cpu_millis.is_some()),
            ("memory", self.resources.memory_bytes.is_some()),
            ("pids", self.resources.pids.is_some()),
            ("tmpfs", self.resources.tmpfs_bytes.is_some()),
        ];
        let limits =
            limits.into_iter().filter(|(_, asked)| *asked).map(move |(name, _)| format!("{kind}.{name}"));
        let network = self.network.as_deref().filter(|name| *name != "none");
        let network = network.map(|name| format!("{kind}.network.{name}"));
        self.isolation.map(|kind| kind.to_string()).into_iter().chain(limits).chain(network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(json: &str) -> Vec<String> {
        serde_json::from_str::<Terms>(json).expect("terms").needs().collect()
    }

    #[test]
    fn what_a_host_must_be_able_to_enforce_follows_from_what_is_asked_for() {
        assert_eq!(needs("{}"), [""; 0]);
        assert_eq!(needs(r#"{"onLost":"hold","agentId":"a","graceMs":5}"#), [""; 0]);
        assert_eq!(needs(r#"{"isolation":"process"}"#), ["process"]);
        assert_eq!(needs(r#"{"resources":{"memoryBytes":1}}"#), ["process.memory"]);
        assert_eq!(
            needs(
                r#"{"isolation":"podman","network":"host","resources":{"cpuMillis":1,"pids":1,"tmpfsBytes":1}}"#
            ),
            ["podman", "podman.cpu", "podman.pids", "podman.tmpfs", "podman.network.host"]
        );
        assert_eq!(needs(r#"{"isolation":"podman","network":"none"}"#), ["podman"]);
    }

    #[test]
    fn terms_that_say_nothing_take_no_room() {
        assert_eq!(Terms::default().kept(), None);
        assert_eq!(serde_json::to_string(&Terms::default()).expect("json"), "{}");
        assert!(Terms { on_lost: OnLost::Hold, ..Terms::default() }.kept().is_some());
    }
}
