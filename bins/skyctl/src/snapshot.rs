//! `skyctl snapshot …`.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use skyclaw_client::{Client, Error as ClientError};
use skyclaw_proto::limits::{MAX_RESTORE_PART_BYTES, MAX_WAIT_MS};
use skyclaw_proto::request::CommitRestoreBody;
use skyclaw_proto::response::{Restore, RestoresBody};
use skyclaw_proto::{ErrorCode, RestoreId};
use skyclaw_store::snapshot::{self, Header};
use tokio::io::AsyncReadExt as _;

use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{self, Table};

const SAVE_EXAMPLE: &str = "\
Example: skyctl snapshot save backup-$(date +%F).snap
Every coordinator can be asked. The file holds what jobs hold, so its mode is 0600; it is there whole or not at all.";
const RESTORE_EXAMPLES: &str = "\
Examples:
  skyctl snapshot restore backup.snap            roll the cluster back to what it was
  skyctl snapshot restore --wait backup.snap     the same once nothing runs any more
  skyctl snapshot restore --force backup.snap    into another cluster, which takes that one's place
Everything that was written after the snapshot was taken is undone. Nothing may be leased: work that runs would run a
second time. With --wait no more work is handed out, and what runs may end. After --force no work is handed out for as
long as a lease lasts.";

/// What can be done with snapshots.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Save everything a cluster keeps to a file
    #[command(after_help = SAVE_EXAMPLE)]
    Save {
        /// The file
        file: PathBuf,
    },
    /// Check a snapshot and say what it holds; needs no coordinator
    #[command(after_help = "Example: skyctl snapshot inspect backup.snap -o json")]
    Inspect {
        /// The file
        file: PathBuf,
    },
    /// Bring a whole cluster back to a snapshot
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore(RestoreArgs),
    /// List what the cluster was brought back to
    #[command(after_help = "Example: skyctl snapshot history")]
    History,
}

/// How to restore.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The file
    file: PathBuf,
    /// Restore it although it was taken of another cluster
    #[arg(long)]
    force: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Hand no more work out, and wait until nothing runs
    #[arg(long)]
    wait: bool,
}

pub(crate) async fn run(command: SnapshotCommand, context: &Context<'_>) -> Result<Exit, Error> {
    match command {
        SnapshotCommand::Save { file } => {
            let header = save(&context.client()?, &file, context.out.watched).await?;
            context.out.show(&header, || described(&header))?;
        }
        SnapshotCommand::Inspect { file } => {
            let header = snapshot::inspect(&file).await.map_err(Error::Snapshot)?;
            context.out.show(&header, || described(&header))?;
        }
        SnapshotCommand::Restore(args) => {
            let restore = restore(&context.client()?, &args, context.out.watched).await?;
            context.out.show(&restore, || history(std::slice::from_ref(&restore)))?;
        }
        SnapshotCommand::History => {
            let restores = context.client()?.restores().await?;
            let body = RestoresBody { restores };
            context.out.show(&body, || history(&body.restores))?;
        }
    }
    Ok(Exit::Success)
}

/// Writes beside the file first, and gives it its name once it has been read back whole.
async fn save(client: &Client, path: &Path, watched: bool) -> Result<Header, Error> {
    let failed = |source: io::Error| Error::File { path: path.to_owned(), source };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut partial = tempfile::Builder::new();
    let partial = partial.prefix(".skyctl-snapshot-").make_in(directory, |path| {
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
    });
    let (file, partial) = partial.map_err(failed)?.into_parts();
    let mut file = tokio::fs::File::from_std(file);
    let bar = bar(watched, None);
    client.snapshot(&mut file, |bytes| bar.set_position(bytes)).await?;
    file.sync_all().await.map_err(failed)?;
    bar.finish_and_clear();
    let header = snapshot::inspect(&partial).await.map_err(|error| match error {
        snapshot::Error::Unusable { fault, .. } => {
            Error::Snapshot(snapshot::Error::Unusable { path: path.to_owned(), fault })
        }
        other => Error::Snapshot(other),
    })?;
    partial.persist(path).map_err(|error| failed(error.error))?;
    tokio::fs::File::open(directory).await.map_err(failed)?.sync_all().await.map_err(failed)?;
    Ok(header)
}

async fn restore(client: &Client, args: &RestoreArgs, watched: bool) -> Result<Restore, Error> {
    // Read to its end before anything is sent: what is damaged changes nothing anywhere.
    let header = snapshot::inspect(&args.file).await.map_err(Error::Snapshot)?;
    let cluster = client.cluster().await?.cluster_id.unwrap_or_default();
    if header.cluster.to_string() != cluster && !args.force {
        return Err(Error::ForeignSnapshot { snapshot: header.cluster.to_string(), cluster });
    }
    if !args.yes {
        confirm(&header, &cluster)?;
    }
    let id = RestoreId::from_uuid(uuid::Uuid::now_v7());
    if let Some(restore) = send(client, &id, &args.file, watched).await? {
        return Ok(restore);
    }
    let result = commit(client, &id, args).await;
    if result.as_ref().is_err_and(|error| matches!(error, Error::Client(ClientError::Refused { .. }))) {
        // Refused for good: what was sent takes room on every node.
        if let Err(error) = client.cancel_restore(&id).await {
            output::say(&format!("what was sent is not dropped yet: {error}"));
        }
    }
    result
}

/// Sends the file part by part.
async fn send(client: &Client, id: &RestoreId, path: &Path, watched: bool) -> Result<Option<Restore>, Error> {
    let unreadable = |source: io::Error| Error::Read { path: path.to_owned(), source };
    let mut file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let bar = bar(watched, Some(file.metadata().await.map_err(unreadable)?.len()));
    for part in 0.. {
        let mut bytes = Vec::with_capacity(MAX_RESTORE_PART_BYTES);
        let mut piece = (&mut file).take(MAX_RESTORE_PART_BYTES as u64);
        piece.read_to_end(&mut bytes).await.map_err(unreadable)?;
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len() as u64;
        if let Some(restore) = client.stage_restore(id, part, bytes.into()).await? {
            return Ok(Some(restore));
        }
        bar.inc(length);
    }
    bar.finish_and_clear();
    Ok(None)
}

/// Takes the last step; with `--wait` as often as it takes.
async fn commit(client: &Client, id: &RestoreId, args: &RestoreArgs) -> Result<Restore, Error> {
    let wait_ms = args.wait.then_some(MAX_WAIT_MS.min(10_000));
    let body = CommitRestoreBody { force: Some(args.force), wait_ms, requested_by: requested_by() };
    let mut told = false;
    loop {
        match client.commit_restore(id, &body).await {
            Ok(Some(restore)) => return Ok(restore),
            Ok(None) => return Err(Error::NoAnswer),
            Err(ClientError::Refused { body, .. })
                if args.wait && body.code == Some(ErrorCode::JobsLeased) =>
            {
                if !std::mem::replace(&mut told, true) {
                    output::say(&format!("waiting: {}", body.error));
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Who asks for it: told, not proven.
pub(crate) fn requested_by() -> Option<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name);
    let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok());
    Some(format!("{}@{}", user?, host?))
}

fn confirm(header: &Header, cluster: &str) -> Result<(), Error> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Error::NotConfirmed);
    }
    let jobs: u64 = header.counts.jobs.values().sum();
    let _ = write!(
        io::stderr(),
        "This brings cluster {cluster} back to {} with {jobs} jobs; what was written since is undone. Type yes: ",
        header.created_at
    );
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).map_err(Error::Output)?;
    if answer.trim() == "yes" { Ok(()) } else { Err(Error::NotConfirmed) }
}

fn bar(watched: bool, length: Option<u64>) -> ProgressBar {
    let target = if watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(length, target);
    let template = match length {
        Some(_) => "{bytes} of {total_bytes} {wide_bar} {eta}",
        None => "{spinner} {bytes} ({bytes_per_sec})",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn described(header: &Header) -> Table {
    let index = header.position.as_ref().map_or(0, |position| position.index);
    let jobs = header.counts.jobs.iter().map(|(status, count)| format!("{count} {status}"));
    Table::of_fields(vec![
        ("cluster", Some(header.cluster.to_string())),
        ("taken at", Some(header.created_at.to_string())),
        ("index", Some(index.to_string())),
        ("hosts", Some(header.counts.hosts.to_string())),
        ("services", Some(header.counts.services.to_string())),
        ("jobs", Some(jobs.collect::<Vec<_>>().join(", ")).filter(|jobs| !jobs.is_empty())),
        ("database", Some(format!("{} bytes", header.database_bytes))),
        ("hash", Some("as it was written with".to_owned())),
    ])
}

fn history(restores: &[Restore]) -> Table {
    let mut table = Table::new(&["NUMBER", "AT", "BY", "SNAPSHOT OF", "TAKEN AT", "INDEX", "CLAIMS", "ID"]);
    for restore in restores {
        table.row(vec![
            restore.number.to_string(),
            restore.at.to_string(),
            restore.requested_by.clone().unwrap_or_else(|| "-".to_owned()),
            restore.snapshot_cluster_id.clone(),
            restore.snapshot_created_at.to_string(),
            restore.snapshot_index.to_string(),
            if restore.claims_held { "held" } else { "open" }.to_owned(),
            restore.id.to_string(),
        ]);
    }
    table
}
