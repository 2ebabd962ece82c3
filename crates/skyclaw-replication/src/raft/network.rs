//! openraft's messages, carried by [`Peers`].

use std::sync::Arc;
use std::time::Duration;

use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, RemoteError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, Snapshot};
use serde::de::DeserializeOwned;
use tokio_util::task::TaskTracker;

use super::commits::Commits;
use super::synced::Synced;
use super::types::{LogId, Member, RaftId, TypeConfig, Vote};
use crate::peer::{Call, CallError, Peers, WireError};

/// How long to leave a node alone that could not be reached.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(150);
/// How long to wait for this node's own disk before the others are told what is committed; shorter than the
/// others wait for a sign of life.
const SYNC_PATIENCE: Duration = Duration::from_millis(20);
/// Longest pause before a snapshot that could not be sent is sent again. The pause grows to it, as every try
/// costs a copy of the whole state.
const SNAPSHOT_PAUSE: Duration = Duration::from_secs(30);

/// Makes connections to the other members.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) peers: Arc<Peers>,
    pub(crate) synced: Synced,
    pub(crate) tracker: TaskTracker,
}

/// A way to one member.
#[derive(Debug)]
pub(crate) struct Connection {
    peers: Arc<Peers>,
    synced: Synced,
    commits: Commits,
    target: RaftId,
    member: Member,
    /// How often in a row a snapshot could not be sent.
    unsent: u32,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: RaftId, member: &Member) -> Connection {
        let (peers, synced) = (Arc::clone(&self.peers), self.synced.clone());
        let commits = Commits::new(self.tracker.clone());
        Connection { peers, synced, commits, target, member: member.clone(), unsent: 0 }
    }
}

type RpcError<E = RaftError<RaftId>> = RPCError<RaftId, Member, E>;

impl Connection {
    fn url(&self) -> Result<&str, Unreachable> {
        let unknown = || Unreachable::new(&std::io::Error::other("the node has no address"));
        self.member.url.as_deref().ok_or_else(unknown)
    }

    /// What openraft believes to be committed, if it would be so without the word of this node's own disk
    /// as well. None is the same as an older place: who is told keeps what it knows.
    async fn surely_committed(&self, committed: Option<LogId>) -> Option<LogId> {
        let synced = self.synced.wait_for(committed?.index);
        matches!(tokio::time::timeout(SYNC_PATIENCE, synced).await, Ok(Ok(()))).then_some(committed?)
    }

    async fn ask<R: DeserializeOwned>(&self, call: &Call, timeout: Duration) -> Result<R, RpcError> {
        let url = self.url()?;
        let result: Result<Result<R, RaftError<RaftId>>, CallError> =
            self.peers.call(url, self.target, call, timeout).await;
        match result {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(RemoteError::new(self.target, error).into()),
            Err(error @ CallError::Wire(WireError::Lost(_))) => Err(NetworkError::new(&error).into()),
            Err(error) => Err(Unreachable::new(&error).into()),
        }
    }
}

impl RaftNetwork<TypeConfig> for Connection {
    async fn append_entries(
        &mut self,
        mut rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<RaftId>, RpcError> {
        rpc.leader_commit = self.surely_committed(rpc.leader_commit).await;
        if self.commits.may_keep(&rpc) {
            let url = self.url()?.to_owned();
            self.commits.keep(rpc, &self.peers, &url, self.target);
            return Ok(AppendEntriesResponse::Success);
        }
        self.commits.sends(&rpc);
        let has_entries = !rpc.entries.is_empty();
        let answer = self.ask(&Call::Append(rpc), option.hard_ttl()).await;
        self.commits.answered(has_entries, answer.as_ref().ok());
        answer
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<RaftId>,
        option: RPCOption,
    ) -> Result<VoteResponse<RaftId>, RpcError> {
        self.ask(&Call::Vote(rpc), option.hard_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<RaftId>, StreamingError<TypeConfig, Fatal<RaftId>>> {
        let url = self.url()?.to_owned();
        let pause = snapshot_pause(self.unsent);
        let send = async {
            tokio::time::sleep(pause).await;
            super::snapshot::send(&self.peers, &url, self.target, vote, &snapshot).await
        };
        let sent = tokio::select! {
            closed = cancel => return Err(StreamingError::Closed(closed)),
            sent = send => sent,
        };
        match &sent {
            Ok(_) if self.unsent > 0 => {
                tracing::info!(url, tries = self.unsent + 1, "a snapshot was sent at last");
            }
            Ok(_) => {}
            Err(error) if self.unsent == 0 => {
                tracing::warn!(url, %error, "a snapshot was not sent; it is tried again, ever more rarely");
            }
            Err(error) => tracing::debug!(url, %error, tries = self.unsent + 1, "a snapshot was not sent"),
        }
        self.unsent = if sent.is_ok() { 0 } else { self.unsent.saturating_add(1) };
        sent
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(UNREACHABLE_PAUSE))
    }
}

/// How long to wait before a snapshot is sent that could not be sent so often.
fn snapshot_pause(unsent: u32) -> Duration {
    match unsent {
        0 => Duration::ZERO,
        unsent => UNREACHABLE_PAUSE.saturating_mul(1 << unsent.min(16)).min(SNAPSHOT_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_called_committed_that_this_node_could_still_lose() {
        let (_, cluster) = tokio::sync::watch::channel(None);
        let wire = Arc::new(crate::peer::HttpWire::new([]).expect("a wire"));
        let peers = Arc::new(Peers::new("token", wire, 1, 1, cluster));
        let synced = Synced::before(4);
        let mut network = Network { peers, synced: synced.clone(), tracker: TaskTracker::new() };
        let connection = network.new_client(2, &Member::default()).await;
        let at = |index| Some(openraft::testing::log_id::<RaftId>(1, 1, index));
        assert_eq!(connection.surely_committed(at(3)).await, at(3));
        assert_eq!(connection.surely_committed(at(4)).await, None);
        assert_eq!(connection.surely_committed(None).await, None);
        synced.reach(4);
        assert_eq!(connection.surely_committed(at(4)).await, at(4));
    }

    #[test]
    fn a_snapshot_that_cannot_be_sent_is_tried_ever_more_rarely() {
        let pauses: Vec<Duration> = (0..40).map(snapshot_pause).collect();
        assert_eq!(pauses[0], Duration::ZERO, "the first goes at once");
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]), "{pauses:?}");
        assert_eq!(pauses.last(), Some(&SNAPSHOT_PAUSE));
        assert_eq!(snapshot_pause(u32::MAX), SNAPSHOT_PAUSE);
    }
}
