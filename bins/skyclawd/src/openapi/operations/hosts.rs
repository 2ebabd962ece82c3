//! Hosts.

use skyclaw_proto::request::{
    ClaimBody, ClaimServiceBody, DrainHostBody, HeartbeatBody, RegisterHostBody, RemoveHostBody,
};
use skyclaw_proto::response::{ClaimedJobs, ClaimedService, Heartbeat, HostBody, HostsBody};
use skyclaw_proto::route;

use crate::middleware::entry::Entry::{Parking, Working};
use crate::openapi::operation::Operation;

const TAG: &str = "hosts";
const NO_HOST: &str = "There is no such host.";

pub(super) fn all() -> Vec<Operation> {
    vec![
        Operation::post(route::REGISTER_HOST, Working, TAG, "registerHost", "A host says who it is")
            .about("Registering a known id keeps its leases.")
            .takes::<RegisterHostBody>()
            .gives::<HostBody>()
            .once()
            .makes("/v1/hosts/{id}", "/host/id"),
        Operation::get(route::HOSTS, Working, TAG, "listHosts", "All hosts, by id").gives::<HostsBody>(),
        Operation::get("/v1/hosts/{id}", Working, TAG, "getHost", "One host")
            .gives::<HostBody>()
            .fault(404, NO_HOST),
        Operation::post("/v1/hosts/{id}/heartbeat", Parking, TAG, "heartbeat", "A host's sign of life")
            .about("Renews the leases of the runs it names, and is told which to stop; it may wait for one.")
            .takes::<HeartbeatBody>()
            .gives::<Heartbeat>()
            .keyed()
            .fault(404, NO_HOST),
        Operation::post(
            "/v1/hosts/{id}/claim",
            Parking,
            TAG,
            "claimJobs",
            "A host takes jobs, the first that fit",
        )
        .about("`job` is null when there is none for it. With `max` there are `jobs` as well.")
        .takes::<ClaimBody>()
        .gives::<ClaimedJobs>()
        .once()
        .fault(404, NO_HOST)
        .makes("/v1/jobs/{id}", "/job/id"),
        Operation::post(
            "/v1/hosts/{id}/services/claim",
            Working,
            TAG,
            "claimService",
            "A host takes a replica of a service",
        )
        .takes::<ClaimServiceBody>()
        .gives::<ClaimedService>()
        .once()
        .fault(404, NO_HOST),
        Operation::post("/v1/hosts/{id}/drain", Working, TAG, "drainHost", "Let a host take no more work")
            .takes::<DrainHostBody>()
            .stated()
            .gives::<HostBody>()
            .once()
            .fault(404, NO_HOST),
        Operation::post(
            "/v1/hosts/{id}/undrain",
            Working,
            TAG,
            "undrainHost",
            "Let a drained host take work again",
        )
        .takes_nothing()
        .stated()
        .gives::<HostBody>()
        .once()
        .fault(404, NO_HOST),
        Operation::post("/v1/hosts/{id}/remove", Working, TAG, "removeHost", "Forget a host")
            .about("The answer is the host as it was. One that still runs registers anew.")
            .takes::<RemoveHostBody>()
            .stated()
            .gives::<HostBody>()
            .once()
            .fault(404, NO_HOST)
            .fault(409, "The host is up, or holds work."),
    ]
}
