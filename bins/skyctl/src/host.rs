//! `skyctl host …`.

use clap::Subcommand;
use skyclaw_config::clock;
use skyclaw_proto::record::Host;
use skyclaw_proto::response::HostsBody;
use skyclaw_proto::{Capabilities, Timestamp};

use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::lookup;
use crate::output::{Table, age};

/// What can be done with hosts.
#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// List all hosts
    List,
    /// Show one host
    Get {
        /// Its id or name, or the beginning of its id
        id: String,
    },
}

pub(crate) async fn run(command: HostCommand, context: &Context<'_>) -> Result<Exit, Error> {
    let hosts = context.client()?.hosts().await?;
    match command {
        HostCommand::List => {
            let body = HostsBody { hosts };
            context.out.show(&body, || table(&body.hosts, clock::now()))?;
        }
        HostCommand::Get { id } => {
            let host = lookup::host(hosts, &id)?;
            context.out.show(&host, || details(&host))?;
        }
    }
    Ok(Exit::Success)
}

pub(crate) fn listed(capabilities: &Capabilities) -> String {
    capabilities.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(",")
}

fn table(hosts: &[Host], now: Timestamp) -> Table {
    let mut table = Table::new(&["ID", "NAME", "LEASES", "SEEN", "CAPABILITIES"]);
    for host in hosts {
        table.row(vec![
            host.id.to_string(),
            host.name.clone(),
            format!("{}/{}", host.active_leases, host.max_parallel),
            age(now.since(host.last_seen_at)),
            listed(&host.capabilities),
        ]);
    }
    table
}

fn details(host: &Host) -> Table {
    Table::of_fields(vec![
        ("id", Some(host.id.to_string())),
        ("name", Some(host.name.clone())),
        ("capabilities", Some(listed(&host.capabilities))),
        ("active leases", Some(host.active_leases.to_string())),
        ("max parallel", Some(host.max_parallel.to_string())),
        ("registered", Some(host.registered_at.to_string())),
        ("last seen", Some(host.last_seen_at.to_string())),
    ])
}
