//! `skyctl host …`.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Subcommand;
use skyclaw_config::clock;
use skyclaw_proto::record::{Drain, Host, HostEvent, HostFreeze};
use skyclaw_proto::request::DrainHostBody;
use skyclaw_proto::response::HostsBody;
use skyclaw_proto::{Capabilities, Timestamp};

use crate::arguments;
use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::lookup;
use crate::output::{Table, age};
use crate::snapshot::requested_by;

/// What can be done with hosts.
#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// List all hosts
    List,
    /// Show one host: how it does, what it can do and what it can enforce
    Get {
        /// Its id or name, or the beginning of its id
        id: String,
    },
    /// Let a host take no more work; its services are told to stop, its jobs may run to their end
    Drain {
        /// Its id or name, or the beginning of its id
        id: String,
        /// After how long the jobs that still run are told to stop, such as 10m [default: never]
        #[arg(long, value_name = "DURATION", value_parser = arguments::duration)]
        deadline: Option<Duration>,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Let a drained host take work again
    Undrain {
        /// Its id or name, or the beginning of its id
        id: String,
    },
    /// Forget a host that is down or drained; one whose daemon still runs registers anew, so stop that first
    Remove {
        /// Its id or name, or the beginning of its id
        id: String,
        /// Also when it is up or holds work
        #[arg(long)]
        force: bool,
    },
}

pub(crate) async fn run(command: HostCommand, context: &Context<'_>) -> Result<Exit, Error> {
    let client = context.client()?;
    let hosts = client.hosts().await?;
    let host = match command {
        HostCommand::List => {
            let body = HostsBody { hosts };
            context.out.show(&body, || table(&body.hosts, clock::now()))?;
            return Ok(Exit::Success);
        }
        HostCommand::Get { id } => lookup::host(hosts, &id)?,
        HostCommand::Drain { id, deadline, reason } => {
            let deadline_ms = deadline.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
            let drain = DrainHostBody { deadline_ms, reason, by: requested_by() };
            client.drain_host(&lookup::host(hosts, &id)?.id, &drain).await?
        }
        HostCommand::Undrain { id } => client.undrain_host(&lookup::host(hosts, &id)?.id).await?,
        HostCommand::Remove { id, force } => client.remove_host(&lookup::host(hosts, &id)?.id, force).await?,
    };
    context.out.show(&host, || details(&host))?;
    Ok(Exit::Success)
}

pub(crate) fn listed(capabilities: &Capabilities) -> String {
    capabilities.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(",")
}

/// A coordinator of the reference does not say how a host does.
fn state(host: &Host) -> String {
    host.state.map_or("-".to_owned(), |state| state.to_string())
}

fn table(hosts: &[Host], now: Timestamp) -> Table {
    let mut table = Table::new(&["ID", "NAME", "STATE", "LEASES", "SEEN", "CAPABILITIES"]);
    for host in hosts {
        table.row(vec![
            host.id.to_string(),
            host.name.clone(),
            state(host),
            format!("{}/{}", host.active_leases, host.max_parallel),
            age(now.since(host.last_seen_at)),
            listed(&host.capabilities),
        ]);
    }
    table
}

fn details(host: &Host) -> Table {
    let words = |words: &[String]| Some(words.join(",")).filter(|text| !text.is_empty());
    let enforces = host.enforces.as_ref();
    let lines = |said: &BTreeMap<String, String>| {
        let line = |(word, text): (&String, &String)| match text.as_str() {
            "" => word.clone(),
            text => format!("{word}: {text}"),
        };
        Some(said.iter().map(line).collect::<Vec<_>>().join("\n")).filter(|text| !text.is_empty())
    };
    let events: Vec<_> = host.events.iter().map(event_line).collect();
    Table::of_fields(vec![
        ("id", Some(host.id.to_string())),
        ("name", Some(host.name.clone())),
        ("state", host.state.map(|state| state.to_string())),
        ("since", host.state_since.map(|time| time.to_string())),
        ("reason", host.state_reason.clone()),
        ("frozen", host.frozen.as_ref().map(freeze_line)),
        ("drained", host.drain.as_ref().map(drain_line)),
        ("capabilities", Some(listed(&host.capabilities))),
        ("active leases", Some(host.active_leases.to_string())),
        ("max parallel", Some(host.max_parallel.to_string())),
        ("enforces", enforces.and_then(|enforces| words(&enforces.can))),
        ("best effort", enforces.and_then(|enforces| words(&enforces.best_effort))),
        ("in force", enforces.and_then(|enforces| lines(&enforces.in_force))),
        ("not available", enforces.and_then(|enforces| lines(&enforces.unavailable))),
        ("events", Some(events.join("\n")).filter(|text| !text.is_empty())),
        ("registered", Some(host.registered_at.to_string())),
        ("last seen", Some(host.last_seen_at.to_string())),
    ])
}

fn freeze_line(frozen: &HostFreeze) -> String {
    let by = frozen.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    format!("on its machine, since {}{by}: `skyclaw-hostd thaw` there ends it", frozen.since)
}

fn event_line(event: &HostEvent) -> String {
    let by = event.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let why = event.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{}  {}{by}{why}", event.at, event.kind)
}

fn drain_line(drain: &Drain) -> String {
    let by = drain.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let until = drain.deadline_at.map(|at| format!(", until {at}")).unwrap_or_default();
    format!("since {}{by}{until}", drain.since)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use skyclaw_proto::{Enforces, HostId, HostState, NodeId};

    use super::*;
    use crate::output::Look;

    fn host() -> Host {
        let at = |seconds: i64| Timestamp::from_millis(1_767_225_600_000 + seconds * 1000);
        Host {
            id: HostId::parse("host_1").expect("an id"),
            name: "alpha".into(),
            capabilities: Capabilities::new(["shell"]),
            max_parallel: 4,
            active_leases: 1,
            last_seen_at: at(5),
            registered_at: at(0),
            updated_by: NodeId::parse("n").expect("an id"),
            version: 1,
            state: Some(HostState::Draining),
            state_since: Some(at(3)),
            state_reason: Some("new disk".into()),
            drain: Some(Drain {
                since: at(3),
                deadline_at: Some(at(63)),
                reason: Some("new disk".into()),
                by: Some("ann".into()),
            }),
            enforces: Some(Enforces {
                can: vec!["podman".into(), "podman.memory".into()],
                best_effort: vec!["podman.cpu".into()],
                unavailable: [("process.memory".to_owned(), "no cgroups".to_owned())].into(),
                in_force: [("process.landlock", "writes only to /a"), ("process.ownSession", "")]
                    .map(|(word, text)| (word.to_owned(), text.to_owned()))
                    .into(),
            }),
            frozen: None,
            events: Vec::new(),
        }
    }

    #[test]
    fn a_host_that_is_frozen_on_its_machine_is_shown_so_with_who_did_it() {
        let at = Timestamp::from_millis(1_767_225_600_000);
        let freeze = HostFreeze { since: at, reason: Some("keys leaked".into()), by: Some("ann".into()) };
        let event = |kind: &str, reason: Option<&str>| HostEvent {
            at,
            kind: kind.into(),
            reason: reason.map(Into::into),
            by: Some("ann".into()),
        };
        let host = Host {
            state: Some(HostState::Frozen),
            state_reason: Some("keys leaked".into()),
            drain: None,
            frozen: Some(freeze),
            events: vec![event("thawed", None), event("frozen", Some("keys leaked"))],
            enforces: None,
            ..host()
        };
        expect![[r"
            id             host_1
            name           alpha
            state          frozen
            since          2026-01-01T00:00:03.000Z
            reason         keys leaked
            frozen         on its machine, since 2026-01-01T00:00:00.000Z by ann: `skyclaw-hostd thaw` there ends it
            capabilities   shell
            active leases  1
            max parallel   4
            events         2026-01-01T00:00:00.000Z  thawed by ann
                           2026-01-01T00:00:00.000Z  frozen by ann: keys leaked
            registered     2026-01-01T00:00:00.000Z
            last seen      2026-01-01T00:00:05.000Z
        "]]
        .assert_eq(&details(&host).render(Look::PLAIN));
    }

    #[test]
    fn a_host_is_shown_with_its_state_why_and_what_it_can_enforce() {
        expect![[r"
            id             host_1
            name           alpha
            state          draining
            since          2026-01-01T00:00:03.000Z
            reason         new disk
            drained        since 2026-01-01T00:00:03.000Z by ann, until 2026-01-01T00:01:03.000Z
            capabilities   shell
            active leases  1
            max parallel   4
            enforces       podman,podman.memory
            best effort    podman.cpu
            in force       process.landlock: writes only to /a
                           process.ownSession
            not available  process.memory: no cgroups
            registered     2026-01-01T00:00:00.000Z
            last seen      2026-01-01T00:00:05.000Z
        "]]
        .assert_eq(&details(&host()).render(Look::PLAIN));
    }

    #[test]
    fn a_list_shows_the_state_and_a_host_that_has_none_is_shown_without() {
        let silent = Host { state: None, ..host() };
        let now = Timestamp::from_millis(1_767_225_600_000 + 65_000);
        expect![[r"
            ID      NAME   STATE     LEASES  SEEN  CAPABILITIES
            host_1  alpha  draining  1/4     1m    shell
            host_1  alpha  -         1/4     1m    shell
        "]]
        .assert_eq(&table(&[host(), silent], now).render(Look::PLAIN));
    }
}
