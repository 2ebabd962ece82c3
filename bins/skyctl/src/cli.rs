//! The command line as types; its doc comments are the `--help`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::bench::BenchArgs;
use crate::classic::ClassicCommand;
use crate::cluster::ClusterCommand;
use crate::events::EventsArgs;
use crate::freeze::{FreezeArgs, ThawArgs};
use crate::host::HostCommand;
use crate::job::JobCommand;
use crate::output::Format;
use crate::schedule::ScheduleCommand;
use crate::service::ServiceCommand;
use crate::snapshot::SnapshotCommand;
use crate::state::StateCommand;

const AFTER_HELP: &str = "\
Examples:
  skyctl demo                                  see it work on this machine alone
  skyctl job submit --wait -- echo hello       run a command and show its output
  skyctl job list --status failed
  skyctl freeze --reason \"odd trades\"          stop everything at once
  skyctl events -f                             everything that happens, as it happens
  skyctl cluster members                       the coordinators, who leads, who is behind
  skyctl enqueue-shell bash -lc \"echo hello\"

Environment:
  SKYCLAW_COORDINATOR_URLS   coordinators, separated by commas
  SKYCLAW_COORDINATOR_URL    one coordinator [default: http://127.0.0.1:8787]
  SKYCLAW_TOKEN              the shared token
  SKYCLAW_TOKEN_FILE         a file that holds it
  SKYCLAW_DEADLINE_MS        how long to try before giving up [default: 10000]
  SKYCLAW_LOG                what is logged to stderr [default: warn]
  NO_COLOR                   no colours, also on a terminal
There is no flag for the token itself, for every user of a machine can see the flags of a command.

Exit codes:
  0 done  1 failed  2 usage  3 not found  4 not authorized  5 no coordinator answered
  When waiting for a job: its own exit code; 125 if it was cancelled, expired or lost; 130 after Ctrl-C";

/// Operate a Skyclaw mesh: submit jobs, look at them, deploy services.
#[derive(Debug, Parser)]
#[command(
    name = "skyctl",
    version,
    after_help = AFTER_HELP,
    max_term_width = 100,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    /// Print the settings in effect and where each came from, then exit
    #[arg(long)]
    pub(crate) print_config: bool,
    /// Needed unless the settings are to be printed.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Base URL of a coordinator; repeat it, or separate several by commas
    #[arg(long, global = true, value_name = "URL", value_delimiter = ',', help_heading = "Global options")]
    pub(crate) coordinator: Vec<String>,
    /// File that holds the shared token
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(crate) token_file: Option<PathBuf>,
    /// TOML file with settings [default: /etc/skyclaw/skyctl.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(crate) config: Option<PathBuf>,
    /// How to print what was found
    #[arg(
        short = 'o',
        long,
        global = true,
        value_name = "FORMAT",
        default_value = "table",
        help_heading = "Global options"
    )]
    pub(crate) format: Format,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Submit, list, follow and cancel jobs, and decide about lost ones
    #[command(subcommand)]
    Job(JobCommand),
    /// Look at the hosts that run work, drain and remove them
    #[command(subcommand)]
    Host(HostCommand),
    /// Stop everything, or what has a label or belongs to an agent: nothing of it is claimed or runs until thaw
    ///
    /// Examples:
    ///   skyctl freeze --reason "odd trades"
    ///   skyctl freeze --agent bot-7
    ///   skyctl freeze list
    #[command(verbatim_doc_comment)]
    Freeze(FreezeArgs),
    /// End a freeze: without an id or a scope, the one of everything
    Thaw(ThawArgs),
    /// Submit jobs at the times of a cron expression
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// Look at services
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Show what happened to jobs, hosts and services, and follow what happens
    ///
    /// Examples:
    ///   skyctl events --status failed
    ///   skyctl events -f --kind job --label team=a -o json
    #[command(verbatim_doc_comment)]
    Events(Box<EventsArgs>),
    /// Look at the coordinators' cluster and change it
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Export everything a coordinator keeps
    #[command(subcommand)]
    State(StateCommand),
    /// Back a cluster up, and bring it back
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Measure a coordinator: put jobs through it, and say how many a second and how long each step takes
    ///
    /// Speaks the wire contract alone, so any coordinator can be measured. The hosts are its own
    /// and run nothing: they claim and complete. Its jobs ask for a capability that only these hosts
    /// have, so nobody else is given one. At its end the hosts are removed, and jobs that are left
    /// are called off; finished ones stay in the history. Exits with 1 when a request failed for
    /// good, with 130 after Ctrl-C.
    ///
    /// Examples:
    ///   skyctl bench                                       10,000 jobs, 16 enqueuers, 16 hosts
    ///   skyctl bench --duration 30s --enqueuers 64 --hosts 64 -o json
    ///   skyctl bench --jobs 50000 --separately             first enqueue all, then claim and complete all
    #[command(verbatim_doc_comment)]
    Bench(BenchArgs),
    /// Start a mesh of one coordinator and one host here, run a job on it, and clean up
    ///
    /// Needs the programs skyclawd and skyclaw-hostd beside skyctl or in PATH. Nothing is left behind.
    Demo,
    /// Print the completion script of a shell
    ///
    /// Example: skyctl completions bash > /etc/bash_completion.d/skyctl
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    #[command(flatten)]
    Classic(ClassicCommand),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    fn parsed(line: &str) -> String {
        let cli = Cli::try_parse_from(line.split('|')).expect("parses");
        format!("{:?} {:?}", cli.global.format, cli.command)
    }

    #[test]
    fn what_looks_like_a_flag_after_a_command_belongs_to_the_command() {
        let shell = parsed("skyctl|enqueue-shell|bash|-lc|echo hello|-o|json|--help");
        assert!(
            shell.starts_with("Table")
                && shell.contains(r#"["bash", "-lc", "echo hello", "-o", "json", "--help"]"#),
            "{shell}"
        );
        let openclaw = parsed("skyctl|enqueue-openclaw|agent|--json");
        assert!(openclaw.contains(r#"["agent", "--json"]"#), "{openclaw}");
        let service = parsed("skyctl|deploy-service|api|node|-e|0");
        assert!(service.contains(r#""api""#) && service.contains(r#"["node", "-e", "0"]"#), "{service}");
        let job = parsed("skyctl|job|submit|--wait|--|ls|--wait");
        assert!(job.contains(r#"["ls", "--wait"]"#), "{job}");
    }

    #[test]
    fn global_flags_stand_before_or_after_the_subcommand() {
        assert!(parsed("skyctl|-o|json|job|list").starts_with("Json"));
        assert!(parsed("skyctl|job|list|-o|yaml").starts_with("Yaml"));
    }

    #[test]
    fn there_is_no_flag_for_a_token() {
        assert!(Cli::try_parse_from(["skyctl", "--token", "x", "job", "list"]).is_err());
    }
}
