//! How a job is to be run, as flags of a submission.

use std::time::Duration;

use clap::Args;
use skyclaw_proto::request::{EnqueueJobBody, MountBody};
use skyclaw_proto::{Isolation, OnLost, Resources};

use crate::arguments;

/// How a job is to be run.
#[derive(Debug, Args)]
pub(super) struct TermsArgs {
    /// What happens when its host is lost: retry, fail, or hold for work that must never be done twice
    #[arg(long, value_name = "WHAT", value_parser = on_lost)]
    on_lost: Option<OnLost>,
    /// What keeps it apart from the rest of its host: process or podman
    #[arg(long, value_name = "KIND", value_parser = isolation)]
    isolation: Option<Isolation>,
    /// The image of its container
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// How many processors it may use, such as 2 or 0.5
    #[arg(long, value_name = "N", value_parser = arguments::cpus)]
    cpus: Option<u32>,
    /// How much memory it may use, such as 512MiB
    #[arg(long, value_name = "BYTES", value_parser = arguments::bytes)]
    memory: Option<u64>,
    /// How many processes and threads it may have
    #[arg(long, value_name = "N")]
    pids: Option<u32>,
    /// The size of /tmp in its container, such as 64MiB
    #[arg(long, value_name = "BYTES", value_parser = arguments::bytes)]
    tmpfs: Option<u64>,
    /// The agent it runs for: all runs of one share one bound on a host
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// The network of its container: none, host, or one by name
    #[arg(long, value_name = "NETWORK")]
    network: Option<String>,
    /// A directory of the host that its container sees; may be repeated
    #[arg(long, value_name = "SOURCE[:TARGET][:rw]", value_parser = arguments::mount)]
    mount: Vec<MountBody>,
    /// How long it may take to stop by itself, such as 10s
    #[arg(long, value_name = "DURATION", value_parser = arguments::duration)]
    grace: Option<Duration>,
}

impl TermsArgs {
    /// The submission with what these say in its place.
    pub(super) fn put(self, body: EnqueueJobBody) -> EnqueueJobBody {
        let resources = Resources {
            cpu_millis: self.cpus,
            memory_bytes: self.memory,
            pids: self.pids,
            tmpfs_bytes: self.tmpfs,
        };
        EnqueueJobBody {
            on_lost: self.on_lost.map(|on_lost| on_lost.to_string()),
            isolation: self.isolation.map(|isolation| isolation.to_string()),
            image: self.image,
            resources: Some(resources).filter(|resources| !resources.is_empty()),
            agent_id: self.agent,
            network: self.network,
            mounts: Some(self.mount).filter(|mounts| !mounts.is_empty()),
            grace_ms: self.grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX)),
            ..body
        }
    }
}

fn on_lost(text: &str) -> Result<OnLost, String> {
    OnLost::parse(text).ok_or_else(|| "must be retry, fail or hold".to_owned())
}

fn isolation(text: &str) -> Result<Isolation, String> {
    Isolation::parse(text).ok_or_else(|| "must be process or podman".to_owned())
}
