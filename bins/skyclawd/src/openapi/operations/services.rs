//! Services.

use skyclaw_proto::request::{DeployServiceBody, ReportServiceBody};
use skyclaw_proto::response::{ServiceBody, ServicesBody};
use skyclaw_proto::route;

use crate::middleware::entry::Entry::Working;
use crate::openapi::operation::Operation;

const TAG: &str = "services";

pub(super) fn all() -> Vec<Operation> {
    vec![
        Operation::post(
            route::SERVICES,
            Working,
            TAG,
            "deployService",
            "Deploy a service, or deploy it anew",
        )
        .takes::<DeployServiceBody>()
        .stated()
        .gives::<ServiceBody>()
        .once()
        .makes("/v1/services/{id}", "/service/id"),
        Operation::get(route::SERVICES, Working, TAG, "listServices", "All services, oldest first")
            .gives::<ServicesBody>(),
        Operation::get("/v1/services/{id}", Working, TAG, "getService", "One service")
            .gives::<ServiceBody>()
            .fault(404, "There is no such service."),
        Operation::post(
            "/v1/services/{id}/report",
            Working,
            TAG,
            "reportService",
            "A host says how its replica does",
        )
        .takes::<ReportServiceBody>()
        .gives::<ServiceBody>()
        .once()
        .fault(404, "There is no such service.")
        .fault(409, "The service is not with that host."),
    ]
}
