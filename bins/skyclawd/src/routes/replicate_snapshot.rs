//! `POST /v1/replicate/snapshot`: the records of a reference coordinator are merged, the newer of two
//! wins. They go through the log in parts, so that a large state does not hold up everybody else; a part
//! merged twice is merged once, so a failure between two parts is mended by sending the state again.

use std::io;

use axum::extract::State;
use serde::Serialize;
use skyclaw_core::{IdempotencyKey, Operation};
use skyclaw_proto::record;
use skyclaw_proto::response::Merged;
use skyclaw_proto::{Invalid, JobStatus, limits, route};

use super::reply::{self, At};
use crate::app::Shared;
use crate::aside::aside;
use crate::error::ApiError;
use crate::extract::{Body, CORE, ClientKey};

/// Most records in one entry of the log.
const PART_RECORDS: usize = 500;
/// About the most bytes in one; a larger record is a part of its own.
const PART_BYTES: usize = 1024 * 1024;
/// The reference counts versions in doubles, which are exact up to here.
const MAX_VERSION: u64 = 1 << 53;

pub(crate) async fn handle(
    State(app): State<Shared>,
    key: ClientKey,
    body: Body<record::State, { limits::MAX_SNAPSHOT_BYTES }>,
) -> Result<At<Merged>, ApiError> {
    let _place = app
        .bulk
        .try_acquire()
        .map_err(|_| ApiError::overloaded("too many whole states at once; try again later"))?;
    let key = key.bind(&app, CORE, route::REPLICATE_SNAPSHOT, &body)?;
    let parts = aside(|| check(&body.value).map(|()| parts(body.value)))?;
    let (mut changed, mut index) = (false, 0);
    for (i, part) in parts.into_iter().enumerate() {
        let written = app.node.write(key.as_ref().map(|key| of_part(key, i)), part).await?;
        changed |= reply::merged(&written)?;
        index = index.max(written.index);
    }
    Ok(At { index, body: Merged { ok: true, changed, node_id: app.node.node_id().clone() } })
}

/// Each part has an answer of its own to keep.
fn of_part(key: &IdempotencyKey, part: usize) -> IdempotencyKey {
    IdempotencyKey { key: format!("{}#{part}", key.key), ..key.clone() }
}

/// What the shape of a record does not say.
fn check(state: &record::State) -> Result<(), Invalid> {
    check_versions("hosts", state.hosts.iter().map(|host| host.version))?;
    check_versions("jobs", state.jobs.iter().map(|job| job.version))?;
    check_versions("services", state.services.iter().map(|service| service.version))?;
    let homeless = |job: &record::Job| job.status == JobStatus::Leased && job.assigned_host_id.is_none();
    match state.jobs.iter().position(homeless) {
        Some(i) => {
            Err(Invalid::new(format!("jobs[{i}].status"), "must not be leased without an assignedHostId"))
        }
        None => Ok(()),
    }
}

fn check_versions(list: &str, mut versions: impl Iterator<Item = u64>) -> Result<(), Invalid> {
    match versions.position(|version| version > MAX_VERSION) {
        Some(i) => {
            Err(Invalid::new(format!("{list}[{i}].version"), format!("must be at most {MAX_VERSION}")))
        }
        None => Ok(()),
    }
}

/// The state as operations, hosts first, the oldest jobs and services first; at least one, so that an
/// empty state is refused or accepted like any other.
fn parts(mut state: record::State) -> Vec<Operation> {
    state.jobs.sort_by_key(|job| job.created_at);
    state.services.sort_by_key(|service| service.created_at);
    let mut parts = vec![Part::default()];
    for host in state.hosts {
        Part::with_room(&mut parts, &host).hosts.push(host);
    }
    for job in state.jobs {
        Part::with_room(&mut parts, &job).jobs.push(job);
    }
    for service in state.services {
        Part::with_room(&mut parts, &service).services.push(service);
    }
    parts.into_iter().map(Part::operation).collect()
}

#[derive(Debug, Default)]
struct Part {
    hosts: Vec<record::Host>,
    jobs: Vec<record::Job>,
    services: Vec<record::Service>,
    records: usize,
    bytes: usize,
}

impl Part {
    /// The part that takes the record: the last one, or a new one if that is full.
    fn with_room<'a>(parts: &'a mut Vec<Self>, record: &impl Serialize) -> &'a mut Self {
        let size = size_of(record);
        let is_full = |last: &Self| last.records >= PART_RECORDS || last.bytes + size > PART_BYTES;
        if parts.last().is_none_or(|last| last.records > 0 && is_full(last)) {
            parts.push(Self::default());
        }
        let last = parts.len() - 1;
        let part = &mut parts[last];
        part.records += 1;
        part.bytes += size;
        part
    }

    fn operation(self) -> Operation {
        Operation::Merge { hosts: self.hosts, jobs: self.jobs, services: self.services }
    }
}

/// How many bytes a record is as JSON.
fn size_of(record: &impl Serialize) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Counting cannot fail.
    let _ = serde_json::to_writer(&mut count, record);
    count.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::Kit;
    use serde_json::{Value, json};

    #[tokio::test]
    async fn a_state_of_several_parts_sent_again_with_its_key_gets_the_first_answer() {
        let kit = Kit::start().await;
        let jobs: Vec<_> = (0..1200).map(|i| job(i, &json!({}))).collect();
        let state = json!({"nodeId": "n", "jobs": jobs});
        let key = [(route::IDEMPOTENCY_HEADER, "k")];
        for _ in 0..2 {
            let answer = kit.call("POST", route::REPLICATE_SNAPSHOT, &key, &state.to_string()).await;
            assert_eq!((answer.status, &answer.json["changed"]), (200, &json!(true)), "{answer:?}");
        }
        let unkeyed = kit.post(route::REPLICATE_SNAPSHOT, &state).await;
        assert_eq!(unkeyed.json["changed"], json!(false));
        let other = json!({"nodeId": "n"}).to_string();
        let conflict = kit.call("POST", route::REPLICATE_SNAPSHOT, &key, &other).await;
        let sentence = "idempotency key reuse conflict for route /v1/replicate/snapshot";
        assert_eq!((conflict.status, &conflict.json["error"]), (409, &json!(sentence)));
        let kept = kit.get("/v1/state", &[]).await;
        assert_eq!(kept.json["jobs"].as_array().map(Vec::len), Some(1200));
        kit.end().await;
    }

    fn job(i: usize, extra: &Value) -> Value {
        let mut job = json!({
            "id": format!("job_{i}"), "createdAt": "2026-01-01T00:00:00.000Z",
            "updatedAt": "2026-01-01T00:00:00.000Z", "updatedBy": "n", "version": 1, "status": "queued",
            "attempts": 0, "payload": {"kind": "shell", "command": "true"},
        });
        let fields = job.as_object_mut().expect("an object");
        fields.extend(extra.as_object().cloned().unwrap_or_default());
        job
    }

    fn state(jobs: &[Value]) -> record::State {
        serde_json::from_value(json!({"nodeId": "n", "jobs": jobs})).expect("a state")
    }

    fn sizes(parts: &[Operation]) -> Vec<usize> {
        let size = |part: &Operation| match part {
            Operation::Merge { jobs, .. } => jobs.len(),
            other => panic!("{other:?}"),
        };
        parts.iter().map(size).collect()
    }

    #[test]
    fn a_part_has_so_many_records_or_bytes_and_a_large_record_is_a_part_of_its_own() {
        let jobs: Vec<_> = (0..1001).map(|i| job(i, &json!({}))).collect();
        assert_eq!(sizes(&parts(state(&jobs))), [500, 500, 1]);
        let huge = json!({"payload": {"kind": "shell", "command": "x".repeat(PART_BYTES)}});
        let jobs = [job(0, &json!({})), job(1, &huge), job(2, &json!({}))];
        assert_eq!(sizes(&parts(state(&jobs))), [1, 1, 1]);
        assert_eq!(sizes(&parts(state(&[]))), [0]);
    }

    #[test]
    fn older_jobs_are_merged_first() {
        let jobs = [job(0, &json!({"createdAt": "2026-01-02T00:00:00.000Z"})), job(1, &json!({}))];
        let parts = parts(state(&jobs));
        let Operation::Merge { jobs, .. } = &parts[0] else { panic!("{parts:?}") };
        assert_eq!(jobs.iter().map(|job| job.id.as_str()).collect::<Vec<_>>(), ["job_1", "job_0"]);
    }

    #[test]
    fn a_record_that_cannot_be_is_named() {
        let bad = [job(0, &json!({})), job(1, &json!({"version": MAX_VERSION + 1}))];
        assert_eq!(check(&state(&bad)).expect_err("too new").field, "jobs[1].version");
        let bad = [job(0, &json!({"status": "leased"}))];
        assert_eq!(check(&state(&bad)).expect_err("no host").field, "jobs[0].status");
        let fine = [job(0, &json!({"status": "leased", "assignedHostId": "h", "version": MAX_VERSION}))];
        assert_eq!(check(&state(&fine)), Ok(()));
    }
}
