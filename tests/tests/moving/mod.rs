//! A mesh of the reference is moved over to a cluster of ours while it works: it has our coordinators as
//! its peers, then its hosts and clients are pointed at them. Nothing is lost, nothing is done twice.

pub(crate) mod reference;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use skyclaw_tests::mesh::{id, shell_job, success_of};
use skyclaw_tests::{Cluster, LONG, Value, Wire, json, wait_until};

use self::reference::Reference;

const HOSTS: usize = 4;

/// What hosts and clients have seen.
#[derive(Debug, Default)]
struct Seen {
    enqueued: BTreeSet<String>,
    /// Runs of each job.
    runs: BTreeMap<String, usize>,
    completed: BTreeMap<String, String>,
}

impl Seen {
    fn extend(&mut self, other: Self) {
        self.enqueued.extend(other.enqueued);
        self.completed.extend(other.completed);
        for (job, runs) in other.runs {
            *self.runs.entry(job).or_default() += runs;
        }
    }
}

#[test]
fn a_mesh_of_the_reference_moves_over_while_it_works() {
    let cluster = Cluster::start(3);
    let ours = cluster.wires();
    let reference = Reference::start(ours.clone());
    let (service, endpoint) = served(&reference.wire());
    // Whom to speak to. Who is in the middle of a request is waited for.
    let target = RwLock::new(vec![reference.wire()]);
    let (done, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let seen = std::thread::scope(|scope| {
        let (to, done, stop) = (&target, &done, &stop);
        let hosts: Vec<_> =
            (0..HOSTS).map(|number| scope.spawn(move || work(number, to, done, stop))).collect();
        let _stop = Stop(stop);
        wait_for(done, 30);
        switch(&target, &reference, &ours);
        // Its state is sent on, and is old news.
        let synced = reference.synced();
        wait_until("what is old was sent again", LONG, || (reference.synced() > synced + 3).then_some(()));
        wait_for(done, 60);
        stop.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for host in hosts {
            all.extend(host.join().expect("a host"));
        }
        all
    });

    let state = ours[0].get("/v1/state?consistent=true").ok();
    check(&state, &seen);
    let kept = ours[1].get(&format!("/v1/services/{service}")).ok()["service"].take();
    assert_eq!((&kept["status"], &kept["assignments"][0]["endpoint"]), (&json!("running"), &endpoint));
    can_be_read_back(&reference, &state);
}

/// A service that runs.
fn served(wire: &Wire) -> (String, Value) {
    let endpoint = json!("http://10.0.0.9:3100");
    wire.host("server", &["service-host"], 1);
    let service = id(&wire.post("/v1/services", &json!({"name": "api", "command": "node"})).ok()["service"]);
    let claimed = wire.post("/v1/hosts/server/services/claim", &json!({})).ok();
    assert_eq!(id(&claimed["service"]), service);
    let report = json!({"hostId": "server", "status": "running", "endpoint": endpoint});
    wire.post(&format!("/v1/services/{service}/report"), &report).ok();
    (service, endpoint)
}

/// A host that enqueues jobs as well, wherever it is pointed at. It runs several at a time, so that it
/// holds some when it is pointed elsewhere.
fn work(number: usize, target: &RwLock<Vec<Wire>>, done: &AtomicUsize, stop: &AtomicBool) -> Seen {
    let host = format!("r{number}");
    let (mut seen, mut held, mut count) = (Seen::default(), Vec::new(), 0);
    let ask = |count: usize, path: &str, body: &Value| {
        let target = target.read().expect("a target");
        target[(number + count) % target.len()].post(path, body).ok()
    };
    let register = json!({"hostId": host, "name": host, "capabilities": ["shell"], "maxParallel": 3});
    ask(0, "/v1/hosts/register", &register);
    while !stop.load(Ordering::Relaxed) {
        count += 1;
        let needs = json!({"requirement": {"requiredCapabilities": ["shell"]}, "submittedBy": host});
        seen.enqueued.insert(id(&ask(count, "/v1/jobs", &shell_job(&needs))["job"]));
        ask(count, &format!("/v1/hosts/{host}/heartbeat"), &json!({"activeLeases": held.len()}));
        let job = ask(count, &format!("/v1/hosts/{host}/claim"), &json!({}))["job"].take();
        if !job.is_null() {
            *seen.runs.entry(id(&job)).or_default() += 1;
            held.push(id(&job));
        }
        if held.len() == 3 {
            let job = held.remove(0);
            ask(count, &format!("/v1/jobs/{job}/complete"), &success_of(&host));
            seen.completed.insert(job, host.clone());
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
    seen
}

/// Points everybody at ours, once ours have all that there is.
fn switch(target: &RwLock<Vec<Wire>>, reference: &Reference, ours: &[Wire]) {
    let mut target = target.write().expect("a target");
    let synced = reference.synced();
    // The one under way when the last request ended, and one that began afterwards.
    wait_until("all was handed over", LONG, || (reference.synced() > synced + 1).then_some(()));
    let leased = reference.snapshot()["jobs"]
        .as_array()
        .map(|jobs| jobs.iter().filter(|job| job["status"] == "leased").count());
    assert!(leased > Some(0), "some are being run meanwhile");
    *target = ours.to_vec();
}

fn check(state: &Value, seen: &Seen) {
    let jobs = state["jobs"].as_array().expect("jobs");
    let there: BTreeSet<String> = jobs.iter().map(id).collect();
    assert_eq!(there.len(), jobs.len(), "a job is there twice");
    assert_eq!(there, seen.enqueued);
    assert!(seen.runs.values().all(|runs| *runs == 1), "run twice: {:?}", seen.runs);
    for job in jobs {
        let host = seen.completed.get(&id(job));
        assert_eq!(job["status"] == "completed", host.is_some(), "{job}");
        if let Some(host) = host {
            assert_eq!((&job["assignedHostId"], &job["attempts"]), (&json!(host), &json!(1)), "{job}");
        }
    }
    let hosts: BTreeSet<String> = state["hosts"].as_array().expect("hosts").iter().map(id).collect();
    let known = (0..HOSTS).map(|number| format!("r{number}")).chain(["server".to_owned()]);
    assert_eq!(hosts, known.collect());
}

/// The way back: every record of ours is newer than what the reference has, or the same, and of a shape
/// it knows.
fn can_be_read_back(reference: &Reference, state: &Value) {
    reference.merge(state);
    let back = reference.snapshot();
    for kind in ["hosts", "jobs", "services"] {
        let by_id = |state: &Value| -> BTreeMap<String, Value> {
            state[kind].as_array().expect("records").iter().map(|r| (id(r), r.clone())).collect()
        };
        let (ours, back) = (by_id(state), by_id(&back));
        assert_eq!(ours.keys().collect::<Vec<_>>(), back.keys().collect::<Vec<_>>());
        for (id, record) in &ours {
            let what = |record: &Value| {
                (record["version"].clone(), record["status"].clone(), record["payload"].clone())
            };
            assert_eq!(what(record), what(&back[id]), "{id} is older at ours");
        }
    }
    for job in back["jobs"].as_array().into_iter().flatten() {
        let status = job["status"].as_str().expect("a status");
        assert!(["queued", "leased", "completed", "failed"].contains(&status), "{job}");
        assert_eq!(status == "leased", job["leaseExpiresAt"].is_string(), "{job}");
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn wait_for(done: &AtomicUsize, count: usize) {
    let goal = done.load(Ordering::Relaxed) + count;
    let what = format!("{count} more jobs are completed");
    wait_until(&what, LONG, || (done.load(Ordering::Relaxed) >= goal).then_some(()));
}
