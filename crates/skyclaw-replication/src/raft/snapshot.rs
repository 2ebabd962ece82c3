//! Snapshots: places up to which the database holds the state durably, so that the log may forget.
//!
//! A snapshot is no copy. The database *is* the state, and making a snapshot means to bring it up to
//! date on disk. A copy is made only when a node must be sent one, and then of the state as it is at
//! that moment, which is newer than what the log asked for: the receiver is told how far it goes.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{Fatal, StreamingError, Unreachable};
use openraft::raft::SnapshotResponse;
use openraft::{RaftSnapshotBuilder, Snapshot};
use skyclaw_store::Position;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;

use super::types::{Place, Raft, RaftId, SnapshotMeta, StorageError, TypeConfig, Vote};
use crate::machine::Machine;
use crate::peer::{Call, CallError, Peers, SnapshotPart};

/// What openraft holds in its hands when it has a snapshot.
#[derive(Debug, Clone)]
pub(crate) enum SnapshotData {
    /// The state of this node, wherever it has got to.
    Here { machine: Box<Machine>, copies: PathBuf },
    /// A copy that was received.
    Received { file: PathBuf },
}

/// Makes snapshots.
#[derive(Debug, Clone)]
pub(crate) struct Builder {
    pub(super) machine: Machine,
    /// Where copies that are sent lie meanwhile.
    pub(super) copies: PathBuf,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let place = self.checkpoint().await.map_err(|source| {
            StorageError::from_io_error(
                openraft::ErrorSubject::Snapshot(None),
                openraft::ErrorVerb::Write,
                source,
            )
        })?;
        self.machine.meters().snapshots_built.inc();
        Ok(self.snapshot(&place))
    }
}

impl Builder {
    /// Brings the database up to date on disk, and says how far in the log that goes.
    async fn checkpoint(&self) -> io::Result<Place> {
        let position = self.machine.checkpoint().await.map_err(io::Error::other)?;
        place(position.as_ref())
    }

    pub(super) fn snapshot(&self, place: &Place) -> Snapshot<TypeConfig> {
        let data =
            SnapshotData::Here { machine: Box::new(self.machine.clone()), copies: self.copies.clone() };
        Snapshot { meta: meta(place), snapshot: Box::new(data) }
    }
}

/// Names the snapshot of a place in the log.
fn meta(place: &Place) -> SnapshotMeta {
    SnapshotMeta {
        last_log_id: place.log_id,
        last_membership: place.membership.clone(),
        snapshot_id: place.log_id.map_or_else(|| "empty".to_owned(), |id| id.to_string()),
    }
}

/// How many bytes travel at once.
const PART_BYTES: usize = 1024 * 1024;
/// How long a part may take; the last one is installed before it is answered.
const PART_WITHIN: Duration = Duration::from_secs(10);
const LAST_PART_WITHIN: Duration = Duration::from_secs(180);

type Sent = Result<SnapshotResponse<RaftId>, StreamingError<TypeConfig, Fatal<RaftId>>>;

/// Sends a copy of this node's state to another.
pub(super) async fn send(
    peers: &Arc<Peers>,
    url: &str,
    target: RaftId,
    vote: Vote,
    snapshot: &Snapshot<TypeConfig>,
) -> Sent {
    let SnapshotData::Here { machine, copies } = &*snapshot.snapshot else {
        return Err(failed(&io::Error::other("a received snapshot is not sent on")));
    };
    let file = copies.join(format!("to-{target}.db"));
    let sent = async {
        machine.settle().await.map_err(|gone| failed(&gone))?;
        make_dir(copies).map_err(|error| failed(&error))?;
        let copied = machine.store().copy_to(&file).await.map_err(|error| failed(&error))?;
        let place = Place::of(copied.position.as_ref()).map_err(|error| failed(&error))?;
        tracing::debug!(
            url,
            bytes = copied.bytes,
            index = place.log_id.map(|id| id.index),
            "sending a snapshot"
        );
        send_file(peers, url, target, vote, &meta(&place), &file).await
    };
    let sent = sent.await;
    match sent {
        Ok(_) => machine.meters().snapshots_sent.inc(),
        Err(_) => machine.meters().snapshots_unsent.inc(),
    };
    let _ = tokio::fs::remove_file(&file).await;
    sent
}

async fn send_file(
    peers: &Peers,
    url: &str,
    target: RaftId,
    vote: Vote,
    meta: &SnapshotMeta,
    file: &PathBuf,
) -> Sent {
    let mut reader = tokio::fs::File::open(file).await.map_err(|error| failed(&error))?;
    let total = reader.metadata().await.map_err(|error| failed(&error))?.len();
    let mut hasher = blake3::Hasher::new();
    let mut offset = 0;
    loop {
        let mut bytes = Vec::with_capacity(PART_BYTES);
        (&mut reader)
            .take(PART_BYTES as u64)
            .read_to_end(&mut bytes)
            .await
            .map_err(|error| failed(&error))?;
        hasher.update(&bytes);
        let next = offset + bytes.len() as u64;
        let is_last = next >= total;
        let hash = is_last.then(|| hasher.finalize().into());
        let part = SnapshotPart { vote, meta: meta.clone(), offset, total, hash, bytes };
        let within = if is_last { LAST_PART_WITHIN } else { PART_WITHIN };
        let answer: Result<Result<Option<Vote>, String>, CallError> =
            peers.call(url, target, &Call::Snapshot(part), within).await;
        match answer.map_err(|error| failed(&error))? {
            Ok(Some(vote)) => return Ok(SnapshotResponse::new(vote)),
            Ok(None) if !is_last => offset = next,
            Ok(None) => return Err(failed(&io::Error::other("the snapshot was not installed"))),
            Err(why) => return Err(failed(&io::Error::other(why))),
        }
    }
}

fn failed(error: &(impl std::error::Error + 'static)) -> StreamingError<TypeConfig, Fatal<RaftId>> {
    StreamingError::Unreachable(Unreachable::new(error))
}

/// Takes in the parts of a snapshot that another node sends. One at a time: there is one leader.
#[derive(Debug)]
pub(crate) struct Incoming {
    dir: PathBuf,
    current: Mutex<Option<Partial>>,
}

#[derive(Debug)]
struct Partial {
    meta: SnapshotMeta,
    file: tokio::fs::File,
    hasher: blake3::Hasher,
    received: u64,
}

impl Incoming {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, current: Mutex::new(None) }
    }

    /// Takes a part. After the last one the snapshot is installed, and the vote of this node is what
    /// the sender wants to hear.
    pub(crate) async fn take(&self, part: SnapshotPart, raft: &Raft) -> Result<Option<Vote>, String> {
        let mut current = self.current.lock().await;
        let path = self.dir.join("received.db");
        let (vote, meta, hash) = (part.vote, part.meta.clone(), part.hash);
        let whole = match self.put(&mut current, &path, part).await {
            Ok(whole) => whole,
            Err(error) => {
                *current = None;
                return Err(error.to_string());
            }
        };
        let (Some(hash), Some(received)) = (hash, whole) else { return Ok(None) };
        *current = None;
        if received != hash {
            return Err("the snapshot was damaged on its way".to_owned());
        }
        let snapshot = Snapshot { meta, snapshot: Box::new(SnapshotData::Received { file: path }) };
        let installed = raft.install_full_snapshot(vote, snapshot).await;
        installed.map(|response| Some(response.vote)).map_err(|error| error.to_string())
    }

    async fn put(
        &self,
        current: &mut Option<Partial>,
        path: &PathBuf,
        part: SnapshotPart,
    ) -> io::Result<Option<[u8; 32]>> {
        if part.offset == 0 {
            make_dir(&self.dir)?;
            let file = tokio::fs::OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(true)
                .mode(0o600)
                .open(path)
                .await?;
            *current =
                Some(Partial { meta: part.meta.clone(), file, hasher: blake3::Hasher::new(), received: 0 });
        }
        let expected =
            current.as_mut().filter(|partial| partial.meta == part.meta && partial.received == part.offset);
        let Some(partial) = expected else {
            return Err(io::Error::other("the parts of the snapshot do not follow each other; begin again"));
        };
        partial.file.write_all(&part.bytes).await?;
        partial.hasher.update(&part.bytes);
        partial.received += part.bytes.len() as u64;
        if part.hash.is_none() {
            return Ok(None);
        }
        if partial.received != part.total {
            return Err(io::Error::other("the snapshot is not as long as it should be"));
        }
        partial.file.sync_all().await?;
        Ok(Some(partial.hasher.finalize().into()))
    }
}

/// Makes the directory for copies, which hold all that the database holds.
pub(crate) fn make_dir(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Reads how far in the log a position is.
pub(super) fn place(position: Option<&Position>) -> io::Result<Place> {
    Place::of(position).map_err(io::Error::other)
}
