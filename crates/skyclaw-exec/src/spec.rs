//! What to run, and how a job or a service becomes that.

use std::time::Duration;

use skyclaw_proto::payload::Env;
use skyclaw_proto::record::{Job, Service};
use skyclaw_proto::{HostId, Payload};

use serde::{Deserialize, Serialize};

use crate::{BootTime, Config, Resources};

/// How much of a service's output is kept for the report of its end, in bytes.
const SERVICE_TAIL_BYTES: usize = 4096;

/// What to run.
#[derive(Debug, Clone)]
pub struct RunSpec {
    /// A name on the allowlist.
    pub command: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Where it starts.
    pub cwd: Cwd,
    /// The client's variables.
    pub env: Env,
    /// Variables the client's do not replace.
    pub reserved: Env,
    /// After how long it is stopped; `None` for never.
    pub timeout: Option<Duration>,
    /// How long it may take to end after it was asked to, before it is killed.
    pub grace: Duration,
    /// Which part of its output is kept.
    pub capture: Capture,
    /// What to add to the error when it ends by itself without success.
    pub hint: Option<String>,
    /// Until when it may go on unless it is extended; `None` for as long as it takes.
    pub deadline: Option<Deadline>,
    /// What it is bounded to.
    pub resources: Resources,
    /// Whose run it is: all runs of one agent share one bound.
    pub agent: Option<String>,
    /// What whoever finds it again needs to know of it; kept on disk as long as the run.
    pub label: serde_json::Value,
}

/// A moment at which a run is stopped by its shim, whatever has become of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadline {
    /// When it is asked to end.
    pub at: BootTime,
    /// How long after that and the grace something of it may still be there.
    pub slack: Duration,
    /// Why it is stopped then.
    pub why: String,
}

/// Where a run starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cwd {
    /// In a fresh directory of its own, removed with it.
    Own,
    /// In the driver's [base directory](Config::base_dir), as the reference does.
    Base,
    /// In a given directory; one that is not absolute is below the base directory.
    At(String),
}

/// Which part of a stream is kept, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Capture {
    /// The beginning, marked when there was more.
    Head(usize),
    /// The end.
    Tail(usize),
}

/// How OpenClaw is run on this host.
#[derive(Debug, Clone)]
pub struct Openclaw {
    /// Its command, which must be on the allowlist too.
    pub command: String,
    /// The arguments of a job that names none.
    pub args: Vec<String>,
}

impl RunSpec {
    /// A run of a command with the driver's usual bounds and nothing else.
    #[must_use]
    pub fn plain(command: &str, args: Vec<String>, config: &Config) -> Self {
        Self {
            command: command.to_owned(),
            args,
            cwd: Cwd::Own,
            env: Env::new(),
            reserved: Env::new(),
            timeout: None,
            grace: config.stop_grace,
            capture: Capture::Head(config.max_output_bytes),
            hint: None,
            deadline: None,
            resources: Resources::default(),
            agent: None,
            label: serde_json::Value::Null,
        }
    }

    /// A job's run. Without a working directory it starts in a fresh one: two jobs never meet there, and
    /// nothing is left behind.
    #[must_use]
    pub fn job(job: &Job, host: &HostId, config: &Config) -> Self {
        let mut reserved = Env::from([
            ("SKYCLAW_JOB_ID".to_owned(), job.id.to_string()),
            ("SKYCLAW_ATTEMPT".to_owned(), job.attempts.to_string()),
            ("SKYCLAW_HOST_ID".to_owned(), host.to_string()),
        ]);
        // A reference coordinator gives no fence; the client must not be able to make one up.
        let fence = job.fence.map(|fence| fence.to_string()).unwrap_or_default();
        reserved.insert("SKYCLAW_FENCE".to_owned(), fence);
        let (command, args, cwd, env, timeout_ms, hint) = match &job.payload {
            Payload::Shell(p) => {
                (&p.command, p.args.clone().unwrap_or_default(), &p.cwd, &p.env, p.timeout_ms, None)
            }
            Payload::OpenclawRun(p) => {
                let openclaw = &config.openclaw;
                let hint = p.args.is_none().then(|| openclaw.hint());
                let args = p.args.clone().unwrap_or_else(|| openclaw.args.clone());
                (&openclaw.command, args, &p.openclaw_dir, &p.env, p.timeout_ms, hint)
            }
        };
        Self {
            cwd: cwd.clone().map_or(Cwd::Own, Cwd::At),
            env: env.clone().unwrap_or_default(),
            reserved,
            timeout: Some(timeout_ms.map_or(config.default_timeout, Duration::from_millis)),
            hint,
            resources: Resources::from(job.terms().resources),
            agent: job.terms().agent_id.map(|agent| agent.to_string()),
            ..Self::plain(command, args, config)
        }
    }

    /// A service's run, which learns its port from `PORT`. Without a working directory it starts in the
    /// base directory: what services run is mostly installed there.
    #[must_use]
    pub fn service(service: &Service, host: &HostId, port: u16, config: &Config) -> Self {
        Self {
            cwd: service.cwd.clone().map_or(Cwd::Base, Cwd::At),
            env: service.env.clone().unwrap_or_default(),
            reserved: Env::from([
                ("PORT".to_owned(), port.to_string()),
                ("SKYCLAW_SERVICE_ID".to_owned(), service.id.to_string()),
                ("SKYCLAW_HOST_ID".to_owned(), host.to_string()),
            ]),
            capture: Capture::Tail(SERVICE_TAIL_BYTES),
            agent: service.agent_id.as_ref().map(ToString::to_string),
            ..Self::plain(&service.command, service.args.clone(), config)
        }
    }
}

impl Openclaw {
    fn hint(&self) -> String {
        format!(
            "it was run with this host's default arguments `{}`, which newer OpenClaw does not know: \
             give the job `args` or set SKYCLAW_OPENCLAW_ARGS on the host",
            self.args.join(" ")
        )
    }
}
