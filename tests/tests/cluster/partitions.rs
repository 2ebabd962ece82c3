//! Ways between nodes break: in both directions, in one, for good and again and again.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use skyclaw_tests::mesh::{id, shell_job};
use skyclaw_tests::net_ns::Network;
use skyclaw_tests::{Cluster, LONG, Plan, Value, Wire, json, outside, wait_until};

use super::client::LEASE;
use super::load::{CLIENTS, with_leases, withstand};

/// A client of a node that is cut off does not wait for it for ever.
const PATIENCE: Duration = Duration::from_secs(4);

/// A way to cut a node off, which clients still reach.
type Cut = fn(&Network, usize);

const CUTS: [(&str, Cut); 3] = [
    ("nothing from or to it arrives", Network::part),
    ("nothing arrives at it", Network::deafen),
    ("nothing from it arrives", Network::mute),
];

#[test]
fn what_was_acknowledged_survives_partitions_of_every_kind() {
    let mut rng = StdRng::seed_from_u64(outside::seed(rand::random()));
    withstand(with_leases(Plan::in_network(3)).start(), CLIENTS, &mut rng, |cluster, rng| {
        for of_leader in [true, false] {
            for (_, cut) in CUTS {
                let node = if of_leader { cluster.leader() } else { cluster.follower() };
                cut(cluster.network(), node);
                last(rng, 1_000..2_500);
                cluster.network().mend();
                last(rng, 200..1_000);
            }
        }
        let leader = cluster.leader();
        cluster.network().unplug(leader);
        last(rng, 1_500..3_000);
        cluster.network().mend();
        let [one, other] = [cluster.leader(), cluster.follower()];
        for _ in 0..8 {
            cluster.network().cut_both(one, other);
            last(rng, 50..400);
            cluster.network().mend();
            last(rng, 50..400);
        }
    });
}

/// Also of the leader that hears nobody while all others hear it: they must not follow it for ever.
#[test]
fn a_leader_that_is_cut_off_acknowledges_and_leases_nothing_while_the_others_go_on() {
    let cluster = with_leases(Plan::in_network(3)).start();
    for (what, cut) in CUTS {
        println!("{what}");
        cut_off(&cluster, cut);
    }
}

/// A host that is told so would register again, and its clients would be told what is not so.
#[test]
fn a_leader_that_is_cut_off_does_not_deny_a_host_that_registered_with_the_others() {
    let cluster = with_leases(Plan::in_network(3)).start();
    let leader = cluster.leader();
    let others: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    cluster.network().part(leader);
    let elected =
        wait_until("another leads", LONG, || others.iter().copied().find(|node| cluster.leads(*node)));
    let host = cluster.wire(elected).host("a-new-one", &[], 1);
    let asked = cluster.wire(leader).with_patience(PATIENCE);
    for what in ["claim", "heartbeat", "services/claim"] {
        let reply = asked.post(&format!("/v1/hosts/{host}/{what}"), &json!({})).try_send();
        assert!(reply.as_ref().map_or(true, |reply| reply.status == 503), "{what}: {reply:?}");
    }
    cluster.network().mend();
    cluster.wait_whole();
    for node in 0..3 {
        for what in ["claim", "heartbeat", "services/claim"] {
            cluster.wire(node).post(&format!("/v1/hosts/{host}/{what}"), &json!({})).ok();
        }
    }
}

fn cut_off(cluster: &Cluster, cut: Cut) {
    let leader = cluster.leader();
    let others: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    let asked = cluster.wire(leader).with_patience(PATIENCE);
    let host = asked.host(&format!("host-of-{leader}"), &[], 100);
    let run = asked.enqueue();
    // Claims give the oldest first, and jobs of earlier rounds may be left.
    let held = claim_all(&asked, &host);
    let held = held.into_iter().find(|job| job["id"] == run["id"]).expect("the job is leased");
    let waiting: Vec<String> = (0..3).map(|_| id(&asked.enqueue())).collect();

    cut(cluster.network(), leader);
    let key = format!("key-{leader}-{}", waiting[0]);
    let body = shell_job(&json!({"submittedBy": key}));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let over = &over;
        let end = Over(over);
        let writes = scope.spawn(|| {
            until(over, || {
                let reply = asked.post("/v1/jobs", &body).key(&key).try_send();
                assert!(reply.as_ref().map_or(true, |reply| reply.status == 503), "acknowledged: {reply:?}");
            })
        });
        let claims = scope.spawn(|| {
            until(over, || {
                let claim = asked.post(&format!("/v1/hosts/{host}/claim"), &json!({}));
                if let Ok(reply) = claim.try_send() {
                    assert!(reply.status != 200 || reply.json()["job"].is_null(), "leased: {}", reply.text);
                }
            })
        });
        let believes = scope.spawn(|| holds_until(over, &asked, &host, &held));
        let elected =
            wait_until("another leads", LONG, || others.iter().copied().find(|node| cluster.leads(*node)));
        for node in &others {
            wait_until("the others take writes", LONG, || {
                let reply = cluster.wire(*node).post("/v1/jobs", &shell_job(&json!({}))).try_send().ok()?;
                (reply.status == 200).then_some(())
            });
        }
        cluster.wire(elected).host("other", &[], 100);
        // A claim that was asked of the old leader may have reached the others, and have been carried out by
        // them, without its answer: such a lease has to run out first, like the one its host was told of.
        let mut wanted: BTreeSet<&str> = waiting.iter().map(String::as_str).collect();
        let mut given_away = None;
        let other = cluster.wire(elected);
        wait_until("the others give out what the old leader had", LONG, || {
            for job in claim_all(&other, "other") {
                wanted.remove(job["id"].as_str()?);
                if job["id"] == run["id"] {
                    given_away.get_or_insert_with(Instant::now);
                }
            }
            if wanted.is_empty() { given_away } else { None }
        });
        let given_away = given_away.expect("the time");
        drop(end);
        assert!(writes.join().expect("writes") > 0 && claims.join().expect("claims") > 0);
        let believed = believes.join().expect("heartbeats");
        assert!(
            believed <= given_away,
            "its host believed for {:?} more that it holds it",
            believed - given_away
        );
    });
    cluster.network().mend();
    cluster.wait_whole();
    let truth = cluster.wire(leader).post("/v1/jobs", &body).key(&key).ok()["job"].take();
    let state = cluster.wire(leader).get("/v1/state?consistent=true").ok();
    let jobs = state["jobs"].as_array().into_iter().flatten();
    // Its answer is as it was first decided; the others may have given the job out since.
    let of_key: Vec<&Value> = jobs.filter(|job| job["submittedBy"] == key).map(|job| &job["id"]).collect();
    assert_eq!(of_key, [&truth["id"]], "asked for many times, and done once");
}

/// Heartbeats at the leader that is cut off, as a host sends them that runs the job. Until when the host
/// believes that it holds it: a lease from when it last asked and was not told otherwise.
fn holds_until(over: &AtomicBool, asked: &Wire, host: &str, held: &Value) -> Instant {
    let body = json!({"running": [{"jobId": held["id"], "fence": held["fence"]}]});
    let mut believed = Instant::now();
    until(over, || {
        let sent = Instant::now();
        let beat = asked.post(&format!("/v1/hosts/{host}/heartbeat"), &body).try_send();
        if beat.is_ok_and(|reply| reply.status == 200 && reply.json()["stop"].is_null()) {
            believed = sent + LEASE;
        }
    });
    believed
}

fn claim_all(wire: &Wire, host: &str) -> Vec<Value> {
    let claim = || Some(wire.claim(host)).filter(|job| !job.is_null());
    std::iter::from_fn(claim).collect()
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does it again and again, and says how often.
fn until(over: &AtomicBool, mut again: impl FnMut()) -> usize {
    let mut count = 0;
    while !over.load(Ordering::Relaxed) {
        again();
        count += 1;
    }
    count
}

/// Not to wait for anything: this is how long a state of things lasts.
fn last(rng: &mut StdRng, ms: Range<u64>) {
    std::thread::sleep(Duration::from_millis(rng.random_range(ms)));
}
