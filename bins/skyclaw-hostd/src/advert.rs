//! What this host can enforce of what jobs ask for, as it tells the coordinators.

use skyclaw_exec::Enforcement;
use skyclaw_proto::{Enforces, limits};

/// What holds for plain processes here.
pub(crate) fn of(enforcement: &Enforcement) -> Enforces {
    let mut told = Enforces { can: vec!["process".to_owned()], ..Enforces::default() };
    let bounds = [
        ("cpu", enforcement.cpu),
        ("memory", enforcement.memory),
        ("pids", enforcement.pids),
        ("tmpfs", enforcement.tmpfs),
    ];
    for (name, enforced) in bounds {
        let word = format!("process.{name}");
        if enforced {
            told.can.push(word);
            continue;
        }
        let mut why = why(enforcement, name);
        why.truncate(why.floor_char_boundary(limits::MAX_REASON_LEN));
        told.unavailable.insert(word.clone(), why);
        if enforcement.best_effort {
            told.best_effort.push(word);
        }
    }
    told
}

fn why(enforcement: &Enforcement, name: &str) -> String {
    if name == "tmpfs" {
        return Enforcement::NO_TMPFS.to_owned();
    }
    let named = enforcement.missing.iter().find(|missing| missing.what.contains(name));
    let reason = named.or_else(|| enforcement.missing.first());
    reason.map_or_else(|| "not found on this machine".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enforcement(best_effort: bool) -> Enforcement {
        serde_json::from_value(serde_json::json!({
            "cgroups": null, "memory": false, "cpu": true, "pids": true, "tmpfs": false, "killAtOnce": false,
            "landlock": false, "writable": null, "user": false, "noNewPrivileges": true,
            "bestEffort": best_effort, "missing": [{ "what": "control groups (memory)", "why": "read-only" }],
        }))
        .expect("an enforcement")
    }

    #[test]
    fn what_cannot_be_enforced_is_said_with_its_reason_and_promised_only_where_the_operator_allows() {
        let strict = of(&enforcement(false));
        assert_eq!(strict.can, ["process", "process.cpu", "process.pids"]);
        assert_eq!(strict.best_effort, [""; 0]);
        assert_eq!(strict.unavailable["process.memory"], "control groups (memory): read-only");
        assert_eq!(of(&enforcement(true)).best_effort, ["process.memory", "process.tmpfs"]);
    }
}
