//! Calls that deal with the cluster the coordinators form. What only its leader can do finds the leader,
//! whoever is asked first.

use skyclaw_proto::request::{JoinBody, TransferBody};
use skyclaw_proto::response::{Autopilot, Cluster, ClusterMember, MemberBody, Peers};
use skyclaw_proto::{NodeId, route};

use crate::Client;
use crate::call::Call;
use crate::error::Error;

impl Client {
    /// `GET /v1/cluster`: the cluster as the coordinator that answers sees it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cluster(&self) -> Result<Cluster, Error> {
        self.fetch(&Call::get(route::CLUSTER)).await
    }

    /// `GET /v1/cluster/autopilot`: how the members do, as the leader sees them. Any coordinator asks it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn autopilot(&self) -> Result<Autopilot, Error> {
        self.fetch(&Call::get(route::CLUSTER_AUTOPILOT)).await
    }

    /// `POST /v1/cluster/members/:name/remove`, at the leader: takes a member out, named by its node id
    /// or its number. The answer is the member as it was.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Unsure`] when the member may be gone all the same.
    pub async fn remove_member(&self, name: &NodeId) -> Result<ClusterMember, Error> {
        let call = Call::post(route::remove_member(name), &serde_json::json!({}))?.once();
        self.fetch(&call).await.map(|MemberBody { member }| member)
    }

    /// `POST /v1/cluster/transfer`, at the leader: hands the leadership to a member, named by its node id
    /// or its number, or to the voter that is most up to date. The answer is the cluster afterwards.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Unsure`] when another may lead all the same.
    pub async fn transfer_leadership(&self, to: Option<&str>) -> Result<Cluster, Error> {
        let body = TransferBody { to: to.map(str::to_owned) };
        self.fetch(&Call::post(route::CLUSTER_TRANSFER, &body)?.once()).await
    }

    /// `POST /v1/network/join`: tells a coordinator of another one. Telling twice is the same as once.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn join(&self, url: &str) -> Result<Peers, Error> {
        self.fetch(&Call::post(route::NETWORK_JOIN, &JoinBody { url: Some(url.to_owned()) })?).await
    }
}
