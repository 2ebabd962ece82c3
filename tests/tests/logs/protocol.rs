//! What hosts and coordinators say to each other about output: by a host that is played here.

use std::thread;

use skyclaw_tests::{Coordinator, Host, LONG, Options, SHORT, Value, json, wait_until};

use super::{Gates, logs, runs, submit};

fn node(lease_ms: &str) -> Coordinator {
    Options::default().env("SKYCLAW_LEASE_MS", lease_ms).start()
}

/// Has host `h` claim the next job. Gives its fencing token.
fn claim(node: &Coordinator) -> u64 {
    let claimed = node.wire().post("/v1/hosts/h/claim", &json!({"waitMs": 20_000})).ok();
    claimed["job"]["fence"].as_u64().expect("a fencing token")
}

/// A heartbeat of a host that brings `logs`; gives what it is asked for.
fn beat(node: &Coordinator, logs: &Value, wait_ms: u32) -> Value {
    let body = json!({"logs": logs, "waitMs": wait_ms});
    node.wire().post("/v1/hosts/h/heartbeat", &body).ok()["logs"].take()
}

fn piece(fence: u64, offset: u64, data: &str) -> Value {
    json!({"hostId": "h", "fence": fence, "stream": "stdout", "offset": offset, "data": data})
}

#[test]
fn only_what_is_asked_for_is_taken_and_only_of_who_holds_the_lease() {
    let node = node("600000");
    let wire = node.wire();
    wire.host("h", &[], 4);
    let job = submit(&wire, "true");
    let push = |body: &Value| {
        let reply = wire.post(&format!("/v1/jobs/{job}/logs"), body).send();
        (reply.status, reply.json())
    };
    let refused = |body: &Value| {
        let (status, body) = push(body);
        (status, body["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(refused(&piece(1, 0, "x")), (409, "not_leased".into()));
    let fence = claim(&node);
    assert_eq!(refused(&piece(fence, 0, "x")), (410, "not_wanted".into()), "nobody follows");
    // A heartbeat that waits is answered as soon as somebody does.
    let reader = {
        let (wire, path) = (node.wire(), logs(&job, "format=json&waitMs=30000&offset=2"));
        thread::spawn(move || wire.get(&path).ok())
    };
    let wants = beat(&node, &json!([]), 30_000);
    assert_eq!(wants, json!([{"jobId": job, "fence": fence, "stream": "stdout", "offset": 2}]));
    // One that knows of it waits, and a host that says nothing of output is told nothing.
    assert_eq!(beat(&node, &wants, 1), wants);
    assert_eq!(wire.post("/v1/hosts/h/heartbeat", &json!({"waitMs": 1})).ok()["logs"], Value::Null);
    assert_eq!(refused(&piece(fence + 1, 2, "x")), (409, "stale_fence".into()));
    assert_eq!(
        refused(&json!({"hostId": "other", "fence": fence, "stream": "stdout", "offset": 2})),
        (409, "not_assigned".into())
    );
    assert_eq!(
        refused(&json!({"hostId": "h", "fence": fence, "stream": "stderr", "offset": 2})),
        (410, "not_wanted".into())
    );
    let (status, next) = push(&piece(fence, 2, "abc"));
    assert_eq!((status, &next["logs"][0]["offset"]), (200, &json!(5)), "{next}");
    let read = reader.join().expect("it reads");
    assert_eq!((&read["data"], &read["offset"], &read["nextOffset"]), (&json!("abc"), &json!(2), &json!(5)));
    assert_eq!(refused(&piece(fence, 5, &"x".repeat(64 * 1024 + 1))), (400, "invalid_request".into()));
}

#[test]
fn a_host_that_says_nothing_holds_nobody_up_for_ever() {
    let node = node("600000");
    let wire = node.wire();
    wire.host("h", &[], 4);
    let job = submit(&wire, "true");
    claim(&node);
    let silent = wire.get(&logs(&job, "")).send();
    assert_eq!((silent.status, &silent.json()["code"]), (503, &json!("host_silent")), "{}", silent.text);
    assert!(silent.error().contains("host h, which runs job"), "{}", silent.text);
    let waited = wire.get(&logs(&job, "format=json&waitMs=50")).ok();
    assert_eq!(
        (&waited["data"], &waited["live"], &waited["ended"]),
        (&json!(""), &json!(false), &json!(false))
    );
}

#[test]
fn a_new_attempt_begins_anew_and_says_so() {
    let node = node("600000");
    let wire = node.wire();
    wire.host("h", &[], 4);
    let job = submit(&wire, "true");
    let first = claim(&node);
    let mut lines = wire.get(&logs(&job, "follow=true&format=json")).open();
    let mut text = wire.get(&logs(&job, "follow=true")).open();
    let mut told = || {
        let line: Value = lines.line().parse().expect("a piece");
        (
            line["fence"].as_u64(),
            line["attempt"].as_u64(),
            line["data"].as_str().unwrap_or_default().to_owned(),
            line["offset"].as_u64(),
        )
    };
    let bring = |fence: u64, data: &str| {
        // As soon as somebody has asked for it.
        wait_until("the piece is taken", LONG, || {
            let pushed = wire.post(&format!("/v1/jobs/{job}/logs"), &piece(fence, 0, data)).send();
            (pushed.status == 200).then_some(())
        });
    };
    bring(first, "first\n");
    assert_eq!(text.line(), "first\n");
    let mut line = told();
    while line.2.is_empty() {
        line = told();
    }
    assert_eq!(line, (Some(first), Some(1), "first\n".into(), Some(0)));
    // The host has to give it back.
    let stopped = json!({"hostId": "h", "success": false, "durationMs": 1, "exitCode": 1, "stdout": "", "stderr": "",
                         "fence": first, "stopped": "shutdown"});
    wire.post(&format!("/v1/jobs/{job}/complete"), &stopped).ok();
    let second = claim(&node);
    bring(second, "second\n");
    assert_eq!(text.line(), "second\n");
    let mut line = told();
    while line.2.is_empty() {
        line = told();
    }
    assert_eq!(line, (Some(second), Some(2), "second\n".into(), Some(0)));
    // Whoever asks for more of the first attempt is given the second from its beginning.
    let anew = wire.get(&logs(&job, &format!("format=json&waitMs=1&offset=6&fence={first}"))).ok();
    assert_eq!((&anew["fence"], &anew["offset"]), (&json!(second), &json!(0)), "{anew}");
}

#[test]
fn a_frozen_host_tells_what_it_has_once_it_goes_on() {
    let (node, gates) = (node("600000"), Gates::new());
    let mut host = Host::start(&node.url(), "h1", &[]);
    let gate = gates.wait_at("gate");
    let wire = node.wire();
    let job = submit(&wire, &format!("echo one; {gate}; echo two"));
    runs(&wire, &job);
    host.process().signal(nix::sys::signal::Signal::SIGSTOP);
    let waited = wire.get(&logs(&job, "format=json&waitMs=50")).ok();
    assert_eq!((&waited["data"], &waited["live"]), (&json!(""), &json!(false)));
    let mut follower = wire.get(&logs(&job, "follow=true")).open();
    host.process().signal(nix::sys::signal::Signal::SIGCONT);
    assert_eq!(follower.line(), "one\n");
    gates.open("gate");
    assert_eq!(follower.rest(), "two\n");
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let node = node("600000");
    let wire = node.wire();
    let job = submit(&wire, "true");
    for (query, sentence) in [
        ("stream=x", "stream must be stdout, stderr or both"),
        ("stream=both&offset=1", "offset is of one stream: say stdoutOffset and stderrOffset for both"),
        ("offset=-1", "offset must be a whole number, 0 or more"),
        ("follow=yes", "follow must be true or false"),
        ("format=xml", "format must be text or json"),
        ("format=json&waitMs=99999", "waitMs must be a whole number from 0 to 30000"),
    ] {
        wire.get(&logs(&job, query)).refused(400, sentence);
    }
    wire.get(&logs("nothing", "")).refused(404, "unknown job: nothing");
    let closed = wire.without_token().get(&logs(&job, "")).send();
    assert_eq!(closed.status, 401);
    let big = wire.get(&logs(&job, "format=json&stdoutOffset=18446744073709551615")).ok();
    assert_eq!((&big["status"], &big["data"]), (&json!("queued"), &json!("")));
    wire.post(&format!("/v1/jobs/{job}/cancel"), &json!({})).ok();
    let ended = wait_until("the job has ended", SHORT, || {
        let piece = wire.get(&logs(&job, "format=json&stream=both")).ok();
        (piece["ended"] == true).then_some(piece)
    });
    assert_eq!((&ended["status"], &ended["data"]), (&json!("cancelled"), &json!("")));
}
