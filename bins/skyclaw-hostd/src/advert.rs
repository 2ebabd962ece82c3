//! What binds runs on this host, as it tells the coordinators.

use std::collections::BTreeSet;

use skyclaw_exec::podman::Policy;
use skyclaw_exec::{Enforcement, Verdict};
use skyclaw_proto::{Enforces, limits};

/// The word for runs in containers.
const PODMAN: &str = "podman";
/// What a job can ask for, in the words that hosts are chosen by.
const BOUNDS: [&str; 4] = ["cpu", "memory", "pids", "tmpfs"];

/// What holds for the runs of these drivers.
pub(crate) fn of<'a>(drivers: impl IntoIterator<Item = (&'static str, &'a Enforcement)>) -> Enforces {
    let mut told = Enforces::default();
    for (driver, enforcement) in drivers {
        told.can.push(driver.to_owned());
        for fact in enforcement.facts() {
            let word = format!("{driver}.{}", fact.name);
            let is_bound = BOUNDS.contains(&fact.name.as_str());
            match fact.verdict {
                Verdict::InForce if is_bound => told.can.push(word),
                Verdict::InForce => drop(told.in_force.insert(word, cut(fact.detail.unwrap_or_default()))),
                Verdict::NotAvailable(why) => {
                    if is_bound && enforcement.best_effort {
                        told.best_effort.push(word.clone());
                    }
                    told.unavailable.insert(word, cut(why));
                }
            }
        }
    }
    told
}

/// What holds for processes and in Podman, where some of the networks that jobs may ask for may be missing.
pub(crate) fn with_podman(
    processes: &Enforcement,
    podman: &Enforcement,
    policy: &Policy,
    missing: &BTreeSet<String>,
) -> Enforces {
    let mut told = of([("process", processes), (PODMAN, podman)]);
    if let Some(most) = policy.ceiling.tmpfs_bytes {
        told.in_force.insert(format!("{PODMAN}.tmpfs"), format!("at most {most} bytes"));
    }
    for name in &policy.networks {
        let word = format!("{PODMAN}.network.{name}");
        if missing.contains(name) {
            told.unavailable.insert(word, "Podman knows no network of this name".to_owned());
        } else {
            told.can.push(word);
        }
    }
    told
}

/// What holds for processes, where nothing runs in Podman for this reason.
pub(crate) fn without_podman(processes: &Enforcement, why: &str) -> Enforces {
    let mut told = of([("process", processes)]);
    told.unavailable.insert(PODMAN.to_owned(), cut(why.to_owned()));
    told
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(limits::MAX_REASON_LEN));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enforcement(best_effort: bool) -> Enforcement {
        let no = |why: &str| serde_json::json!({ "notAvailable": why });
        let landlock = serde_json::json!({
            "name": "landlock", "verdict": "inForce", "detail": "writes only to /a", "required": true,
        });
        serde_json::from_value(serde_json::json!({
            "cgroups": "v1", "memory": no("control groups (memory): read-only"), "cpu": "inForce",
            "pids": "inForce", "tmpfs": no("no file system"), "agentBound": "inForce",
            "accounting": "inForce", "bestEffort": best_effort, "more": [landlock],
        }))
        .expect("an enforcement")
    }

    #[test]
    fn what_cannot_be_enforced_is_said_with_its_reason_and_promised_only_where_the_operator_allows() {
        let strict = of([("process", &enforcement(false))]);
        assert_eq!(strict.can, ["process", "process.cpu", "process.pids"]);
        assert_eq!(strict.best_effort, [""; 0]);
        assert_eq!(strict.unavailable["process.memory"], "control groups (memory): read-only");
        assert_eq!(of([("process", &enforcement(true))]).best_effort, ["process.memory", "process.tmpfs"]);
    }

    #[test]
    fn what_binds_runs_is_said_of_each_driver_with_what_there_is_to_say_of_it() {
        let (one, other) = (enforcement(false), enforcement(false));
        let told = of([("process", &one), ("podman", &other)]);
        assert_eq!(told.in_force["process.landlock"], "writes only to /a");
        assert_eq!(told.in_force["podman.controlGroups"], "version 1: cpu, pids");
        assert_eq!(told.in_force["podman.agentBound"], "");
        assert_eq!(
            told.can,
            ["process", "process.cpu", "process.pids", "podman", "podman.cpu", "podman.pids"]
        );
    }

    #[test]
    fn podman_is_offered_with_the_networks_that_it_knows_or_not_at_all() {
        let both = enforcement(false);
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
        let policy = Policy { networks: names(&["host", "lan", "gone"]), ..Policy::default() };
        let told = with_podman(&both, &both, &policy, &names(&["gone"]));
        assert_eq!(told.in_force["podman.tmpfs"], "at most 67108864 bytes");
        for word in ["podman", "podman.cpu", "podman.network.host", "podman.network.lan"] {
            assert!(told.can.contains(&word.to_owned()), "{word}");
        }
        assert!(told.unavailable.contains_key("podman.network.gone"));
        let told = without_podman(&both, "it does not answer");
        assert_eq!(told.unavailable["podman"], "it does not answer");
        assert!(!told.words().any(|word| word.starts_with("podman")));
    }
}
