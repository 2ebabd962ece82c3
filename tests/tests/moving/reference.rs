//! A coordinator as the reference mesh has them, small and faithful to its records: what is newer wins,
//! the whole state is sent to every peer after every interval, and anybody who asks is given all of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use skyclaw_tests::{Value, Wire, json};
use tokio::runtime::Runtime;

/// Its name, which it writes into every record it changes.
pub(super) const NAME: &str = "reference-a";
/// `SKYCLAW_PEER_SYNC_MS`, shorter than anybody would set it.
const SYNC: Duration = Duration::from_millis(250);
const LEASE_MS: i64 = 60_000;

type Records = BTreeMap<String, Value>;
type Answer = Result<Json<Value>, (StatusCode, Json<Value>)>;

#[derive(Debug, Default)]
struct Mesh {
    hosts: Records,
    /// By id, as ids are; the order of claims is that of `createdAt`.
    jobs: Records,
    services: Records,
}

/// One that runs. It ends with its runtime.
#[derive(Debug)]
pub(crate) struct Reference {
    mesh: Arc<Mutex<Mesh>>,
    /// How often all peers have taken its state.
    synced: Arc<AtomicU64>,
    url: String,
    _runtime: Runtime,
}

impl Reference {
    /// Starts one with these peers.
    pub(crate) fn start(peers: Vec<Wire>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (mesh, synced) = (Arc::new(Mutex::new(Mesh::default())), Arc::new(AtomicU64::new(0)));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let router = router().with_state(mesh.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        let (sent, count) = (mesh.clone(), synced.clone());
        runtime.spawn(async move {
            let mut tick = tokio::time::interval(SYNC);
            loop {
                tick.tick().await;
                let (state, peers) = (sent.lock().expect("the mesh").snapshot(), peers.clone());
                let send = move || peers.iter().filter(|peer| push(peer, &state)).count() == peers.len();
                if tokio::task::spawn_blocking(send).await.is_ok_and(|all| all) {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Self { mesh, synced, url, _runtime: runtime }
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn wire(&self) -> Wire {
        Wire::new(&self.url, None)
    }

    /// How often all peers have taken its state.
    pub(super) fn synced(&self) -> u64 {
        self.synced.load(Ordering::SeqCst)
    }

    /// Takes in what a peer has, as it does with what a peer sends.
    pub(super) fn merge(&self, state: &Value) {
        self.mesh.lock().expect("the mesh").merge(state);
    }

    pub(crate) fn snapshot(&self) -> Value {
        self.mesh.lock().expect("the mesh").snapshot()
    }
}

/// Whether a peer has taken it. One that is away is sent the next one.
fn push(peer: &Wire, state: &Value) -> bool {
    match peer.post("/v1/replicate/snapshot", state).try_send() {
        Ok(reply) => {
            assert!(matches!(reply.status, 200 | 503), "a peer refuses the state: {}", reply.text);
            reply.status == 200
        }
        Err(_) => false,
    }
}

/// Every body is read, also where nothing of it matters: a connection on which one may still come is closed after the answer.
fn router() -> Router<Arc<Mutex<Mesh>>> {
    Router::new()
        .route("/v1/state", get(|State(mesh): Shared| async move { Json(lock(&mesh).snapshot()) }))
        .route("/v1/hosts/register", post(register))
        .route("/v1/hosts/{id}/heartbeat", post(heartbeat))
        .route("/v1/hosts/{id}/claim", post(claim))
        .route("/v1/hosts/{id}/services/claim", post(claim_service))
        .route("/v1/jobs", post(enqueue))
        .route("/v1/jobs/{id}/complete", post(complete))
        .route("/v1/services", post(deploy))
        .route("/v1/services/{id}/report", post(report))
}

type Shared = State<Arc<Mutex<Mesh>>>;

fn lock(mesh: &Mutex<Mesh>) -> std::sync::MutexGuard<'_, Mesh> {
    mesh.lock().expect("the mesh")
}

fn refused<T>(status: StatusCode, sentence: &str) -> Result<T, (StatusCode, Json<Value>)> {
    Err((status, Json(json!({"error": sentence}))))
}

fn unknown<T>(what: &str, id: &str) -> Result<T, (StatusCode, Json<Value>)> {
    refused(StatusCode::NOT_FOUND, &format!("unknown {what}: {id}"))
}

/// The time, as it writes it.
fn time(plus_ms: i64) -> String {
    #[expect(
        clippy::disallowed_methods,
        reason = "it stands for another program, which has a clock of its own"
    )]
    let now = jiff::Timestamp::now();
    let then = now + jiff::SignedDuration::from_millis(plus_ms);
    then.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

impl Mesh {
    fn snapshot(&self) -> Value {
        let all = |records: &Records| records.values().cloned().collect::<Vec<_>>();
        let [hosts, jobs, services] = [&self.hosts, &self.jobs, &self.services].map(all);
        json!({"nodeId": NAME, "hosts": hosts, "jobs": jobs, "services": services})
    }

    fn merge(&mut self, state: &Value) {
        let kinds = [("hosts", &mut self.hosts), ("jobs", &mut self.jobs), ("services", &mut self.services)];
        for (kind, own) in kinds {
            for record in state[kind].as_array().expect("records") {
                let id = record["id"].as_str().expect("an id").to_owned();
                if own.get(&id).is_none_or(|own| age(own) < age(record)) {
                    own.insert(id, record.clone());
                }
            }
        }
    }
}

/// What decides which of two records is newer. Hosts have no `updatedAt`.
fn age(record: &Value) -> (u64, &str, &str) {
    let updated = record["updatedAt"].as_str().or(record["lastSeenAt"].as_str()).expect("a time");
    (record["version"].as_u64().expect("a version"), updated, record["updatedBy"].as_str().expect("a node"))
}

/// Marks a record as changed here and now.
fn touch(record: &mut Value) {
    record["version"] = json!(record["version"].as_u64().unwrap_or(0) + 1);
    record["updatedBy"] = json!(NAME);
}

fn touch_dated(record: &mut Value) {
    touch(record);
    record["updatedAt"] = json!(time(0));
}

async fn register(State(mesh): Shared, Json(body): Json<Value>) -> Answer {
    let id = body["hostId"].as_str().expect("the tests name their hosts").to_owned();
    let mut host = json!({
        "id": id, "name": body["name"], "capabilities": body["capabilities"],
        "maxParallel": body["maxParallel"], "activeLeases": 0, "lastSeenAt": time(0), "registeredAt": time(0),
    });
    touch(&mut host);
    lock(&mesh).hosts.insert(id, host.clone());
    Ok(Json(json!({"host": host})))
}

async fn heartbeat(State(mesh): Shared, Path(id): Path<String>, _: Bytes) -> Answer {
    let mut mesh = lock(&mesh);
    let Some(host) = mesh.hosts.get_mut(&id) else { return unknown("host", &id) };
    host["lastSeenAt"] = json!(time(0));
    touch(host);
    Ok(Json(json!({"host": host})))
}

async fn enqueue(State(mesh): Shared, Json(body): Json<Value>) -> Answer {
    let id = format!("job_{}", uuid::Uuid::new_v4());
    let mut job = json!({
        "id": id, "createdAt": time(0), "status": "queued", "attempts": 0,
        "requirement": body.get("requirement").unwrap_or(&json!({})), "payload": body["payload"],
    });
    if let Some(submitter) = body.get("submittedBy") {
        job["submittedBy"] = submitter.clone();
    }
    touch_dated(&mut job);
    lock(&mesh).jobs.insert(id, job.clone());
    Ok(Json(json!({"job": job})))
}

async fn claim(State(mesh): Shared, Path(id): Path<String>, _: Bytes) -> Answer {
    let mut mesh = lock(&mesh);
    let Some(host) = mesh.hosts.get_mut(&id) else { return unknown("host", &id) };
    if host["activeLeases"].as_u64() >= host["maxParallel"].as_u64() {
        return Ok(Json(json!({"job": null})));
    }
    let host = host.clone();
    let has = |wanted: &Value| host["capabilities"].as_array().is_some_and(|all| all.contains(wanted));
    let fits = |job: &Value| {
        job["requirement"]["requiredCapabilities"].as_array().is_none_or(|wanted| wanted.iter().all(has))
    };
    let queued = mesh.jobs.values_mut().filter(|job| job["status"] == "queued" && fits(job));
    let Some(job) = queued.min_by_key(|job| job["createdAt"].to_string()) else {
        return Ok(Json(json!({"job": null})));
    };
    job["status"] = json!("leased");
    job["attempts"] = json!(job["attempts"].as_u64().unwrap_or(0) + 1);
    job["assignedHostId"] = json!(id);
    job["leaseExpiresAt"] = json!(time(LEASE_MS));
    touch_dated(job);
    let job = job.clone();
    count_leases(&mut mesh, &id, 1);
    Ok(Json(json!({"job": job})))
}

fn count_leases(mesh: &mut Mesh, host: &str, by: i64) {
    if let Some(host) = mesh.hosts.get_mut(host) {
        host["activeLeases"] = json!((host["activeLeases"].as_i64().unwrap_or(0) + by).max(0));
        touch(host);
    }
}

async fn complete(State(mesh): Shared, Path(id): Path<String>, Json(body): Json<Value>) -> Answer {
    let mut mesh = lock(&mesh);
    let Some(job) = mesh.jobs.get_mut(&id) else { return unknown("job", &id) };
    let host = body["hostId"].as_str().expect("a host").to_owned();
    if job["assignedHostId"] != host.as_str() {
        let by = job["assignedHostId"].as_str().unwrap_or("nobody");
        return refused(StatusCode::CONFLICT, &format!("job {id} is assigned to {by}"));
    }
    if job["status"] != "leased" {
        return refused(StatusCode::CONFLICT, &format!("job {id} is not leased"));
    }
    job["status"] = json!(if body["success"] == true { "completed" } else { "failed" });
    let mut result = json!({"finishedAt": time(0)});
    for field in ["durationMs", "exitCode", "stdout", "stderr"] {
        result[field] = body[field].clone();
    }
    job["result"] = result;
    if let Some(fields) = job.as_object_mut() {
        fields.remove("leaseExpiresAt");
    }
    touch_dated(job);
    let job = job.clone();
    count_leases(&mut mesh, &host, -1);
    Ok(Json(json!({"job": job})))
}

async fn deploy(State(mesh): Shared, Json(body): Json<Value>) -> Answer {
    let id = format!("svc_{}", uuid::Uuid::new_v4());
    let mut service = json!({
        "id": id, "name": body["name"], "command": body["command"], "args": [], "replicas": 1,
        "requiredCapabilities": ["service-host"], "status": "pending", "createdAt": time(0), "assignments": [],
    });
    touch_dated(&mut service);
    lock(&mesh).services.insert(id, service.clone());
    Ok(Json(json!({"service": service})))
}

async fn claim_service(State(mesh): Shared, Path(id): Path<String>, _: Bytes) -> Answer {
    let mut mesh = lock(&mesh);
    let free = mesh.services.values_mut().find(|service| service["assignments"] == json!([]));
    let Some(service) = free else { return Ok(Json(json!({"service": null}))) };
    service["assignments"] = json!([{"hostId": id, "status": "pending", "updatedAt": time(0)}]);
    touch_dated(service);
    Ok(Json(json!({"service": service})))
}

async fn report(State(mesh): Shared, Path(id): Path<String>, Json(body): Json<Value>) -> Answer {
    let mut mesh = lock(&mesh);
    let Some(service) = mesh.services.get_mut(&id) else { return unknown("service", &id) };
    let is_of_host = service["assignments"][0]["hostId"] == body["hostId"];
    if !is_of_host {
        let host = body["hostId"].as_str().unwrap_or_default();
        return refused(StatusCode::CONFLICT, &format!("service {id} is not assigned to host {host}"));
    }
    let assignment = &mut service["assignments"][0];
    assignment["status"] = body["status"].clone();
    assignment["endpoint"] = body["endpoint"].clone();
    assignment["startedAt"] = json!(time(0));
    assignment["updatedAt"] = json!(time(0));
    service["status"] = body["status"].clone();
    touch_dated(service);
    Ok(Json(json!({"service": service})))
}
