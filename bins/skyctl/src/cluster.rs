//! `skyctl cluster …`.

use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;
use skyclaw_client::{Client, Error as ClientError};
use skyclaw_config::HttpUrl;
use skyclaw_proto::NodeId;
use skyclaw_proto::response::{Cluster, ClusterMember, MemberBody, Peers, Role};

use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Table, age};

const JOIN_EXAMPLE: &str =
    "Example: skyctl --coordinator http://10.0.0.1:8787 cluster join http://10.0.0.2:8787";
const REMOVE_EXAMPLE: &str = "\
Example: skyctl cluster remove node-c
The member that leads cannot be removed: hand the leadership over first, with skyctl cluster transfer.";
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
        ClusterCommand::Join { url } => {
            let peers = client.join(url.as_str()).await?;
            context.out.show(&peers, || known(&peers))?;
        }
        ClusterCommand::Remove { name } => {
            let body = MemberBody { member: remove(&client, &name).await? };
            context.out.show(&body, || members(std::slice::from_ref(&body.member)))?;
        }
        ClusterCommand::Transfer { name } => {
            let cluster = client.transfer_leadership(name.as_ref().map(NodeId::as_str)).await?;
            context.out.show(&cluster, || status(&cluster))?;
        }
    }
    Ok(Exit::Success)
}

/// A leader answers a request to remove itself as if it did not lead, so that nobody takes it. Who is
/// seen to lead is asked afterwards only: before, it could have been yesterday's news.
async fn remove(client: &Client, name: &NodeId) -> Result<ClusterMember, Error> {
    let error = match client.remove_member(name).await {
        Ok(member) => return Ok(member),
        Err(error) => error,
    };
    if matches!(error, ClientError::Unavailable { .. })
        && let Ok(cluster) = client.cluster().await
        && leader(&cluster).is_some_and(|member| is_named(member, name))
    {
        return Err(Error::Leads { name: name.clone() });
    }
    Err(error.into())
}

fn leader(cluster: &Cluster) -> Option<&ClusterMember> {
    cluster.members.iter().find(|member| member.role == Role::Leader)
}

fn is_named(member: &ClusterMember, name: &NodeId) -> bool {
    member.node_id.as_ref() == Some(name) || member.raft_id == name.as_str()
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

fn members(members: &[ClusterMember]) -> Table {
    let unknown = || "-".to_owned();
    let mut table = Table::new(&["NAME", "ROLE", "LAG", "SEEN", "URL"]);
    for member in members {
        let role = match member.role {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Learner => "learner",
        };
        table.row(vec![
            name_of(member),
            role.to_owned(),
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
    fn a_member_is_named_by_its_name_or_its_number() {
        let node = member("7", Some("node-a"), Role::Leader);
        let named = |name: &str| is_named(&node, &NodeId::parse(name).expect("id"));
        assert!(named("node-a") && named("7") && !named("node-b"));
    }
}
