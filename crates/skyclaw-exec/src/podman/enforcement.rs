//! What can be enforced for containers on this machine, and who does it.

use serde::Deserialize;

use super::Error;
use super::http::Http;
use crate::cgroup::{Cgroups, Version as CgroupVersion};
use crate::enforce::{Enforcement, Fact, Unenforceable, Verdict};

/// What does not depend on the machine: it is the kernel's, or tried at each start by the launcher.
const ALWAYS: [&str; 5] = ["noNewPrivileges", "noCapabilities", "readOnlyRoot", "userNamespace", "ulimits"];

impl From<Unenforceable> for Error {
    fn from(refused: Unenforceable) -> Self {
        Self::refused(refused.field, format!("cannot be enforced on this host: {}", refused.why))
    }
}

/// Who holds the limits.
#[derive(Debug)]
pub(crate) enum Holder {
    /// This driver, in groups of its own.
    Own(Cgroups),
    /// Podman, in the container's group.
    Podman,
    /// Nobody.
    Nobody,
}

#[derive(Debug, Deserialize)]
struct Info {
    host: HostInfo,
    version: Version,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HostInfo {
    #[serde(default)]
    cgroup_manager: String,
    #[serde(default)]
    cgroup_version: String,
    cgroup_controllers: Option<Vec<String>>,
    security: Security,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Security {
    #[serde(default)]
    rootless: bool,
    #[serde(default)]
    seccomp_enabled: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    version: String,
}

/// What was found out about a service.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) enforcement: Enforcement,
    pub(crate) holder: Holder,
    pub(crate) service: Service,
}

/// The Podman service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its version.
    pub version: String,
    /// Whether it runs as a user.
    pub rootless: bool,
}

/// Asks Podman and the machine.
pub(crate) async fn probe(http: &Http, owner: &str, best_effort: bool) -> Result<Found, Error> {
    let info: Info = http.get("say what it is", "/info").await?;
    let owner = owner.to_owned();
    let opened = tokio::task::spawn_blocking(move || Cgroups::open(&owner, None)).await;
    let cgroups = opened.map_err(|error| Error::Answer {
        what: "find control groups".to_owned(),
        fault: error.to_string(),
    })?;
    let own = cgroups.takes_containers();
    let (enforcement, is_held) = judge(&info, &own, best_effort);
    let holder = match is_held {
        Held::Own => Holder::Own(cgroups),
        Held::ByPodman => Holder::Podman,
        Held::Not => Holder::Nobody,
    };
    let service = Service { version: info.version.version, rootless: info.host.security.rootless };
    Ok(Found { enforcement, holder, service })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Own,
    ByPodman,
    Not,
}

fn judge(info: &Info, own: &Result<(), String>, best_effort: bool) -> (Enforcement, Held) {
    let host = &info.host;
    let (v2, rootless) = (host.cgroup_version != "v1", host.security.rootless);
    let none = |why: &str| Verdict::NotAvailable(why.to_owned());
    let seccomp = Verdict::when(host.security.seccomp_enabled, || {
        "Podman was built without seccomp; runs are refused".to_owned()
    });
    let whose = if rootless { "a user's service" } else { "the system's service" };
    let podman = Fact::in_force("podman").with(format!("version {}, {whose}", info.version.version));
    let mut more = vec![podman];
    more.extend(ALWAYS.map(Fact::in_force));
    more.push(Fact::new("seccomp", seccomp));
    let mut enforcement = Enforcement {
        cgroups: Some(if v2 { CgroupVersion::V2 } else { CgroupVersion::V1 }),
        memory: Verdict::InForce,
        cpu: Verdict::InForce,
        pids: Verdict::InForce,
        tmpfs: Verdict::InForce,
        agent_bound: Verdict::InForce,
        accounting: Verdict::InForce,
        best_effort,
        more,
    };
    if rootless && !v2 {
        let why = none(
            "rootless Podman ignores limits on control groups of version 1; use version 2, or Podman's system service",
        );
        enforcement = Enforcement {
            cgroups: None,
            memory: why.clone(),
            cpu: why.clone(),
            pids: why.clone(),
            agent_bound: why.clone(),
            accounting: why,
            ..enforcement
        };
        return (enforcement, Held::Not);
    }
    // The runtime of a rootless service cannot make a container's group in one of ours.
    let why = match own {
        Ok(()) if host.cgroup_manager == "cgroupfs" && !rootless => return (enforcement, Held::Own),
        Err(why) if !rootless => format!(" ({why})"),
        _ => String::new(),
    };
    let controllers = host.cgroup_controllers.clone().unwrap_or_default();
    let missing = |name: &str| {
        Verdict::when(controllers.iter().any(|found| found == name), || {
            format!("the controller `{name}` is not delegated to the Podman service")
        })
    };
    enforcement.memory = missing("memory");
    enforcement.cpu = missing("cpu");
    enforcement.pids = missing("pids");
    enforcement.agent_bound = Verdict::NotAvailable(format!(
        "a group for each agent needs control groups that this daemon may make{why}, and a Podman whose \
         cgroup_manager is cgroupfs"
    ));
    enforcement.accounting = enforcement.memory.clone();
    (enforcement, Held::ByPodman)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(
        manager: &str,
        version: &str,
        rootless: bool,
        controllers: &[&str],
        own: bool,
    ) -> (Enforcement, Held) {
        let info = serde_json::from_value(serde_json::json!({
            "host": {
                "cgroupManager": manager,
                "cgroupVersion": version,
                "cgroupControllers": controllers,
                "security": {"rootless": rootless, "seccompEnabled": true},
            },
            "version": {"Version": "4.3.1"},
        }));
        let info: Info = info.expect("as Podman says it");
        let own = if own { Ok(()) } else { Err("no".to_owned()) };
        judge(&info, &own, false)
    }

    #[test]
    fn a_limit_is_in_force_only_where_somebody_holds_it() {
        let all = ["cpu", "memory", "pids"];
        for (manager, version, rootless, controllers, own, memory, agent) in [
            ("cgroupfs", "v1", false, &all[..], true, true, true),
            ("cgroupfs", "v1", true, &[], true, false, false),
            ("systemd", "v2", true, &all[..], false, true, false),
            ("systemd", "v2", true, &["pids"], false, false, false),
            ("systemd", "v2", false, &all[..], true, true, false),
            ("cgroupfs", "v2", false, &all[..], true, true, true),
            ("cgroupfs", "v2", false, &all[..], false, true, false),
        ] {
            let (found, _) = judged(manager, version, rootless, controllers, own);
            let case = format!("{manager} {version} rootless {rootless} {controllers:?} {own}");
            assert_eq!(found.memory.is_in_force(), memory, "{case}");
            assert_eq!(found.agent_bound.is_in_force(), agent, "{case}");
        }
    }

    #[test]
    fn a_refusal_names_the_field_as_a_client_knows_it() {
        let (found, _) = judged("cgroupfs", "v1", true, &[], false);
        let memory = crate::Resources { memory_bytes: Some(1 << 30), ..Default::default() };
        let error = Error::from(found.promise(&memory, None).expect_err("refused")).to_string();
        assert!(error.starts_with("resources.memoryBytes: cannot be enforced"), "{error}");
        let tmpfs = crate::Resources { tmpfs_bytes: Some(1 << 20), ..Default::default() };
        assert!(found.promise(&tmpfs, Some(&tmpfs)).is_ok());
    }
}
