//! `skyctl`: parses the command line, does what it says, and ends with the exit code that fits.

use std::process::ExitCode;

use clap::Parser;
use skyclaw_config::Environment;
use skyctl::Cli;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let exit = match skyctl::run(cli, &Environment::of_process()).await {
        Ok(exit) => exit,
        Err(error) => {
            if !error.is_closed_pipe() {
                eprintln!("error: {}", error.with_causes());
            }
            error.exit()
        }
    };
    exit.into()
}
