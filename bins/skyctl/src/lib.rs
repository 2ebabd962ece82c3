//! The operators' command line.
//!
//! One module for each family of commands; [`Context`] is what they share. What a command finds goes
//! to stdout and nothing else does, so that a pipe gets it clean; what is said about it goes to stderr.

mod arguments;
mod bench;
mod classic;
mod cli;
mod cluster;
mod context;
mod demo;
mod error;
mod events;
mod exit;
mod freeze;
mod host;
mod job;
mod lookup;
mod output;
mod schedule;
mod service;
mod snapshot;
mod state;
mod wait;

pub use cli::Cli;
pub use error::Error;
pub use exit::Exit;

use clap::CommandFactory;
use skyclaw_config::Environment;

use crate::cli::Command;
use crate::context::Context;

/// Does what a command line says.
///
/// # Errors
/// When it cannot be done; the error knows the exit code that goes with it.
pub async fn run(cli: Cli, env: &Environment) -> Result<Exit, Error> {
    let context = Context::new(cli.global, env);
    if cli.print_config {
        context.print_config()?;
        return Ok(Exit::Success);
    }
    match cli.command.ok_or(Error::NoCommand)? {
        Command::Job(command) => job::run(command, &context).await,
        Command::Host(command) => host::run(command, &context).await,
        Command::Freeze(args) => freeze::freeze(args, &context).await,
        Command::Thaw(args) => freeze::thaw(args, &context).await,
        Command::Schedule(command) => schedule::run(command, &context).await,
        Command::Service(command) => service::run(command, &context).await,
        Command::Events(args) => events::run(*args, &context).await,
        Command::Cluster(command) => cluster::run(command, &context).await,
        Command::State(command) => state::run(command, &context).await,
        Command::Snapshot(command) => snapshot::run(command, &context).await,
        Command::Bench(args) => bench::run(&args, &context).await,
        Command::Demo => demo::run(&context).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "skyctl", &mut script);
            output::print(&script)?;
            Ok(Exit::Success)
        }
        Command::Classic(command) => classic::run(command, &context).await,
    }
}
