//! `skyctl state …`.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use skyclaw_client::Client;

use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::output;

/// What can be done with the whole state.
#[derive(Debug, Subcommand)]
pub(crate) enum StateCommand {
    /// Write the whole state as JSON to stdout or a file
    Export {
        /// The file; it is there complete or not at all
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

pub(crate) async fn run(command: StateCommand, context: &Context<'_>) -> Result<Exit, Error> {
    let StateCommand::Export { output } = command;
    let client = context.client()?;
    match output {
        None => {
            client.state(&mut tokio::io::stdout()).await?;
        }
        Some(path) => {
            let bytes = export(&client, &path).await?;
            output::say(&format!("{bytes} bytes written to {}", path.display()));
        }
    }
    Ok(Exit::Success)
}

/// Writes beside the file first. Jobs hold what only their owners should read: the file is 0600.
async fn export(client: &Client, path: &Path) -> Result<u64, Error> {
    let failed = |source: io::Error| Error::File { path: path.to_owned(), source };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut partial = tempfile::Builder::new();
    let partial = partial.prefix(".skyctl-export-").make_in(directory, |path| {
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
    });
    let (file, partial) = partial.map_err(failed)?.into_parts();
    let mut file = tokio::fs::File::from_std(file);
    let bytes = client.state(&mut file).await?;
    file.sync_all().await.map_err(failed)?;
    partial.persist(path).map_err(|error| failed(error.error))?;
    Ok(bytes)
}
