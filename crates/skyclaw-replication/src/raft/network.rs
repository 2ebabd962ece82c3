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

use super::types::{Member, RaftId, TypeConfig, Vote};
use crate::peer::{Call, CallError, Peers, WireError};

/// How long to leave a node alone that could not be reached.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(150);

/// Makes connections to the other members.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) peers: Arc<Peers>,
}

/// A way to one member.
#[derive(Debug)]
pub(crate) struct Connection {
    peers: Arc<Peers>,
    target: RaftId,
    member: Member,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: RaftId, member: &Member) -> Connection {
        Connection { peers: Arc::clone(&self.peers), target, member: member.clone() }
    }
}

type RpcError<E = RaftError<RaftId>> = RPCError<RaftId, Member, E>;

impl Connection {
    fn url(&self) -> Result<&str, Unreachable> {
        let unknown = || Unreachable::new(&std::io::Error::other("the node has no address"));
        self.member.url.as_deref().ok_or_else(unknown)
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
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<RaftId>, RpcError> {
        self.ask(&Call::Append(rpc), option.hard_ttl()).await
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
        let send = super::snapshot::send(&self.peers, &url, self.target, vote, &snapshot);
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = send => sent,
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(UNREACHABLE_PAUSE))
    }
}
