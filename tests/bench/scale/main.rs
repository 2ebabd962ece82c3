//! What holds however many jobs, hosts and connections there are, measured against a real `skyclawd` over HTTP.
//!
//! `cargo run --release -p skyclaw-tests --example scale -- claims|bursts|history|hosts [--help]`
//!
//! Each measurement prints what it found beside its goal, and the process ends with a failure when one is missed.
//! Everything lies in directories of its own, which are removed. See the README beside this for how to read it.

#![expect(clippy::expect_used, reason = "what fails in a measurement must be seen")]

mod asking;
mod bursts;
mod claims;
#[path = "../connection.rs"]
mod connection;
mod daemon;
mod fill;
mod growth;
mod history;
mod hosts;
mod verdict;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::verdict::Verdict;

/// What goes wrong in a measurement ends it.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// How long a claim takes with few and with very many queued jobs, of several mixes
    Claims(claims::Arguments),
    /// Very many jobs that become claimable at once, and how long others wait meanwhile
    Bursts(bursts::Arguments),
    /// Memory, the cost of writes, and restarts, with very many finished jobs
    History(history::Arguments),
    /// Very many hosts that send heartbeats and wait for jobs
    Hosts(hosts::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut verdict = Verdict::default();
    let measured = runtime().and_then(|runtime| match &arguments.what {
        What::Claims(given) => claims::measure(given, &runtime, &mut verdict),
        What::Bursts(given) => bursts::measure(given, &runtime, &mut verdict),
        What::History(given) => history::measure(given, &runtime, &mut verdict),
        What::Hosts(given) => hosts::measure(given, &runtime, &mut verdict),
    });
    if let Err(error) = measured {
        eprintln!("scale: {error}");
        return ExitCode::FAILURE;
    }
    if verdict.print() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One thread holds all connections, so that the rest of the machine is the coordinator's.
fn runtime() -> Outcome<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
