//! What binds the runs of a driver on this machine, found out by doing it: the words that both drivers say it
//! with, a refusal says, and a host shows.

use landlock::{ABI, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr};
use serde::{Deserialize, Serialize};

use crate::cgroup::{Cgroups, Controller, Version};
use crate::{Config, Resources};

/// The name of what limits where a run may write.
pub(crate) const LANDLOCK: &str = "landlock";

/// Whether something is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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

    /// In force, or not for this reason.
    pub(crate) fn when(holds: bool, why: impl FnOnce() -> String) -> Self {
        if holds { Self::InForce } else { Self::NotAvailable(why()) }
    }
}

/// Something that binds runs, or would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fact {
    /// What, in one word, such as `noNewPrivileges`.
    pub name: String,
    /// Whether it is in force.
    pub verdict: Verdict,
    /// What there is to say of it when it is, such as the paths that may be written to.
    pub detail: Option<String>,
    /// Whether no run is started without it, unless best effort is enough.
    pub required: bool,
}

impl Fact {
    pub(crate) fn new(name: &str, verdict: Verdict) -> Self {
        Self { name: name.to_owned(), verdict, detail: None, required: false }
    }

    pub(crate) fn in_force(name: &str) -> Self {
        Self::new(name, Verdict::InForce)
    }

    pub(crate) fn with(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// Its name as words: `noNewPrivileges` is "no new privileges".
    fn words(&self) -> String {
        let mut words = String::new();
        for letter in self.name.chars() {
            if letter.is_ascii_uppercase() {
                words.push(' ');
            }
            words.push(letter.to_ascii_lowercase());
        }
        match &self.detail {
            Some(detail) => format!("{words} ({detail})"),
            None => words,
        }
    }
}

/// What binds the runs of a driver on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enforcement {
    /// The version of control groups that bounds runs; none where no group can be made.
    pub cgroups: Option<Version>,
    /// Memory of a run.
    pub memory: Verdict,
    /// Processor time of a run.
    pub cpu: Verdict,
    /// Processes of a run.
    pub pids: Verdict,
    /// The size of a run's temporary files.
    pub tmpfs: Verdict,
    /// One bound for all runs of an agent.
    pub agent_bound: Verdict,
    /// Telling that memory ran out, and what a run used.
    pub accounting: Verdict,
    /// Whether runs whose bounds cannot be enforced are run all the same.
    pub best_effort: bool,
    /// What else binds runs.
    pub more: Vec<Fact>,
}

/// Something is asked for that cannot be enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unenforceable {
    /// The field that asks for it.
    pub(crate) field: &'static str,
    /// What it asks for.
    pub(crate) what: String,
    /// Why that cannot be.
    pub(crate) why: String,
}

impl Enforcement {
    /// Why a plain process cannot be bound in its temporary files.
    pub const NO_TMPFS: &str = "a plain process has no file system of its own; run it in a container";

    /// What holds for plain processes.
    pub(crate) fn of_processes(config: &Config, cgroups: &Cgroups) -> Self {
        let reasons = || {
            let reasons: Vec<_> =
                cgroups.missing.iter().map(|(what, why)| format!("{what}: {why}")).collect();
            if reasons.is_empty() {
                "this machine has no control groups".to_owned()
            } else {
                reasons.join("; ")
            }
        };
        let held = |controller: Controller| {
            Verdict::when(cgroups.has(controller), || {
                let named = cgroups.missing.iter().find(|(what, _)| what.contains(controller.name()));
                named.map_or_else(reasons, |(what, why)| format!("{what}: {why}"))
            })
        };
        let any = Controller::ALL.into_iter().any(|it| cgroups.has(it));
        Self {
            cgroups: cgroups.version(),
            memory: held(Controller::Memory),
            cpu: held(Controller::Cpu),
            pids: held(Controller::Pids),
            tmpfs: Verdict::NotAvailable(Self::NO_TMPFS.to_owned()),
            agent_bound: Verdict::when(any, reasons),
            // The kernel counts what a run and all it waited for used; groups only add what they had together.
            accounting: Verdict::InForce,
            best_effort: config.best_effort,
            more: of_processes(config, cgroups),
        }
    }

    /// All of it, by the names a host shows it by.
    pub fn facts(&self) -> Vec<Fact> {
        let bounds = [("memory", &self.memory), ("cpu", &self.cpu), ("pids", &self.pids)];
        let held: Vec<_> = bounds.iter().filter(|(_, it)| it.is_in_force()).map(|(name, _)| *name).collect();
        let groups = match self.cgroups {
            Some(version) if held.is_empty() => {
                Fact::in_force("controlGroups").with(format!("{version}, bounding nothing"))
            }
            Some(version) => Fact::in_force("controlGroups").with(format!("{version}: {}", held.join(", "))),
            None => Fact::new("controlGroups", self.agent_bound.clone()),
        };
        let others =
            [("tmpfs", &self.tmpfs), ("agentBound", &self.agent_bound), ("accounting", &self.accounting)];
        let named = bounds.into_iter().chain(others).map(|(name, verdict)| Fact::new(name, verdict.clone()));
        std::iter::once(groups).chain(named).chain(self.more.iter().cloned()).collect()
    }

    /// Whether something is in force, by its name.
    #[must_use]
    pub fn is_in_force(&self, name: &str) -> bool {
        self.facts().iter().any(|fact| fact.name == name && fact.verdict.is_in_force())
    }

    /// What holds for a run that asks for this, and whose agent is bounded to that, in words.
    ///
    /// # Errors
    /// When something of it cannot be enforced, and best effort is not enough.
    pub(crate) fn promise(
        &self,
        asked: &Resources,
        agent: Option<&Resources>,
    ) -> Result<Vec<String>, Unenforceable> {
        let bounded =
            agent.filter(|bound| bound.asks_for_groups()).map(|_| "a bound for its agent".to_owned());
        let wanted = [
            (
                "resources.memoryBytes",
                asked.memory_bytes.map(|it| format!("memory of {it} bytes")),
                &self.memory,
            ),
            (
                "resources.cpuMillis",
                asked.cpu_millis.map(|it| format!("{it} thousandths of a processor")),
                &self.cpu,
            ),
            ("resources.pids", asked.pids.map(|it| format!("{it} processes")), &self.pids),
            (
                "resources.tmpfsBytes",
                asked.tmpfs_bytes.map(|it| format!("temporary files of {it} bytes")),
                &self.tmpfs,
            ),
            ("agentId", bounded, &self.agent_bound),
        ];
        let asked =
            wanted.into_iter().filter_map(|(field, what, verdict)| Some((field, what?, verdict, true)));
        let host = self.more.iter().map(|fact| ("host", fact.words(), &fact.verdict, fact.required));
        let mut in_force = Vec::new();
        for (field, what, verdict, required) in host.chain(asked) {
            match verdict {
                Verdict::InForce => in_force.push(what),
                Verdict::NotAvailable(_) if !required => {}
                Verdict::NotAvailable(_) if self.best_effort => {
                    in_force.push(format!("not enforced: {what}"));
                }
                Verdict::NotAvailable(why) => return Err(Unenforceable { field, what, why: why.clone() }),
            }
        }
        Ok(in_force)
    }
}

/// What binds plain processes besides groups.
fn of_processes(config: &Config, cgroups: &Cgroups) -> Vec<Fact> {
    let no_kill = || {
        "the kernel kills a run at once in a control group of version 2 alone, since Linux 5.14".to_owned()
    };
    let kill = Fact::new("killAtOnce", Verdict::when(cgroups.can_kill(), no_kill));
    let user = match &config.user {
        Some(user) => Fact::in_force("runUser").with(format!("{}:{}", user.uid, user.gid)),
        None => Fact::new(
            "runUser",
            Verdict::NotAvailable("SKYCLAW_RUN_USER is not set: runs have the daemon's own user".to_owned()),
        ),
    };
    let file_size = match config.max_file_bytes {
        Some(bytes) => Fact::in_force("fileSize").with(format!("{bytes} bytes")),
        None => Fact::new("fileSize", Verdict::NotAvailable("SKYCLAW_MAX_FILE_BYTES is not set".to_owned())),
    };
    vec![
        Fact::in_force("noNewPrivileges"),
        Fact::in_force("ownSession"),
        Fact::in_force("noCoreFiles"),
        file_size,
        kill,
        landlock(config),
        user,
    ]
}

fn landlock(config: &Config) -> Fact {
    let Some(writable) = &config.writable else {
        let why = "SKYCLAW_WRITABLE_PATHS lets runs write anywhere";
        return Fact::new(LANDLOCK, Verdict::NotAvailable(why.to_owned()));
    };
    let verdict = Verdict::when(has_landlock(), || {
        "this kernel has no Landlock, or it is not enabled (it is since Linux 5.13)".to_owned()
    });
    let paths = writable.iter().map(|path| path.display().to_string());
    let paths: Vec<_> = std::iter::once("its own directories".to_owned()).chain(paths).collect();
    Fact {
        required: true,
        ..Fact::new(LANDLOCK, verdict).with(format!("writes only to {}", paths.join(", ")))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn enforcement(best_effort: bool) -> Enforcement {
        let no = |why: &str| Verdict::NotAvailable(why.to_owned());
        let landlock = Fact { required: true, ..Fact::new(LANDLOCK, no("an old kernel")) };
        Enforcement {
            cgroups: Some(Version::V1),
            memory: no("the controller is not there"),
            cpu: Verdict::InForce,
            pids: Verdict::InForce,
            tmpfs: no("no file system"),
            agent_bound: no("no groups"),
            accounting: Verdict::InForce,
            best_effort,
            more: if best_effort { vec![landlock] } else { vec![Fact::in_force("noNewPrivileges")] },
        }
    }

    #[test]
    fn what_cannot_be_held_is_refused_by_its_field_unless_best_effort_is_enough() {
        let (strict, lax) = (enforcement(false), enforcement(true));
        let memory = Resources { memory_bytes: Some(1 << 30), ..Resources::default() };
        let refused = strict.promise(&memory, None).expect_err("refused");
        assert_eq!(
            (refused.field, refused.why.as_str()),
            ("resources.memoryBytes", "the controller is not there")
        );
        assert_eq!(
            strict.promise(&Resources::default(), Some(&memory)).expect_err("refused").field,
            "agentId"
        );
        let cpu = Resources { cpu_millis: Some(100), ..Resources::default() };
        let words = strict.promise(&cpu, Some(&Resources::default())).expect("it is held");
        assert_eq!(words, ["no new privileges", "100 thousandths of a processor"]);
        let words = lax.promise(&memory, None).expect("it is run all the same");
        assert_eq!(words, ["not enforced: landlock", "not enforced: memory of 1073741824 bytes"]);
        let must = Enforcement { best_effort: false, ..lax };
        assert_eq!(must.promise(&cpu, None).expect_err("refused").why, "an old kernel");
    }

    #[test]
    fn what_is_in_force_is_shown_with_what_there_is_to_say_of_it() {
        let facts = enforcement(false).facts();
        assert_eq!(facts[0], Fact::in_force("controlGroups").with("version 1: cpu, pids"));
        assert!(facts.iter().any(|fact| fact.name == "memory" && !fact.verdict.is_in_force()));
        assert!(
            enforcement(false).is_in_force("noNewPrivileges") && !enforcement(false).is_in_force("tmpfs")
        );
    }
}
