//! The stream of all changes. (Ours.)

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use skyclaw_tests::mesh::{id, with};
use skyclaw_tests::stream::{Sent, Stream, kept};
use skyclaw_tests::{Cluster, Coordinator, LONG, Options, TOKEN, Value, Wire, json, wait_until};

fn node() -> Coordinator {
    Options::default().start()
}

/// What is told of events: what happened to what.
fn told(events: &[Sent]) -> Vec<String> {
    let text = |sent: &Sent, name: &str| sent.data[name].as_str().unwrap_or("-").to_owned();
    events
        .iter()
        .map(|sent| format!("{} {} {}", sent.event, text(sent, "type"), text(sent, "recordId")))
        .collect()
}

fn place(sent: &Sent) -> (u64, u32) {
    let text = sent.data["id"].as_str().expect("an id");
    let (index, n) = text.split_once('-').expect("two numbers");
    (index.parse().expect("a number"), n.parse().expect("a number"))
}

#[track_caller]
fn assert_ordered(events: &[Sent]) {
    for pair in events.windows(2) {
        assert!(place(&pair[0]) < place(&pair[1]), "{pair:?}");
    }
}

/// Reads from one coordinator after the other, coming back wherever a connection ends, until `is_done`.
fn read_over(
    urls: &[String],
    mut last: Option<String>,
    mut is_done: impl FnMut(&[Sent]) -> bool,
) -> Vec<Sent> {
    let (mut all, mut turn) = (Vec::new(), 0);
    let mut stream: Option<Stream> = None;
    wait_until("all events are told", LONG, || {
        let Some(open) = &mut stream else {
            turn += 1;
            stream = Stream::open(&urls[turn % urls.len()], "/v1/events?kind=job", last.as_deref()).ok();
            return None;
        };
        loop {
            match open.look() {
                Ok(Some(sent)) => all.push(sent),
                Ok(None) => break,
                Err(_) => {
                    last = Some(open.last_id.clone());
                    stream = None;
                    break;
                }
            }
        }
        is_done(&all).then_some(())
    });
    all
}

/// Enqueues until it is told to stop, and says what was acknowledged.
fn enqueue_until(wires: &[Wire], stop: &AtomicBool) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    let body = json!({"payload": {"kind": "shell", "command": "true"}});
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let wire = &wires[n % wires.len()];
        let key = format!("k{n}");
        if let Ok(reply) = wire.post("/v1/jobs", &body).key(&key).try_send()
            && reply.status == 200
        {
            acknowledged.insert(id(&reply.json()["job"]));
        }
    }
    acknowledged
}

fn queued(events: &[Sent]) -> Vec<String> {
    let queued = events.iter().filter(|sent| sent.data["type"] == "queued");
    queued.map(|sent| sent.data["recordId"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn everything_that_happens_is_told_as_it_happens_in_a_few_words() {
    let node = node();
    let wire = node.wire();
    let mut stream = Stream::open(&node.url(), "/v1/events", None).expect("a stream");
    stream.stands();
    wire.host("h1", &["a"], 4);
    let extra = json!({"labels": {"team": "x"}, "submittedBy": "ann",
                       "payload": {"kind": "shell", "command": "true", "env": {"KEY": "s3cret-value"}}});
    let job = id(&wire.enqueue_with(&extra));
    let fence = wire.claim("h1")["fence"].clone();
    let done = json!({"hostId": "h1", "success": false, "durationMs": 5, "exitCode": 3,
                      "stdout": "s3cret-output", "stderr": "", "fence": fence});
    wire.post(&format!("/v1/jobs/{job}/complete"), &done).ok();
    wire.post("/v1/services", &json!({"serviceId": "s1", "name": "web", "command": "serve"})).ok();
    let freeze = wire.post("/v1/freezes", &json!({"reason": "odd", "agentId": "bot"})).ok();
    let freeze = id(&freeze["freeze"]);
    wire.post(&format!("/v1/freezes/{freeze}/thaw"), &json!({})).ok();
    wire.post("/v1/hosts/h1/drain", &json!({"reason": "old"})).ok();
    let events: Vec<Sent> = (0..8).map(|_| stream.next().expect("an event")).collect();
    let expected = [
        "host registered h1".to_owned(),
        format!("job queued {job}"),
        format!("job claimed {job}"),
        format!("job failed {job}"),
        "service deployed s1".to_owned(),
        format!("freeze frozen {freeze}"),
        format!("freeze thawed {freeze}"),
        "host draining h1".to_owned(),
    ];
    assert_eq!(told(&events), expected);
    assert_ordered(&events);
    let claimed = &events[2].data;
    assert_eq!(
        (&claimed["hostId"], &claimed["attempt"], &claimed["fence"]),
        (&json!("h1"), &json!(1), &fence)
    );
    assert_eq!((&claimed["status"], &claimed["detail"]), (&json!("leased"), &json!("attempt 1")));
    assert_eq!((&claimed["labels"], &claimed["submittedBy"]), (&json!({"team": "x"}), &json!("ann")));
    assert_eq!(events[3].data["detail"], json!("exit code 3"));
    let text = format!("{events:?}");
    assert!(!text.contains("s3cret"), "neither environment nor output: {text}");
    assert_eq!(kept(&node.url(), "after=0"), events, "told again the same");
}

#[test]
fn what_a_write_was_answered_with_is_the_place_after_it() {
    let node = node();
    let wire = node.wire();
    wire.enqueue();
    let shown = wire.get("/v1/jobs").send();
    let place = shown.header("x-skyclaw-index").expect("an index").to_owned();
    let next = id(&wire.enqueue());
    assert_eq!(told(&kept(&node.url(), &format!("after={place}"))), [format!("job queued {next}")]);
    wire.get("/v1/events").header("last-event-id", "999999999-0").send().refused(
        503,
        &format!("event 999999999-0 is not applied here yet: this coordinator is at {}", index_of(&wire)),
    );
}

fn index_of(wire: &Wire) -> String {
    wire.get("/v1/hosts").send().header("x-skyclaw-index").expect("an index").to_owned()
}

#[test]
fn under_load_no_event_is_missed_or_told_twice_when_the_coordinator_is_killed() {
    let mut node = node();
    let (wires, urls) = ([node.wire()], [node.url()]);
    let (stop, acknowledged) = (AtomicBool::new(false), std::sync::Mutex::new(None));
    let events = std::thread::scope(|scope| {
        scope.spawn(|| {
            let all = enqueue_until(&wires, &stop);
            *acknowledged.lock().expect("no panic") = Some(all);
        });
        let (mut kills, mut seen) = (0, 0);
        read_over(&urls, Some("0".into()), |events| {
            if kills < 3 && events.len() >= seen + 100 {
                (kills, seen) = (kills + 1, events.len());
                node.kill9();
                node.restart();
            }
            stop.store(kills == 3 && events.len() >= seen + 100, Ordering::Relaxed);
            let all = acknowledged.lock().expect("no panic");
            all.as_ref().is_some_and(|all| all.is_subset(&queued(events).into_iter().collect()))
        })
    });
    assert_ordered(&events);
    let all = kept(&urls[0], "after=0&kind=job");
    assert_eq!(events, all[..events.len()], "what was told over all connections is what there is");
}

#[test]
fn a_stream_is_resumed_at_another_coordinator_under_load_while_leaders_are_killed() {
    let mut cluster = Cluster::start(3);
    let (wires, urls) = (cluster.wires(), cluster.urls());
    let (stop, acknowledged) = (AtomicBool::new(false), std::sync::Mutex::new(None));
    let events = std::thread::scope(|scope| {
        scope.spawn(|| {
            let all = enqueue_until(&wires, &stop);
            *acknowledged.lock().expect("no panic") = Some(all);
        });
        let (mut kills, mut seen) = (0, 0);
        let mut killed = None;
        read_over(&urls, Some("0".into()), |events| {
            if kills < 2 && events.len() >= seen + 100 {
                (kills, seen) = (kills + 1, events.len());
                if let Some(node) = killed.take() {
                    cluster.restart(node);
                }
                let leader = cluster.leader();
                cluster.kill9(leader);
                killed = Some(leader);
            }
            let is_enough = kills == 2 && events.len() >= seen + 100;
            if is_enough && let Some(node) = killed.take() {
                cluster.restart(node);
            }
            stop.store(is_enough, Ordering::Relaxed);
            let all = acknowledged.lock().expect("no panic");
            all.as_ref().is_some_and(|all| all.is_subset(&queued(events).into_iter().collect()))
        })
    });
    assert_ordered(&events);
    cluster.wait_whole();
    let index = index_of(&cluster.wire(cluster.leader()));
    for (wire, url) in wires.iter().zip(&urls) {
        let caught_up = wire.get("/v1/hosts").header("x-skyclaw-min-index", &index);
        assert_eq!(caught_up.send().status, 200);
        let all = kept(url, "after=0&kind=job");
        assert_eq!(events, all[..events.len()], "every coordinator has the same under the same ids");
    }
}

#[test]
fn a_reader_that_stands_still_is_told_everything_once_it_goes_on() {
    let node = node();
    let wire = node.wire();
    let mut still = TcpStream::connect(node.address()).expect("the daemon listens");
    let head = format!("GET /v1/events?after=0 HTTP/1.1\r\nhost: a\r\nx-skyclaw-token: {TOKEN}\r\n\r\n");
    still.write_all(head.as_bytes()).expect("the request is sent");
    // Much more than sockets and queues hold.
    let labels: serde_json::Map<String, Value> =
        (0..60).map(|n| (format!("k{n}"), json!("x".repeat(250)))).collect();
    for _ in 0..600 {
        wire.enqueue_with(&json!({"labels": labels}));
    }
    let all = kept(&node.url(), "after=0");
    assert_eq!(all.len(), 600);
    let mut text = String::new();
    let mut reader = std::io::BufReader::new(still);
    let mut seen = Vec::new();
    while seen.len() < all.len() {
        text.clear();
        assert!(std::io::BufRead::read_line(&mut reader, &mut text).expect("it goes on") > 0, "it ended");
        if let Some(data) = text.strip_prefix("data: ") {
            seen.push(serde_json::from_str::<Value>(data).expect("JSON"));
        }
    }
    let wanted: Vec<Value> = all.into_iter().map(|sent| sent.data).collect();
    assert_eq!(seen, wanted);
}

#[test]
fn what_is_not_kept_any_more_is_told_with_the_oldest_that_is() {
    let mut node = Options::default().env("SKYCLAW_EVENT_RETENTION_MAX", "20").start();
    let wire = node.wire();
    // Each look at the list has what came before it written down, in a row of its own.
    for _ in 0..10 {
        for _ in 0..5 {
            wire.enqueue();
        }
        wire.get("/v1/jobs?limit=1").ok();
    }
    let check = |url: &str, query: &str| {
        let events = kept(url, query);
        let (gap, rest) = events.split_first().expect("something is told");
        assert_eq!(gap.event, "gap", "{gap:?}");
        assert!(gap.data["reason"].as_str().is_some_and(|why| why.contains("not kept")), "{gap:?}");
        assert_eq!(gap.data["oldest"], rest[0].data["id"]);
        assert!((20..40).contains(&rest.len()), "{}", rest.len());
        assert!(rest.iter().all(|sent| sent.event == "job"));
        // Where it says that it goes on, nothing is missing.
        let place = gap.data["keptAfter"].as_str().expect("a place");
        assert_eq!(kept(url, &format!("after={place}")), rest);
        gap.clone()
    };
    let gap = check(&node.url(), "after=0");
    assert_eq!(gap.data["after"], json!("0"));
    node.kill9();
    node.restart();
    assert_eq!(check(&node.url(), "after=0"), gap, "after a restart");
    let first = Stream::open(&node.url(), "/v1/events?follow=false&job=none", Some("1-0"));
    let first = first.expect("a stream").next().expect("an event");
    assert_eq!((first.event.as_str(), &first.data["after"]), ("gap", &json!("1-0")), "whatever is asked for");
}

#[test]
fn an_id_of_another_cluster_is_told_apart_from_one_of_this() {
    let (one, other) = (node(), node());
    for node in [&one, &other] {
        for _ in 0..3 {
            node.wire().enqueue();
        }
    }
    let last = kept(&one.url(), "after=0")[0].id.clone();
    let stream = |node: &Coordinator| {
        Stream::open(&node.url(), "/v1/events?follow=false", Some(&last)).expect("a stream").rest()
    };
    assert_eq!(told(&stream(&one))[..2].iter().filter(|text| text.starts_with("job queued")).count(), 2);
    let foreign = stream(&other);
    assert_eq!(foreign[0].event, "gap");
    assert_eq!(foreign[0].data["reason"], json!("the id is of another cluster"));
    assert_eq!(foreign.len(), 1 + 3 + 1, "and all there is");
}

#[test]
fn whatever_is_sent_as_the_last_id_is_refused_by_name_or_gone_on_from() {
    let node = node();
    let wire = node.wire();
    wire.enqueue();
    let long = "9".repeat(10_000);
    for bad in [
        "x",
        "1-",
        "-1",
        "1-2-3",
        "99999999999999999999",
        "1-4294967296",
        "1-0.",
        "1-0.zzzzzzzz",
        "'; DROP",
        &long,
    ] {
        let refused = wire.get("/v1/events").header("last-event-id", bad).send();
        assert_eq!(
            (refused.status, &refused.json()["details"]),
            (400, &json!({"field": "last-event-id"})),
            "{bad:.20}"
        );
    }
    let head = format!(
        "GET /v1/events HTTP/1.1\r\nhost: a\r\nx-skyclaw-token: {TOKEN}\r\nlast-event-id: \u{e9}\r\n\r\n"
    );
    let mut raw = TcpStream::connect(node.address()).expect("the daemon listens");
    raw.write_all(head.as_bytes()).expect("sent");
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(raw), &mut line).expect("an answer");
    assert!(line.starts_with("HTTP/1.1 400 "), "{line}");
    wire.without_token().get("/v1/events").refused(401, "unauthorized");
    assert_eq!(kept(&node.url(), "after=0").len(), 1, "and it goes on");
}

#[test]
fn streams_are_bounded_and_each_that_ends_makes_room() {
    let node = Options::default().env("SKYCLAW_MAX_STREAMS", "2").start();
    let open = || Stream::open(&node.url(), "/v1/events", None);
    let _first = open().expect("room");
    let mut second = open().expect("room");
    second.stands();
    let refused = open().expect_err("no room");
    assert!(refused.0 == 503 && refused.1.contains("\"overloaded\""), "{refused:?}");
    let ended = Stream::open(&node.url(), "/v1/events?follow=false", None);
    assert_eq!(ended.expect_err("no room").0, 503);
    node.wire().enqueue();
    assert_eq!(second.next().expect("an event").data["type"], json!("queued"), "the others go on");
}

#[test]
fn a_stream_ends_with_its_coordinator_and_keeps_it_from_nothing() {
    let mut node = node();
    let mut stream = Stream::open(&node.url(), "/v1/events", None).expect("a stream");
    stream.stands();
    node.terminate();
    assert_eq!(stream.next(), None);
}

#[test]
fn the_command_line_follows_over_a_restart_and_another_place() {
    use std::process::Stdio;
    let mut node = node();
    let wire = node.wire();
    let first = id(&wire.enqueue_with(&json!({"labels": {"team": "x"}})));
    let listed = skyctl(&node, &["events", "--label", "team=x"]).ok();
    assert!(listed.contains(&format!(" job queued {first}")), "{listed}");
    let over = id(&wire.enqueue());
    wire.call("POST", &format!("/v1/jobs/{over}/cancel")).ok();
    let shown = skyctl(&node, &["job", "get", "--watch", &over]).ok();
    assert!(shown.trim_end().ends_with(&format!("{over} cancelled")), "{shown}");
    let dir = tempfile::tempdir().expect("a directory");
    let urls = format!("http://127.0.0.1:1,{}", node.url());
    let mut command = skyclaw_tests::process::command(
        "skyctl",
        dir.path(),
        [("SKYCLAW_COORDINATOR_URLS", urls.as_str()), ("SKYCLAW_TOKEN", TOKEN)],
    );
    let mut follow = command
        .args(["events", "-f", "--after", "0", "--type", "queued", "-o", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("skyctl starts");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(follow.stdout.take().expect("a pipe")));
    let mut next = || -> Value {
        let line = lines.next().expect("it goes on").expect("text");
        serde_json::from_str(&line).expect("JSON")
    };
    assert_eq!(next()["recordId"], json!(first));
    assert_eq!(next()["recordId"], json!(over));
    node.kill9();
    node.restart();
    let second = id(&node.wire().enqueue());
    assert_eq!(next()["recordId"], json!(second), "neither missed nor told twice");
    follow.kill().expect("it runs");
    follow.wait().expect("it ends");
}

fn skyctl(node: &Coordinator, args: &[&str]) -> skyclaw_tests::ctl::Ran {
    skyclaw_tests::ctl::skyctl(&node.url(), args)
}

#[test]
fn a_host_whose_leases_alone_change_is_not_told_of() {
    let node = node();
    let wire = node.wire();
    wire.host("h1", &[], 4);
    let job = id(&wire.enqueue());
    let fence = wire.claim("h1")["fence"].clone();
    let done = with(&skyclaw_tests::mesh::success_of("h1"), &json!({"fence": fence}));
    wire.post(&format!("/v1/jobs/{job}/complete"), &done).ok();
    let events = kept(&node.url(), "after=0&host=h1");
    assert_eq!(
        told(&events),
        ["host registered h1".to_owned(), format!("job claimed {job}"), format!("job completed {job}")]
    );
}
