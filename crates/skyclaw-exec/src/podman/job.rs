//! How a job becomes a run in a container.

use skyclaw_proto::record::Job;
use skyclaw_proto::terms::Terms;

use super::{Agent, Identity, Keep, Mount, Network, Spec};
use crate::{Cwd, Resources, RunSpec};

impl Spec {
    /// A job's run in an image, from what the run would be as a process.
    #[must_use]
    pub fn job(job: &Job, run: &RunSpec, image: String) -> Self {
        let terms = job.terms();
        let mut env = run.env.clone();
        env.extend(run.reserved.clone());
        Self {
            image,
            command: Some(run.command.clone()),
            args: run.args.clone(),
            env,
            cwd: match &run.cwd {
                Cwd::At(path) => Some(path.clone()),
                Cwd::Own | Cwd::Base => None,
            },
            limits: run.resources,
            agent: run.agent.clone().map(|id| Agent {
                id,
                // As for processes: what its latest run asks for bounds all of them together.
                limits: Resources { tmpfs_bytes: None, ..run.resources },
            }),
            mounts: mounts(&terms),
            network: network(&terms),
            identity: Identity {
                job: job.id.to_string(),
                fence: job.fence.unwrap_or_default(),
                attempt: job.attempts,
            },
            ..Self::default()
        }
    }
}

impl Keep {
    /// What the keepers of a run are told of it, from what it would be as a process.
    #[must_use]
    pub fn of(run: &RunSpec) -> Self {
        Self {
            deadline: run.deadline.clone(),
            extended: None,
            timeout: run.timeout,
            grace: run.grace,
            capture: run.capture,
            hint: run.hint.clone(),
            label: run.label.clone(),
        }
    }
}

fn network(terms: &Terms) -> Network {
    match terms.network.as_deref() {
        None | Some("none") => Network::None,
        Some("host") => Network::Host,
        Some(name) => Network::Named(name.to_owned()),
    }
}

fn mounts(terms: &Terms) -> Vec<Mount> {
    let one = |mount: &skyclaw_proto::Mount| Mount {
        source: mount.source.clone().into(),
        target: mount.target.clone().into(),
        writable: !mount.read_only,
    };
    terms.mounts.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::podman::User;
    use crate::{Allowlist, Config, Openclaw, Shim};
    use std::time::Duration;

    fn config() -> Config {
        Config {
            owner: "host".into(),
            allowlist: Allowlist::new(["sh"], std::ffi::OsStr::new("/bin")),
            openclaw: Openclaw { command: "openclaw".into(), args: vec!["run".into()] },
            runs_dir: "/runs".into(),
            base_dir: "/".into(),
            default_timeout: Duration::from_secs(9),
            stop_grace: Duration::from_secs(5),
            max_output_bytes: 10,
            shim: Shim { program: "/shim".into(), args: vec![] },
            user: None,
            writable: None,
            max_file_bytes: None,
            best_effort: false,
            halt: None,
        }
    }

    #[test]
    fn what_a_job_says_reaches_its_container() {
        let job: Job = serde_json::from_value(serde_json::json!({
            "id": "job_1", "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z",
            "updatedBy": "node-a", "version": 2, "status": "leased", "attempts": 2, "fence": 7,
            "payload": { "kind": "shell", "command": "train", "args": ["a"], "cwd": "/w",
                         "env": { "A": "1", "SKYCLAW_FENCE": "9" }, "timeoutMs": 50 },
            "isolation": "podman", "image": "i", "network": "lan", "agentId": "bot",
            "resources": { "memoryBytes": 9, "tmpfsBytes": 5 },
            "mounts": [{ "source": "/s", "target": "/t", "readOnly": false }],
        }))
        .expect("a job");
        let host = skyclaw_proto::HostId::parse("host_1").expect("an id");
        let run = RunSpec::job(&job, &host, &config());
        let spec = Spec::job(&job, &run, "i".into());
        assert_eq!((spec.command.as_deref(), spec.cwd.as_deref()), (Some("train"), Some("/w")));
        assert_eq!((spec.env["A"].as_str(), spec.env["SKYCLAW_FENCE"].as_str()), ("1", "7"));
        assert_eq!(spec.network, Network::Named("lan".into()));
        assert_eq!(spec.mounts[0].target, Path::new("/t"));
        assert!(spec.mounts[0].writable);
        assert_eq!((spec.limits.memory_bytes, spec.limits.tmpfs_bytes), (Some(9), Some(5)));
        let agent = spec.agent.expect("an agent");
        assert_eq!(
            (agent.id.as_str(), agent.limits.memory_bytes, agent.limits.tmpfs_bytes),
            ("bot", Some(9), None)
        );
        assert_eq!((spec.identity.fence, spec.identity.attempt, spec.user), (7, 2, None::<User>));
        assert_eq!(Keep::of(&run).timeout, Some(Duration::from_millis(50)));
    }
}
