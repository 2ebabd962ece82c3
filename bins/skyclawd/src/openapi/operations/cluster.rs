//! The coordinators, and what those of the reference mesh say to each other.

use skyclaw_proto::record::State;
use skyclaw_proto::request::{JoinBody, TransferBody};
use skyclaw_proto::response::{Autopilot, Cluster, MemberBody, Merged, Peers};
use skyclaw_proto::route;

use crate::middleware::entry::Entry::{Parking, Working};
use crate::openapi::operation::Operation;

pub(super) fn all() -> Vec<Operation> {
    const TAG: &str = "cluster";
    vec![
        Operation::get(route::CLUSTER, Working, TAG, "getCluster", "The cluster and its members")
            .gives::<Cluster>(),
        Operation::get(
            route::CLUSTER_AUTOPILOT,
            Working,
            TAG,
            "getAutopilot",
            "How the members do, as the leader sees them",
        )
        .gives::<Autopilot>(),
        Operation::post(
            "/v1/cluster/members/{id}/remove",
            Working,
            TAG,
            "removeMember",
            "Take a member out of the cluster",
        )
        .gives::<MemberBody>()
        .keyed()
        .fault(404, "There is no such member.")
        .fault(409, "It is the last that votes."),
        Operation::post(
            route::CLUSTER_TRANSFER,
            Working,
            TAG,
            "transferLeadership",
            "Hand the leadership over",
        )
        .takes::<TransferBody>()
        .gives::<Cluster>()
        .keyed()
        .fault(404, "There is no such member.")
        .fault(409, "There is nobody to hand it to."),
    ]
}

pub(super) fn mesh() -> Vec<Operation> {
    const TAG: &str = "mesh";
    vec![
        Operation::get(route::STATE, Parking, TAG, "getState", "Everything there is, as of one moment")
            .gives::<State>(),
        Operation::post(
            route::REPLICATE_SNAPSHOT,
            Working,
            TAG,
            "replicateSnapshot",
            "Merge the state of a reference coordinator",
        )
        .about("Record by record: the newer of two wins. At most 64 MiB.")
        .takes::<State>()
        .gives::<Merged>()
        .once(),
        Operation::get(route::NETWORK_PEERS, Working, TAG, "listPeers", "Who this coordinator knows")
            .gives::<Peers>(),
        Operation::post(route::NETWORK_JOIN, Working, TAG, "joinNetwork", "A coordinator announces itself")
            .takes::<JoinBody>()
            .gives::<Peers>()
            .keyed(),
    ]
}
