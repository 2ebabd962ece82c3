//! What can be enforced on this machine, as a value that a host can show to others.

use serde::Deserialize;

use super::cgroup::Trees;
use super::http::Http;
use super::{Error, Limits, Policy};

/// What runs in Podman are bound by here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enforcement {
    /// Podman's version.
    pub version: String,
    /// Whether the service runs as a user.
    pub rootless: bool,
    /// The version of control groups: 1 or 2.
    pub cgroup: u8,
    /// Memory of a run.
    pub memory: Verdict,
    /// CPU of a run.
    pub cpu: Verdict,
    /// Processes of a run.
    pub pids: Verdict,
    /// One bound for all runs of an agent.
    pub agent_bound: Verdict,
    /// Telling that memory ran out, and what a run used.
    pub accounting: Verdict,
    /// A filter of system calls.
    pub seccomp: Verdict,
}

/// Whether something is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    InForce,
    /// It is not, and why.
    NotAvailable(String),
}

impl Verdict {
    /// Whether it is in force.
    #[must_use]
    pub fn is_in_force(&self) -> bool {
        matches!(self, Self::InForce)
    }
}

impl Enforcement {
    /// All of it, by the name a host shows it by.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, Verdict)> {
        // What does not depend on the machine is tried at each start by the launcher, or is the kernel's.
        let always = ["noNewPrivileges", "capabilities", "readOnlyRoot", "userNamespace", "tmpfs", "ulimits"];
        let found = [
            ("memory", &self.memory),
            ("cpu", &self.cpu),
            ("pids", &self.pids),
            ("agentBound", &self.agent_bound),
            ("accounting", &self.accounting),
            ("seccomp", &self.seccomp),
        ];
        let found: Vec<_> = found.into_iter().map(|(name, verdict)| (name, verdict.clone())).collect();
        always.into_iter().map(|name| (name, Verdict::InForce)).chain(found)
    }

    /// Whether a run's limits can be held here, unless best effort is enough.
    ///
    /// # Errors
    /// Names the limit that cannot, and why.
    pub fn check(&self, limits: Limits, agent: Option<Limits>, policy: &Policy) -> Result<(), Error> {
        if policy.best_effort {
            return Ok(());
        }
        let refuse = |field, why: &String| {
            Err(Error::refused(field, format!("cannot be enforced on this host: {why}")))
        };
        let asked = [
            ("resources.memoryBytes", limits.memory_bytes, &self.memory),
            ("resources.cpuMillis", limits.cpu_millis, &self.cpu),
            ("resources.pids", limits.pids, &self.pids),
        ];
        for (field, given, verdict) in asked {
            if let (Some(_), Verdict::NotAvailable(why)) = (given, verdict) {
                return refuse(field, why);
            }
        }
        let bounded = agent.is_some_and(|a| a.memory_bytes.or(a.cpu_millis).or(a.pids).is_some());
        match &self.agent_bound {
            Verdict::NotAvailable(why) if bounded => refuse("agentId", why),
            _ => Ok(()),
        }
    }
}

/// Who holds the limits.
#[derive(Debug, Clone)]
pub(crate) enum Holder {
    /// This driver, in groups of its own.
    Own(Trees),
    /// Podman, in the container's group.
    Podman(Trees),
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

/// Asks Podman and the machine. Makes the group that all groups of this host are in, where it can.
pub(crate) async fn probe(http: &Http, owner: &str) -> Result<(Enforcement, Holder), Error> {
    let info: Info = http.get("say what it is", "/info").await?;
    let v2 = info.host.cgroup_version != "v1";
    let (owner, rootless) = (owner.to_owned(), info.host.security.rootless);
    let blocking = tokio::task::spawn_blocking(move || {
        let trees = Trees::find(v2, &owner)
            .map_err(|e| Error::Cgroup { path: "/proc/self/mountinfo".into(), source: e })?;
        // A rootless runtime cannot use what root makes.
        let made = if rootless { Err(Error::refused("resources", "rootless")) } else { trees.probe() };
        Ok((trees, made))
    });
    let found: Result<(Trees, Result<(), Error>), Error> = blocking.await.map_err(|error| Error::Answer {
        what: "find control groups".to_owned(),
        fault: error.to_string(),
    })?;
    let (trees, made) = found?;
    Ok(judge(&info, trees, &made, v2))
}

fn judge(info: &Info, trees: Trees, made: &Result<(), Error>, v2: bool) -> (Enforcement, Holder) {
    let host = &info.host;
    let rootless = host.security.rootless;
    let controllers = host.cgroup_controllers.clone().unwrap_or_default();
    let none = |why: &str| Verdict::NotAvailable(why.to_owned());
    let mut enforcement = Enforcement {
        version: info.version.version.clone(),
        rootless,
        cgroup: if v2 { 2 } else { 1 },
        memory: Verdict::InForce,
        cpu: Verdict::InForce,
        pids: Verdict::InForce,
        agent_bound: Verdict::InForce,
        accounting: Verdict::InForce,
        seccomp: Verdict::InForce,
    };
    if !host.security.seccomp_enabled {
        enforcement.seccomp = none("Podman was built without seccomp; runs are refused");
    }
    if rootless && !v2 {
        let why = "rootless Podman ignores limits on control groups of version 1; use version 2, or Podman's system service";
        for verdict in [&mut enforcement.memory, &mut enforcement.cpu, &mut enforcement.pids] {
            *verdict = none(why);
        }
        enforcement.agent_bound = none(why);
        enforcement.accounting = none(why);
        return (enforcement, Holder::Nobody);
    }
    match made {
        // The runtime of a rootless service cannot make a container's group in one of ours.
        Ok(()) if host.cgroup_manager == "cgroupfs" && !rootless => return (enforcement, Holder::Own(trees)),
        _ => {}
    }
    let missing = |name: &str| match controllers.iter().any(|found| found == name) {
        true => Verdict::InForce,
        false => none(&format!("the controller `{name}` is not delegated to the Podman service")),
    };
    enforcement.memory = missing("memory");
    enforcement.cpu = missing("cpu");
    enforcement.pids = missing("pids");
    enforcement.agent_bound = none(
        "a group for each agent needs control groups that this daemon may make, and a Podman whose \
         cgroup_manager is cgroupfs",
    );
    enforcement.accounting = enforcement.memory.clone();
    (enforcement, Holder::Podman(trees))
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
    ) -> (Enforcement, Holder) {
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
        let v2 = version == "v2";
        let trees = Trees::find(v2, "host").expect("a table of mounts");
        let made = if own { Ok(()) } else { Err(Error::refused("x", "no")) };
        judge(&info, trees, &made, v2)
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
    fn a_limit_that_cannot_be_held_is_refused_unless_best_effort_is_enough() {
        let (found, _) = judged("cgroupfs", "v1", true, &[], false);
        let memory = Limits { memory_bytes: Some(1 << 30), ..Limits::default() };
        let strict = Policy::default();
        let lax = Policy { best_effort: true, ..Policy::default() };
        let error = found.check(memory, None, &strict).expect_err("refused").to_string();
        assert!(error.starts_with("resources.memoryBytes: cannot be enforced"), "{error}");
        assert!(found.check(Limits::default(), Some(memory), &strict).is_err());
        assert!(found.check(memory, Some(memory), &lax).is_ok());
        let tmpfs = Limits { tmpfs_bytes: Some(1 << 20), ..Limits::default() };
        assert!(found.check(tmpfs, Some(Limits::default()), &strict).is_ok());
    }
}
