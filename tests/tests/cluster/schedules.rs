//! Each time of a schedule is dealt with once, though leaders die.

use std::collections::BTreeSet;
use std::fs;

use skyclaw_tests::{Cluster, Host, LONG, Value, json, wait_until};

/// A schedule as a node that answers sees it, as new as any.
fn schedule(cluster: &Cluster) -> Value {
    wait_until("a coordinator answers", LONG, || {
        cluster.wires().iter().find_map(|wire| {
            let reply = wire.get("/v1/schedules/tick?consistent=true").try_send().ok()?;
            (reply.status == 200).then(|| reply.json()["schedule"].take())
        })
    })
}

fn count(schedule: &Value, field: &str) -> i64 {
    schedule[field].as_i64().unwrap_or_else(|| panic!("no {field} in {schedule}"))
}

fn seconds_between(from: &Value, to: &Value) -> i64 {
    let time = |time: &Value| {
        let text = time.as_str().unwrap_or_else(|| panic!("no time: {time}"));
        text.parse::<jiff::Timestamp>().expect("a time").as_second()
    };
    time(to) - time(from)
}

#[test]
fn no_second_is_lost_or_done_twice_though_leaders_die_and_a_host_runs_what_comes() {
    let mut cluster = Cluster::start(3);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ran = dir.path().join("ran");
    let urls = cluster.urls().join(",");
    let mut host = Host::start(&cluster.urls()[0], "h0", &[("SKYCLAW_COORDINATOR_URLS", urls.as_str())]);
    let script = format!("echo run >> {}", ran.display());
    let job = json!({"payload": {"kind": "shell", "command": "sh", "args": ["-c", script]}});
    let body = json!({"name": "tick", "cron": "* * * * * *", "overlap": "queue", "job": job});
    let made = cluster.wire(0).post("/v1/schedules", &body).ok()["schedule"].take();
    let mut submitted = 0;
    for end in [Cluster::kill9 as fn(&mut _, _), Cluster::terminate] {
        submitted = more(&cluster, submitted);
        let leader = cluster.leader();
        end(&mut cluster, leader);
        submitted = more(&cluster, submitted);
        cluster.restart(leader);
        cluster.wait_whole();
    }
    more(&cluster, submitted);
    let dealt_with = |now: &Value| {
        let waits = i64::from(now["waitingAt"].is_string());
        count(now, "submitted") + count(now, "skipped") + count(now, "missed") + waits
    };
    let now = schedule(&cluster);
    assert_eq!(dealt_with(&now), seconds_between(&made["nextAt"], &now["nextAt"]), "{now}");

    let leader = cluster.leader();
    let path = "/v1/schedules/tick/pause";
    cluster.wire(leader).post(path, &json!({"reason": "enough"})).ok();
    let all = wait_until("all jobs have ended", LONG, || {
        let path = "/v1/jobs?limit=1000&label=skyclaw/schedule=tick&consistent=true";
        let jobs = cluster.wire(leader).get(path).ok()["jobs"].take();
        let jobs = jobs.as_array().cloned()?;
        jobs.iter().all(|job| job["status"] == "completed").then_some(jobs)
    });
    let now = schedule(&cluster);
    assert_eq!(count(&now, "submitted"), i64::try_from(all.len()).expect("few"), "{now}");
    let times: BTreeSet<&str> = all.iter().filter_map(|job| job["scheduledAt"].as_str()).collect();
    assert_eq!(times.len(), all.len(), "no two jobs are for one time");
    assert!(all.iter().all(|job| job["attempts"] == 1 && job["scheduleId"] == made["id"]));
    let lines = fs::read_to_string(&ran).unwrap_or_default().lines().count();
    assert_eq!(lines, all.len(), "each job ran once");
    host.terminate();
}

/// Waits until some more jobs were submitted; says how many those are then.
fn more(cluster: &Cluster, before: i64) -> i64 {
    wait_until("some more are submitted", LONG, || {
        let now = count(&schedule(cluster), "submitted");
        (now >= before + 3).then_some(now)
    })
}
