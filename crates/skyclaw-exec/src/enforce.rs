//! What this machine lets a driver enforce, found out by doing it.

use std::fmt;

use landlock::{ABI, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr};
use serde::{Deserialize, Serialize};

use crate::cgroup::{Cgroups, Controller, Version};
use crate::{Config, Error};

/// What a run asks to be bounded to. What is not given is not bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Thousandths of a processor.
    pub cpu_millis: Option<u32>,
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// The size of its temporary directory, in bytes.
    pub tmpfs_bytes: Option<u64>,
}

impl From<skyclaw_proto::Resources> for Resources {
    fn from(asked: skyclaw_proto::Resources) -> Self {
        Self {
            cpu_millis: asked.cpu_millis,
            memory_bytes: asked.memory_bytes,
            pids: asked.pids.map(u64::from),
            tmpfs_bytes: asked.tmpfs_bytes,
        }
    }
}

impl Resources {
    pub(crate) fn asks_for(&self, controller: Controller) -> bool {
        match controller {
            Controller::Memory => self.memory_bytes.is_some(),
            Controller::Cpu => self.cpu_millis.is_some(),
            Controller::Pids => self.pids.is_some(),
        }
    }
}

/// What is in force for processes on this host, and what is not available.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enforcement {
    /// The version of control groups that bounds runs; none where no group can be made.
    pub cgroups: Option<Version>,
    /// Memory can be bounded, and running out of it is told.
    pub memory: bool,
    /// Processor time can be bounded.
    pub cpu: bool,
    /// The number of processes can be bounded.
    pub pids: bool,
    /// The size of temporary files can be bounded. A plain process has no file system of its own.
    pub tmpfs: bool,
    /// All of a run can be killed at once, by the kernel.
    pub kill_at_once: bool,
    /// Where a run may write can be bounded (Landlock).
    pub landlock: bool,
    /// Runs may write to their own directories, and to these, and nowhere else; anywhere when not given.
    pub writable: Option<Vec<std::path::PathBuf>>,
    /// How large a file a run may make, in bytes; as large as it likes when not given.
    #[serde(default)]
    pub max_file_bytes: Option<u64>,
    /// Runs have a user of their own.
    pub user: bool,
    /// No run gains rights it was not started with. Always so.
    pub no_new_privileges: bool,
    /// Runs whose bounds cannot be enforced are run all the same.
    pub best_effort: bool,
    /// What is not available, and why.
    pub missing: Vec<Missing>,
}

/// Something that this machine does not let a driver enforce.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

impl Enforcement {
    pub(crate) fn probe(config: &Config, cgroups: &Cgroups) -> Self {
        let landlock = has_landlock();
        let mut missing: Vec<Missing> = cgroups
            .missing
            .iter()
            .map(|(what, why)| Missing { what: what.clone(), why: why.clone() })
            .collect();
        if !landlock {
            let why = "this kernel has no Landlock, or it is not enabled (it is since Linux 5.13)".to_owned();
            missing.push(Missing { what: "limits to where a run may write".to_owned(), why });
        }
        Self {
            cgroups: cgroups.version(),
            memory: cgroups.has(Controller::Memory),
            cpu: cgroups.has(Controller::Cpu),
            pids: cgroups.has(Controller::Pids),
            tmpfs: false,
            kill_at_once: cgroups.can_kill(),
            landlock,
            writable: config.writable.clone(),
            max_file_bytes: config.max_file_bytes,
            user: config.user.is_some(),
            no_new_privileges: true,
            best_effort: config.best_effort,
            missing,
        }
    }

    /// What holds for a run that asks for this, in words.
    ///
    /// # Errors
    /// When something of it cannot be enforced, and the host does not run it all the same.
    pub(crate) fn promise(&self, asked: &Resources) -> Result<Vec<String>, Error> {
        let mut in_force = vec!["no new privileges".to_owned(), "own session".to_owned()];
        let wanted = [
            (asked.memory_bytes.map(|it| format!("memory of {it} bytes")), self.memory),
            (asked.cpu_millis.map(|it| format!("{it} thousandths of a processor")), self.cpu),
            (asked.pids.map(|it| format!("{it} processes")), self.pids),
            (asked.tmpfs_bytes.map(|it| format!("temporary files of {it} bytes")), self.tmpfs),
            (self.writable.as_ref().map(|_| "limits to where it may write".to_owned()), self.landlock),
        ];
        for (what, enforced) in wanted {
            let Some(what) = what else { continue };
            match (enforced, self.best_effort) {
                (true, _) => in_force.push(what),
                (false, true) => in_force.push(format!("not enforced: {what}")),
                (false, false) => return Err(Error::NotEnforceable { what, why: self.why(asked) }),
            }
        }
        if let Some(bytes) = self.max_file_bytes {
            in_force.push(format!("files of {bytes} bytes"));
        }
        if self.user {
            in_force.push("own user".to_owned());
        }
        Ok(in_force)
    }

    /// Why a plain process cannot be bound in its temporary files.
    pub const NO_TMPFS: &str = "a plain process has no file system of its own; run it in a container";

    fn why(&self, asked: &Resources) -> String {
        if asked.tmpfs_bytes.is_some() && !self.tmpfs {
            return Self::NO_TMPFS.to_owned();
        }
        let reasons: Vec<_> = self.missing.iter().map(Missing::to_string).collect();
        if reasons.is_empty() { "this machine has no control for it".to_owned() } else { reasons.join("; ") }
    }
}

/// Whether writes can be limited, asked by making a rule set that nothing is put under.
fn has_landlock() -> bool {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_write(ABI::V1))
        .and_then(Ruleset::create)
        .is_ok()
}
