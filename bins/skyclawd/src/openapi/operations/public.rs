//! For callers from outside.

use axum::http::Method;
use skyclaw_proto::request::EnqueueJobBody;
use skyclaw_proto::response::{JobBody, SubmittedBody};
use skyclaw_proto::route;

use crate::middleware::entry::Entry::Public;
use crate::openapi::operation::Operation;

const TAG: &str = "public";
const JOB: &str = "/v1/public/jobs/{id}";

pub(super) fn all() -> Vec<Operation> {
    vec![
        Operation::post(route::PUBLIC_JOBS, Public, TAG, "submitPublicJob", "Submit a job with a key")
            .about("The answer says nothing of who submitted it.")
            .takes::<EnqueueJobBody>()
            .gives::<SubmittedBody>()
            .once()
            .fault(403, "The key does not allow what is asked for.")
            .fault(409, "A job that it depends on is not there.")
            .makes(JOB, "/job/id"),
        Operation::get(JOB, Public, TAG, "getPublicJob", "A job, for who submitted it")
            .gives::<JobBody>()
            .fault(404, "There is no such job, or it is another's."),
        Operation::new(
            Method::OPTIONS,
            route::PUBLIC_JOBS,
            Public,
            TAG,
            "askToSubmitPublicJob",
            "A browser asks first",
        ),
        Operation::new(Method::OPTIONS, JOB, Public, TAG, "askToGetPublicJob", "A browser asks first"),
    ]
}
