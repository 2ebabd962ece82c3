//! Jobs, and what is told of them.

use serde_json::{Value, json};
use skyclaw_proto::logs::{LogPiece, LogWants, PushLogsBody};
use skyclaw_proto::openapi::SENT_ID;
use skyclaw_proto::request::{CompleteJobBody, EnqueueJobBody, JobEventsBody, ResolveJobBody, RetryJobBody};
use skyclaw_proto::response::{EventsBody, JobBody, JobPage, SubmittedBody};
use skyclaw_proto::route::{self, LOG_ATTEMPT_HEADER, LOG_OFFSET_HEADER};
use skyclaw_proto::{Explanation, HostState, JobStatus, NoticeKind, ServiceStatus, limits};

use crate::middleware::entry::Entry::{Parking, Working};
use crate::openapi::operation::Operation;

const TAG: &str = "jobs";

pub(super) fn all() -> Vec<Operation> {
    vec![
        Operation::post(route::JOBS, Working, TAG, "enqueueJob", "Submit a job")
            .about("With a `uniqueKey` that a job has which has not ended, the answer is that job, and `existing` is true.")
            .takes::<EnqueueJobBody>()
            .stated()
            .gives::<SubmittedBody>()
            .once()
            .fault(409, "A job that it depends on is not there.")
            .makes("/v1/jobs/{id}", "/job/id"),
        Operation::get(route::JOBS, Working, TAG, "listJobs", "List jobs, newest first")
            .query("status", words(&JobStatus::ALL.iter().map(|status| status.as_str()).collect::<Vec<_>>()), "Of one of these; several may be separated by commas as well.")
            .query("host", id(), "That this host has, or ran.")
            .query("label", json!({"type": "string", "pattern": "="}), "With this label, as key=value.")
            .query("submitter", json!({"type": "string"}), "Submitted by them.")
            .query("id", id(), "Whose id begins so.")
            .query("limit", limit(), "How many on a page.")
            .query("cursor", json!({"type": "integer", "minimum": 0, "maximum": u64::MAX}), "The `nextCursor` of the page before.")
            .gives::<JobPage>(),
        Operation::get("/v1/jobs/{id}", Parking, TAG, "getJob", "One job")
            .about("With `waitMs` the answer waits until the job is of another `version` than the one named, or has ended; without `version`, until it has ended.")
            .waits("How long to wait for a change, in milliseconds.")
            .query("version", json!({"type": "integer", "minimum": 0, "maximum": u64::MAX}), "The version that is known.")
            .gives::<JobBody>()
            .fault(404, NO_JOB),
        Operation::post("/v1/jobs/{id}/complete", Working, TAG, "completeJob", "A host tells how a run ended")
            .takes::<CompleteJobBody>()
            .gives::<JobBody>()
            .once()
            .fault(404, "There is no such job or host.")
            .fault(409, "The job is not leased, or to another host, or under another fencing token."),
        Operation::post("/v1/jobs/{id}/cancel", Working, TAG, "cancelJob", "Call a job off")
            .about("A queued job ends at once; the host of a running one is told to stop it.")
            .takes_nothing()
            .stated()
            .gives::<JobBody>()
            .once()
            .fault(404, NO_JOB)
            .fault(409, "The job has ended."),
        Operation::post("/v1/jobs/{id}/resolve", Working, TAG, "resolveJob", "Decide about a lost job")
            .takes::<ResolveJobBody>()
            .stated()
            .gives::<JobBody>()
            .once()
            .fault(404, NO_JOB)
            .fault(409, "The job is not lost."),
        Operation::post("/v1/jobs/{id}/retry", Working, TAG, "retryJob", "Queue a job again that ended without success")
            .takes::<RetryJobBody>()
            .stated()
            .gives::<JobBody>()
            .once()
            .fault(404, NO_JOB)
            .fault(409, "The job was done, or may yet be, or another one has its unique key."),
        Operation::get("/v1/jobs/{id}/explain", Working, TAG, "explainJob", "Why a queued job is not running")
            .gives::<Explanation>()
            .fault(404, NO_JOB),
    ]
}

/// What happens to jobs, and what they write.
pub(super) fn told() -> Vec<Operation> {
    vec![
        Operation::get(
            "/v1/jobs/{id}/events",
            Working,
            TAG,
            "listJobEvents",
            "What happened to a job, oldest first",
        )
        .gives::<EventsBody>()
        .fault(404, NO_JOB),
        Operation::post(
            "/v1/jobs/{id}/events",
            Working,
            TAG,
            "tellJobEvents",
            "A host tells what happened to a run",
        )
        .takes::<JobEventsBody>()
        .gives::<JobBody>()
        .once()
        .fault(404, "There is no such job or host.")
        .fault(409, "The job is not leased, or to another host, or under another fencing token."),
        logs(),
        Operation::post(
            "/v1/jobs/{id}/logs",
            Parking,
            TAG,
            "pushLogs",
            "A host brings output that it was asked for",
        )
        .takes::<PushLogsBody>()
        .gives::<LogWants>()
        .keyed()
        .fault(404, "There is no such job or host.")
        .fault(409, "The job is not leased, or to another host, or under another fencing token.")
        .fault(410, "Nobody follows it there (any more)."),
        events(),
    ]
}

fn logs() -> Operation {
    let offset = || json!({"type": "integer", "minimum": 0, "maximum": u64::MAX});
    Operation::get("/v1/jobs/{id}/logs", Parking, TAG, "readLogs", "What a job has written, while it runs and after")
        .about(
            "As text, or in pieces: with `format=json` one piece as JSON, with `follow` as well one a line. An answer that \
             breaks off before the end lacks its last chunk; go on from the offset that was reached, at any coordinator.",
        )
        .query("stream", json!({"type": "string", "enum": ["stdout", "stderr", "both"]}), "`stdout` when absent.")
        .query("offset", offset(), "Where to begin in the one stream, in bytes.")
        .query("stdoutOffset", offset(), "Where to begin in standard output.")
        .query("stderrOffset", offset(), "Where to begin in standard error.")
        .query("fence", offset(), "The attempt that the offsets are of, by its fencing token; with another one they are 0.")
        .query("follow", json!({"type": "boolean"}), "Whether the answer goes on until the job has ended.")
        .query("format", json!({"type": "string", "enum": ["text", "json"]}), "`text` when absent, unless `accept` begins with application/json.")
        .waits("How long the one piece may be waited for, in milliseconds.")
        .gives_text("text/plain")
        .gives::<LogPiece>()
        .gives_text("application/x-ndjson")
        .tells(LOG_OFFSET_HEADER, json!({"type": "integer", "minimum": 0}))
        .tells(LOG_ATTEMPT_HEADER, json!({"type": "integer", "minimum": 0}))
        .fault(404, NO_JOB)
        .fault(503, "The host that runs the job has not said in time what it has written.")
}

fn events() -> Operation {
    let kinds: Vec<_> = NoticeKind::ALL.iter().map(|kind| kind.as_str()).collect();
    let mut statuses: Vec<_> = JobStatus::ALL.iter().map(|status| status.as_str()).collect();
    statuses.extend(HostState::ALL.iter().map(|state| state.as_str()));
    statuses.extend(ServiceStatus::ALL.iter().map(|status| status.as_str()));
    statuses.sort_unstable();
    statuses.dedup();
    Operation::get(route::EVENTS, Parking, "events", "streamEvents", "All changes, as server-sent events")
        .about(
            "The schema is that of one event: its place as `id`, what it is about as `event`, and a change (`Notice`) as `data`. \
             An event `gap` says that what was asked for is not all kept, an event `end` ends \
             a stream that does not follow. Go on with `Last-Event-ID` at any coordinator.",
        )
        .query("kind", words(&kinds), "About one of these.")
        .query(
            "type",
            json!({"type": "string"}),
            "What happened: `queued`, `claimed` and so on; several may be separated by commas.",
        )
        .query("status", words(&statuses), "What the record is now.")
        .query("job", id(), "Of this job.")
        .query("service", id(), "Of this service.")
        .query("host", id(), "Of this host, and of what is with it.")
        .query("agent", id(), "On behalf of this agent.")
        .query("submittedBy", json!({"type": "string"}), "Of jobs that they submitted.")
        .query("label", json!({"type": "array", "items": {"type": "string", "pattern": "="}}), "With all of these labels, each as key=value.")
        .query("after", json!({"type": "string", "pattern": PLACE}), "After this place: the id of an event, or an index of the log. Without it, from now on.")
        .query("follow", json!({"type": "boolean"}), "`false` ends the stream where it would begin to wait.")
        .header("Last-Event-ID", json!({"type": "string", "pattern": format!("^(|{})$", &PLACE[1..PLACE.len() - 1])}), "Overrules `after`.")
        .gives_events()
}

const NO_JOB: &str = "There is no such job.";
/// An index, perhaps a place in its entry, perhaps the end of a cluster's id.
const PLACE: &str = "^[0-9]{1,19}(-[0-9]{1,10})?([.][0-9a-fA-F]{8})?$";

pub(super) fn id() -> Value {
    json!({"type": "string", "pattern": SENT_ID})
}

pub(super) fn limit() -> Value {
    json!({"type": "integer", "minimum": 1, "maximum": limits::MAX_PAGE, "default": limits::DEFAULT_PAGE})
}

/// Some of these words; blank ones are passed over.
fn words(all: &[&str]) -> Value {
    let all: Vec<_> = all.iter().chain([&""]).collect();
    json!({"type": "array", "items": {"type": "string", "enum": all}})
}
