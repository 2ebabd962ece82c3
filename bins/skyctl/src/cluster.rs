//! `skyctl cluster …`.

use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;
use skyclaw_client::Client;
use skyclaw_config::HttpUrl;
use skyclaw_proto::NodeId;
use skyclaw_proto::response::{Autopilot, AutopilotMember, Cluster, ClusterMember, MemberBody, Peers, Role};

use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{self, Format, Table, age};

const JOIN_EXAMPLE: &str =
    "Example: skyctl --coordinator http://10.0.0.1:8787 cluster join http://10.0.0.2:8787";
const REMOVE_EXAMPLE: &str = "\
Example: skyctl cluster remove node-c
The member that leads hands the leadership over first, by itself.";
const AUTOPILOT_EXAMPLES: &str = "\
Examples:
  skyctl cluster autopilot
  skyctl cluster autopilot --watch   again every two seconds, until Ctrl-C
Exits with 1 when a voter is not healthy.";
/// How often the autopilot is asked again.
const WATCH_EVERY: Duration = Duration::from_secs(2);
const TRANSFER_EXAMPLES: &str = "\
Examples:
  skyctl cluster transfer            to whoever is most up to date
  skyctl cluster transfer node-b";

/// What can be done with the cluster of the coordinators.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show the cluster as the coordinator that answers sees it
    #[command(after_help = "Example: skyctl cluster status -o json")]
    Status,
    /// List the members, voters first; LAG is in entries of the log, and the leader alone knows it
    #[command(after_help = "Example: skyctl cluster members")]
    Members,
    /// Show how the members do: who is healthy since when, and why who does not vote
    #[command(after_help = AUTOPILOT_EXAMPLES)]
    Autopilot {
        /// Show it again every two seconds
        #[arg(long, short)]
        watch: bool,
    },
    /// Tell a coordinator of another one
    #[command(after_help = JOIN_EXAMPLE)]
    Join {
        /// Base URL of the other one
        url: HttpUrl,
    },
    /// Take a member out of the cluster
    #[command(after_help = REMOVE_EXAMPLE)]
    Remove {
        /// Its name, or its number in the log
        name: NodeId,
    },
    /// Hand the leadership to another member that votes
    #[command(after_help = TRANSFER_EXAMPLES)]
    Transfer {
        /// Its name, or its number in the log [default: the one most up to date]
        name: Option<NodeId>,
    },
}

/// What a list of members is for programs.
#[derive(Debug, Serialize)]
struct MembersBody {
    members: Vec<ClusterMember>,
}

pub(crate) async fn run(command: ClusterCommand, context: &Context<'_>) -> Result<Exit, Error> {
    let client = context.client()?;
    match command {
        ClusterCommand::Status => {
            let cluster = client.cluster().await?;
            context.out.show(&cluster, || status(&cluster))?;
        }
        ClusterCommand::Members => {
            let body = MembersBody { members: client.cluster().await?.members };
            context.out.show(&body, || members(&body.members))?;
        }
        ClusterCommand::Autopilot { watch } => return autopilot(&client, watch, context).await,
        ClusterCommand::Join { url } => {
            let peers = client.join(url.as_str()).await?;
            context.out.show(&peers, || known(&peers))?;
        }
        ClusterCommand::Remove { name } => {
            let body = MemberBody { member: client.remove_member(&name).await? };
            context.out.show(&body, || members(std::slice::from_ref(&body.member)))?;
        }
        ClusterCommand::Transfer { name } => {
            let cluster = client.transfer_leadership(name.as_ref().map(NodeId::as_str)).await?;
            context.out.show(&cluster, || status(&cluster))?;
        }
    }
    Ok(Exit::Success)
}

/// Shows what the autopilot has found, again and again if it is to be watched.
async fn autopilot(client: &Client, watch: bool, context: &Context<'_>) -> Result<Exit, Error> {
    loop {
        let found = client.autopilot().await?;
        context.out.show(&found, || thresholds(&found))?;
        if context.out.format == Format::Table {
            output::print(b"\n")?;
            context.out.show(&found, || health(&found.members))?;
        }
        if !watch {
            return Ok(if found.healthy { Exit::Success } else { Exit::Failure });
        }
        tokio::select! {
            () = tokio::time::sleep(WATCH_EVERY) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
        }
        if context.out.format == Format::Table {
            output::print(b"\n")?;
        }
    }
}

fn thresholds(found: &Autopilot) -> Table {
    let seconds = |ms: u64| format!("{:.1} s", Duration::from_millis(ms).as_secs_f64());
    Table::of_fields(vec![
        ("healthy", Some(yes_or_no(found.healthy).to_owned())),
        ("failure tolerance", Some(found.failure_tolerance.to_string())),
        ("voters", Some(format!("{} of at most {}", found.voters, found.max_voters))),
        ("leader", Some(found.node_id.to_string())),
        ("answers within", Some(seconds(found.answers_within_ms))),
        ("caught up within", Some(format!("{} entries", found.caught_up_within))),
        ("votes after", Some(seconds(found.healthy_for_ms))),
    ])
}

fn health(members: &[AutopilotMember]) -> Table {
    let unknown = || "-".to_owned();
    let mut table = Table::new(&["NAME", "ROLE", "HEALTHY", "SINCE", "LAG", "SEEN", "WHY"]);
    for member in members {
        table.row(vec![
            member.node_id.as_ref().map_or_else(|| member.raft_id.clone(), NodeId::to_string),
            role(member.role).to_owned(),
            yes_or_no(member.healthy).to_owned(),
            member.since.to_string(),
            member.lag.map_or_else(unknown, |lag| lag.to_string()),
            member.silent_ms.map_or_else(unknown, |ms| age(Duration::from_millis(ms))),
            member.why.clone().unwrap_or_default(),
        ]);
    }
    table
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

fn leader(cluster: &Cluster) -> Option<&ClusterMember> {
    cluster.members.iter().find(|member| member.role == Role::Leader)
}

/// What people call it, or its number while it has no name.
fn name_of(member: &ClusterMember) -> String {
    member.node_id.as_ref().map_or_else(|| member.raft_id.clone(), NodeId::to_string)
}

fn status(cluster: &Cluster) -> Table {
    let none = || "none".to_owned();
    Table::of_fields(vec![
        ("cluster", Some(cluster.cluster_id.clone().unwrap_or_else(none))),
        ("answered by", Some(cluster.node_id.to_string())),
        ("term", Some(cluster.term.to_string())),
        ("leader", Some(leader(cluster).map_or_else(none, name_of))),
        ("applied", Some(cluster.applied.to_string())),
    ])
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Learner => "learner",
    }
}

fn members(members: &[ClusterMember]) -> Table {
    let unknown = || "-".to_owned();
    let mut table = Table::new(&["NAME", "ROLE", "LAG", "SEEN", "URL"]);
    for member in members {
        table.row(vec![
            name_of(member),
            role(member.role).to_owned(),
            member.lag.map_or_else(unknown, |lag| lag.to_string()),
            member.silent_ms.map_or_else(unknown, |ms| age(Duration::from_millis(ms))),
            member.url.clone().unwrap_or_else(unknown),
        ]);
    }
    table
}

fn known(peers: &Peers) -> Table {
    let mut fields = vec![("answered by", Some(peers.node_id.to_string())), ("self", peers.self_url.clone())];
    fields.extend(peers.peers.iter().map(|url| ("knows", Some(url.clone()))));
    Table::of_fields(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Look;
    use expect_test::expect;

    fn member(raft_id: &str, name: Option<&str>, role: Role) -> ClusterMember {
        ClusterMember {
            raft_id: raft_id.into(),
            node_id: name.map(|name| NodeId::parse(name).expect("id")),
            url: name.map(|name| format!("http://{name}:8787")),
            role,
            lag: None,
            silent_ms: None,
        }
    }

    fn cluster(members: Vec<ClusterMember>) -> Cluster {
        let node_id = NodeId::parse("node-a").expect("id");
        Cluster { node_id, cluster_id: Some("c-1".into()), term: 4, applied: 17, members }
    }

    #[test]
    fn the_status_names_the_leader_and_says_so_when_there_is_none() {
        let led = cluster(vec![member("1", Some("node-a"), Role::Follower), member("2", None, Role::Leader)]);
        expect![[r"
            cluster      c-1
            answered by  node-a
            term         4
            leader       2
            applied      17
        "]]
        .assert_eq(&status(&led).render(Look::PLAIN));
        let blank = Cluster { cluster_id: None, ..cluster(vec![]) };
        expect![[r"
            cluster      none
            answered by  node-a
            term         4
            leader       none
            applied      17
        "]]
        .assert_eq(&status(&blank).render(Look::PLAIN));
    }

    #[test]
    fn what_is_not_known_of_a_member_is_a_dash() {
        let behind = ClusterMember {
            lag: Some(12),
            silent_ms: Some(61_000),
            ..member("2", Some("node-b"), Role::Follower)
        };
        let all = [member("1", Some("node-a"), Role::Leader), behind, member("3", None, Role::Learner)];
        expect![[r"
            NAME    ROLE      LAG  SEEN  URL
            node-a  leader    -    -     http://node-a:8787
            node-b  follower  12   1m    http://node-b:8787
            3       learner   -    -     -
        "]]
        .assert_eq(&members(&all).render(Look::PLAIN));
    }

    #[test]
    fn the_autopilot_says_why_a_member_does_not_vote() {
        let at = |id: &str, role, healthy, why: Option<&str>| AutopilotMember {
            raft_id: id.into(),
            node_id: NodeId::parse(&format!("node-{id}")).ok(),
            url: None,
            role,
            healthy,
            since: skyclaw_proto::Timestamp::from_millis(1_767_225_600_000),
            lag: (role != Role::Leader).then_some(3),
            silent_ms: (role != Role::Leader).then_some(2000),
            why: why.map(str::to_owned),
        };
        let found = Autopilot {
            node_id: NodeId::parse("node-1").expect("id"),
            healthy: true,
            failure_tolerance: 0,
            voters: 1,
            max_voters: 5,
            caught_up_within: 64,
            answers_within_ms: 1000,
            healthy_for_ms: 1500,
            members: vec![
                at("1", Role::Leader, true, None),
                at("2", Role::Learner, false, Some("it has not answered for 2.0 s")),
            ],
        };
        expect![[r"
            healthy            yes
            failure tolerance  0
            voters             1 of at most 5
            leader             node-1
            answers within     1.0 s
            caught up within   64 entries
            votes after        1.5 s
        "]]
        .assert_eq(&thresholds(&found).render(Look::PLAIN));
        expect![[r"
            NAME    ROLE     HEALTHY  SINCE                     LAG  SEEN  WHY
            node-1  leader   yes      2026-01-01T00:00:00.000Z  -    -
            node-2  learner  no       2026-01-01T00:00:00.000Z  3    2s    it has not answered for 2.0 s
        "]]
        .assert_eq(&health(&found.members).render(Look::PLAIN));
    }
}
