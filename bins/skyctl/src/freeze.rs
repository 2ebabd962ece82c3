//! `skyctl freeze …` and `skyctl thaw …`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use skyclaw_client::Client;
use skyclaw_config::clock;
use skyclaw_proto::record::Freeze;
use skyclaw_proto::request::{FreezeBody, ThawBody};
use skyclaw_proto::response::FreezesBody;
use skyclaw_proto::{AgentId, FreezeId, Scope, Timestamp};

use crate::arguments;
use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Table, age};
use crate::snapshot::requested_by;

/// What is frozen.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct FreezeArgs {
    #[command(subcommand)]
    command: Option<FreezeCommand>,
    #[command(flatten)]
    scope: ScopeArgs,
    /// Why
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, Subcommand)]
enum FreezeCommand {
    /// List what is frozen
    List {
        /// Also the newest of what was
        #[arg(long)]
        all: bool,
    },
}

/// Which freezes end.
#[derive(Debug, Args)]
pub(crate) struct ThawArgs {
    /// The freeze, by its id
    #[arg(value_name = "ID", conflicts_with_all = ["label", "agent", "all"])]
    id: Option<FreezeId>,
    #[command(flatten)]
    scope: ScopeArgs,
    /// All freezes
    #[arg(long, conflicts_with_all = ["label", "agent"])]
    all: bool,
}

/// What is meant: everything that fulfils all that is given.
#[derive(Debug, Args)]
struct ScopeArgs {
    /// Only jobs and services with this label; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = arguments::pair)]
    label: Vec<(String, String)>,
    /// Only jobs and services of this agent
    #[arg(long, value_name = "AGENT")]
    agent: Option<AgentId>,
}

impl ScopeArgs {
    fn scope(self) -> Scope {
        Scope { labels: self.label.into_iter().collect(), agent_id: self.agent }
    }
}

pub(crate) async fn freeze(args: FreezeArgs, context: &Context<'_>) -> Result<Exit, Error> {
    let client = context.client()?;
    match args.command {
        Some(FreezeCommand::List { all }) => show(client.freezes(all).await?, context)?,
        None => {
            let frozen = client.freeze(&body(args.scope, args.reason, requested_by()), None).await?;
            show(vec![frozen], context)?;
        }
    }
    Ok(Exit::Success)
}

fn body(scope: ScopeArgs, reason: Option<String>, by: Option<String>) -> FreezeBody {
    let Scope { labels, agent_id } = scope.scope();
    FreezeBody {
        labels: Some(labels).filter(|labels: &BTreeMap<_, _>| !labels.is_empty()),
        agent_id: agent_id.map(|agent| agent.to_string()),
        reason,
        by,
    }
}

pub(crate) async fn thaw(args: ThawArgs, context: &Context<'_>) -> Result<Exit, Error> {
    let client = context.client()?;
    let meant = match args.id {
        Some(id) => vec![id],
        None => found(&client, args.scope.scope(), args.all).await?,
    };
    let mut thawed = Vec::new();
    for id in &meant {
        thawed.push(client.thaw(id, &ThawBody { by: requested_by() }).await?);
    }
    show(thawed, context)?;
    Ok(Exit::Success)
}

/// The freezes with exactly this scope, or all of them. That there is none is no fault only of `--all`.
async fn found(client: &Client, scope: Scope, all: bool) -> Result<Vec<FreezeId>, Error> {
    let in_force = client.freezes(false).await?;
    let meant: Vec<_> = in_force
        .iter()
        .filter(|freeze| all || freeze.scope == scope)
        .map(|freeze| freeze.id.clone())
        .collect();
    if meant.is_empty() && !all {
        let others: Vec<String> =
            in_force.iter().map(|freeze| format!("{} ({})", freeze.id, freeze.scope)).collect();
        let hint = match others.as_slice() {
            [] => ": nothing is frozen".to_owned(),
            others => format!(": frozen are {}", others.join("; ")),
        };
        return Err(Error::NoSuch { kind: "freeze of", wanted: scope.to_string(), hint });
    }
    Ok(meant)
}

fn show(freezes: Vec<Freeze>, context: &Context<'_>) -> Result<(), Error> {
    let body = FreezesBody { freezes };
    context.out.show(&body, || table(&body.freezes, clock::now()))
}

fn table(freezes: &[Freeze], now: Timestamp) -> Table {
    let mut table = Table::new(&["ID", "COVERS", "STATE", "AGE", "BY", "REASON"]);
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    for freeze in freezes {
        let state = match freeze.thawed_at {
            None => "frozen".to_owned(),
            Some(at) => format!("thawed {} ago", age(now.since(at))),
        };
        table.row(vec![
            freeze.id.to_string(),
            freeze.scope.to_string(),
            state,
            age(now.since(freeze.frozen_at)),
            or_dash(&freeze.by),
            or_dash(&freeze.reason),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use expect_test::expect;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::output::Look;

    fn parsed(line: &str) -> Option<FreezeArgs> {
        match Cli::try_parse_from(line.split(' ')).ok()?.command? {
            Command::Freeze(args) => Some(args),
            _ => None,
        }
    }

    #[test]
    fn a_freeze_without_a_scope_is_one_of_everything() {
        let sent = |line: &str| {
            let args = parsed(line).expect("a freeze");
            serde_json::to_string(&body(args.scope, args.reason, Some("ann".into()))).expect("json")
        };
        expect![[r#"{"by":"ann"}"#]].assert_eq(&sent("skyctl freeze"));
        expect![[r#"{"labels":{"team":"a"},"agentId":"bot","reason":"odd","by":"ann"}"#]]
            .assert_eq(&sent("skyctl freeze --label team=a --agent bot --reason odd"));
    }

    #[test]
    fn listing_takes_no_scope_so_that_nothing_is_frozen_by_a_slip() {
        assert!(matches!(
            parsed("skyctl freeze list --all").and_then(|args| args.command),
            Some(FreezeCommand::List { all: true })
        ));
        assert!(parsed("skyctl freeze --label a=b list").is_none());
        assert!(parsed("skyctl freeze everything").is_none());
    }

    #[test]
    fn a_table_says_what_is_frozen_since_when_and_why() {
        let freeze = |thawed_at| Freeze {
            id: FreezeId::parse("freeze_1").expect("an id"),
            scope: Scope { agent_id: AgentId::parse("bot").ok(), ..Scope::default() },
            frozen_at: Timestamp::from_millis(1_767_225_600_000),
            reason: Some("odd trades".into()),
            by: None,
            thawed_at,
            thawed_by: None,
        };
        let at = |seconds: i64| Timestamp::from_millis(1_767_225_600_000 + seconds * 1000);
        expect![[r"
            ID        COVERS     STATE          AGE  BY  REASON
            freeze_1  agent bot  frozen         2m   -   odd trades
            freeze_1  agent bot  thawed 1m ago  2m   -   odd trades
        "]]
        .assert_eq(&table(&[freeze(None), freeze(Some(at(60)))], at(120)).render(Look::PLAIN));
    }
}
