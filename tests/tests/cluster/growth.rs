//! All members of a cluster are replaced while clients work. The clients are the library that hosts and
//! operators use: none of its writes may fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use skyclaw_client::{Client, Config};
use skyclaw_proto::request::{ClaimBody, CompleteJobBody, EnqueueJobBody, RegisterHostBody};
use skyclaw_proto::{HostId, JobId, NodeId};
use skyclaw_tests::cluster::{find, members, view};
use skyclaw_tests::mesh::{id, shell_job, success_of, with};
use skyclaw_tests::{Cluster, Coordinator, LONG, Options, TOKEN, Value, Wire, json, wait_until};
use tokio::runtime::Runtime;

use super::state;

const CLIENTS: usize = 8;

#[test]
fn no_write_of_a_client_fails_while_all_members_are_replaced() {
    let mut cluster = Cluster::start(3);
    let newcomers = ["node-3", "node-4"].map(|name| cluster.newcomer(name));
    let urls = [cluster.urls(), newcomers.iter().map(Options::url).collect()].concat();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let stop = Arc::new(AtomicBool::new(false));
    let working: Vec<_> = (0..CLIENTS).map(|i| runtime.spawn(work(i, client(&urls), stop.clone()))).collect();
    let operator = client(&urls);

    let [fourth, fifth] = newcomers.map(Options::start);
    let all = [cluster.wires(), vec![fourth.wire(), fifth.wire()]].concat();
    are_voters(&all, &["node-0", "node-1", "node-2", "node-3", "node-4"]);
    cluster.transfer(0);
    let mut left = vec!["node-0", "node-1", "node-2", "node-3", "node-4"];
    // The second of them leads.
    for leaving in [1, 0, 2] {
        let name = format!("node-{leaving}");
        remove(&runtime, &operator, &name);
        left.retain(|node| *node != name);
        are_voters(&[fourth.wire(), fifth.wire()], &left);
        cluster.terminate(leaving);
    }

    writes_go_on(&[&fourth, &fifth]);
    stop.store(true, Ordering::Relaxed);
    let done = working.into_iter().map(|task| runtime.block_on(task).expect("no write fails"));
    let done: Vec<JobId> = done.flatten().collect();
    println!("{} jobs were enqueued and run meanwhile", done.len());
    let [one, other] = [&fourth, &fifth].map(|node| state(&node.wire()).expect("a state"));
    assert_eq!(one, other);
    let jobs = one["jobs"].as_array().expect("jobs");
    for job in &done {
        let found: Vec<&Value> = jobs.iter().filter(|found| found["id"] == job.as_str()).collect();
        assert_eq!(found.len(), 1, "{job}: {found:?}");
        assert_eq!((&found[0]["status"], &found[0]["attempts"]), (&json!("completed"), &json!(1)), "{job}");
    }
}

fn client(urls: &[String]) -> Client {
    Client::new(Config::new(urls, Some(TOKEN.into()))).expect("a client")
}

/// Enqueues jobs, claims some and completes them. Gives the jobs that it completed.
async fn work(number: usize, client: Client, stop: Arc<AtomicBool>) -> Vec<JobId> {
    let host: HostId = format!("m{number}").parse().expect("an id");
    let register: RegisterHostBody = body(json!({"hostId": host, "name": host, "maxParallel": 10}));
    client.register_host(&register, None).await.expect("a host is registered");
    let mut done = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let job: EnqueueJobBody = body(shell_job(&json!({})));
        client.enqueue(&job, None).await.expect("a job is enqueued");
        let claimed = client.claim(&host, &ClaimBody::default(), None).await.expect("a claim is answered");
        let Some(job) = claimed.job else { continue };
        let success = with(&success_of(host.as_str()), &json!({"fence": job.fence}));
        let success: CompleteJobBody = body(success);
        client.complete(&job.id, &success, None).await.expect("a job is completed");
        done.push(job.id);
    }
    done
}

fn body<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a body")
}

fn remove(runtime: &Runtime, operator: &Client, name: &str) {
    let id: NodeId = name.parse().expect("a name");
    wait_until(&format!("{name} is removed"), LONG, || {
        let removed = runtime.block_on(operator.remove_member(&id));
        // Asked for a second time after a lost answer, it is gone already.
        let is_gone = || {
            runtime
                .block_on(operator.cluster())
                .is_ok_and(|c| !c.members.iter().any(|m| m.node_id.as_ref() == Some(&id)))
        };
        if let Err(error) = &removed {
            println!("removing {name}: {error}");
        }
        (removed.is_ok() || is_gone()).then_some(())
    });
}

/// Waits until these nodes agree that these, and only these, are members, and that all of them vote.
#[track_caller]
fn are_voters(wires: &[Wire], names: &[&str]) {
    wait_until(&format!("{names:?} vote, and only they"), LONG, || {
        let sees = |wire: &Wire| {
            let view = view(wire)?;
            let votes = |name: &&str| {
                let role = find(&view, name).map(|member| member["role"].clone());
                role.is_some_and(|role| role == "leader" || role == "follower")
            };
            (members(&view).count() == names.len() && names.iter().all(votes)).then_some(())
        };
        wires.iter().all(|wire| sees(wire).is_some()).then_some(())
    });
}

fn writes_go_on(nodes: &[&Coordinator]) {
    for node in nodes {
        let job = id(&node.wire().enqueue());
        node.wire().get(&format!("/v1/jobs/{job}?consistent=true")).ok();
    }
}
