//! Following: lines as they come, and what there is at the end.

use std::thread;

use skyclaw_tests::ctl::skyctl;
use skyclaw_tests::process::{Process, command};
use skyclaw_tests::{Coordinator, Host, LONG, Options, TOKEN, Value, json, wait_until};

use super::{Gates, logs, runs, status, submit};

fn node() -> Coordinator {
    Options::default().env("SKYCLAW_LEASE_MS", "600000").start()
}

/// A host whose heartbeats wait so long that nothing that comes in time can have come with one.
fn host(node: &Coordinator) -> Host {
    Host::start(&node.url(), "h1", &[("SKYCLAW_HEARTBEAT_MS", "25000"), ("SKYCLAW_MAX_PARALLEL", "4")])
}

#[test]
fn lines_arrive_before_the_job_goes_on_and_the_record_has_the_same() {
    let (node, gates) = (node(), Gates::new());
    let _host = host(&node);
    let (first, second) = (gates.wait_at("first"), gates.wait_at("second"));
    let wire = node.wire();
    let job = submit(&wire, &format!("echo one; {first}; echo two; echo err >&2; {second}; echo three"));
    let mut out = wire.get(&logs(&job, "follow=true")).open();
    assert_eq!(out.status, 200);
    assert_eq!(out.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(out.header("x-skyclaw-log-offset"), Some("0"));
    assert_eq!(out.line(), "one\n");
    assert_eq!(status(&wire, &job), "leased");
    let mut err = wire.get(&logs(&job, "follow=true&stream=stderr")).open();
    gates.open("first");
    assert_eq!((out.line(), err.line()), ("two\n".into(), "err\n".into()));
    // Whoever comes later begins where they like; what there is now ends at once.
    let mut late = wire.get(&logs(&job, "follow=true&offset=4")).open();
    assert_eq!(late.header("x-skyclaw-log-offset"), Some("4"));
    assert_eq!(late.line(), "two\n");
    assert_eq!(wire.get(&logs(&job, "stream=both")).open().rest().len(), "one\ntwo\nerr\n".len());
    let piece = wire.get(&logs(&job, "format=json&offset=4")).ok();
    assert_eq!(
        (&piece["data"], &piece["nextOffset"], &piece["ended"]),
        (&json!("two\n"), &json!(8), &json!(false))
    );
    assert_eq!(
        (&piece["attempt"], &piece["status"], &piece["live"]),
        (&json!(1), &json!("leased"), &json!(true))
    );
    gates.open("second");
    assert_eq!((out.rest(), err.rest(), late.rest()), ("three\n".into(), String::new(), "three\n".into()));
    assert_eq!(wire.job(&job)["result"]["stdout"], "one\ntwo\nthree\n");
    // After its end from the record, in the same words.
    assert_eq!(wire.get(&logs(&job, "follow=true&offset=8")).open().rest(), "three\n");
    assert_eq!(wire.get(&logs(&job, "follow=true&stream=both")).open().rest(), "one\ntwo\nthree\nerr\n");
    let piece = wire.get(&logs(&job, "format=json&stream=stderr&offset=1")).ok();
    assert_eq!(
        (&piece["data"], &piece["ended"], &piece["offset"]),
        (&json!("rr\n"), &json!(true), &json!(1))
    );
    let beyond = wire.get(&logs(&job, "format=json&offset=99")).ok();
    assert_eq!(
        (&beyond["data"], &beyond["ended"], &beyond["offset"]),
        (&json!(""), &json!(true), &json!(99))
    );
}

#[test]
fn a_job_that_waits_is_followed_from_its_first_line_on() {
    let (node, gates) = (node(), Gates::new());
    let gate = gates.wait_at("gate");
    let wire = node.wire();
    let job = submit(&wire, &format!("echo one; {gate}; echo two"));
    assert_eq!(wire.get(&logs(&job, "")).open().rest(), "", "nothing yet, and no wait for it");
    let mut follower = wire.get(&logs(&job, "follow=true")).open();
    let mut lines = wire.get(&logs(&job, "follow=true&format=json")).open();
    let told = |line: String| serde_json_of(&line);
    assert_eq!(told(lines.line())["status"], "queued");
    let _host = host(&node);
    assert_eq!(follower.line(), "one\n");
    let mut piece = told(lines.line());
    while piece["data"] == "" {
        piece = told(lines.line());
    }
    assert_eq!(
        (&piece["data"], &piece["status"], &piece["attempt"]),
        (&json!("one\n"), &json!("leased"), &json!(1))
    );
    gates.open("gate");
    assert_eq!(follower.rest(), "two\n");
    let rest = lines.rest();
    let text: String =
        rest.lines().map(|line| serde_json_of(line)["data"].as_str().expect("a text").to_owned()).collect();
    assert_eq!(text, "two\n");
    assert!(rest.lines().last().is_some_and(|line| serde_json_of(line)["ended"] == true), "{rest}");
}

fn serde_json_of(line: &str) -> Value {
    line.parse().unwrap_or_else(|fault| panic!("{fault} in {line:?}"))
}

#[test]
fn characters_cut_anywhere_and_bytes_that_are_none_are_as_in_the_record() {
    let (node, gates) = (node(), Gates::new());
    let _host = host(&node);
    let (first, second) = (gates.wait_at("first"), gates.wait_at("second"));
    let wire = node.wire();
    let text = format!(
        "printf 'a|\\303'; {first}; printf '\\244\\000b|\\377c|\\342\\202'; {second}; printf '\\254|\\342\\202'"
    );
    let job = submit(&wire, &text);
    let mut out = wire.get(&logs(&job, "follow=true")).open();
    assert_eq!(out.until(b'|'), "a|");
    gates.open("first");
    assert_eq!((out.until(b'|'), out.until(b'|')), ("ä\0b|".into(), "\u{FFFD}c|".into()));
    gates.open("second");
    assert_eq!(out.rest(), "€|\u{FFFD}");
    assert_eq!(wire.job(&job)["result"]["stdout"], "a|ä\0b|\u{FFFD}c|€|\u{FFFD}");
    let within = wire.get(&logs(&job, "format=json&offset=3")).ok();
    assert_eq!((&within["offset"], &within["data"]), (&json!(2), &json!("ä\0b|\u{FFFD}c|€|\u{FFFD}")));
}

#[test]
fn a_flood_waits_for_who_reads_it_and_is_cut_where_the_record_is() {
    const MAX: usize = 300_000;
    let (node, gates) = (node(), Gates::new());
    let extra = [("SKYCLAW_MAX_OUTPUT_BYTES", "300000"), ("SKYCLAW_HEARTBEAT_MS", "25000")];
    let _host = Host::start(&node.url(), "h1", &extra);
    let gate = gates.wait_at("gate");
    let wire = node.wire();
    let job = submit(&wire, &format!("yes 0123456789abcdef | head -c 20000000; {gate}"));
    let mut slow = wire.get(&logs(&job, "follow=true")).open();
    let first = slow.line();
    // Another reads all that is kept while that one does not read.
    let mark = "\n[output truncated]\n";
    let kept = wait_until("all that is kept is there", LONG, || {
        let text = wire.get(&logs(&job, "")).open().rest();
        (text.len() == MAX - mark.len()).then_some(text)
    });
    assert_eq!(status(&wire, &job), "leased");
    gates.open("gate");
    let all = first + &slow.rest();
    assert_eq!(all, kept + mark);
    assert_eq!(wire.job(&job)["result"]["stdout"], *all);
}

#[test]
fn a_hundred_follow_one_job() {
    let (node, gates) = (node(), Gates::new());
    let _host = host(&node);
    let (first, second) = (gates.wait_at("first"), gates.wait_at("second"));
    let wire = node.wire();
    let job = submit(&wire, &format!("echo one; {first}; seq 1 20000; {second}; echo end"));
    let path = logs(&job, "follow=true");
    let followers: Vec<_> = (0..100)
        .map(|_| {
            let wire = node.wire();
            let path = path.clone();
            thread::spawn(move || {
                let mut follower = wire.get(&path).open();
                let line = follower.line();
                (line, follower)
            })
        })
        .collect();
    let followers: Vec<_> = followers.into_iter().map(|it| it.join().expect("it reads")).collect();
    let metrics = wire.get("/metrics").send().text;
    assert!(metrics.lines().any(|line| line == "skyclaw_logs_followers 100"), "{metrics}");
    gates.open("first");
    gates.open("second");
    let want = wait_until("the job has ended", LONG, || {
        wire.job(&job)["result"]["stdout"].as_str().map(str::to_owned)
    });
    for (line, follower) in followers {
        assert!(line + &follower.rest() == want, "each gets all of it");
    }
    wait_until("nobody follows any more", LONG, || {
        let metrics = wire.get("/metrics").send().text;
        metrics.lines().any(|line| line == "skyclaw_logs_followers 0").then_some(())
    });
}

#[test]
fn skyctl_shows_what_a_job_writes_as_it_writes_it() {
    let (node, gates) = (node(), Gates::new());
    let _host = host(&node);
    let gate = gates.wait_at("gate");
    let job = submit(&node.wire(), &format!("echo one; echo err >&2; {gate}; echo two"));
    runs(&node.wire(), &job);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let env = [("SKYCLAW_COORDINATOR_URL", node.url()), ("SKYCLAW_TOKEN", TOKEN.to_owned())];
    let mut follow = command("skyctl", dir.path(), env);
    follow.args(["job", "logs", "-f", &job]);
    let mut follow = Process::start("follow", dir.path(), follow);
    wait_until("it shows the first lines", LONG, || {
        (follow.stdout() == "one\n" && follow.stderr() == "err\n").then_some(())
    });
    let run = |words: &[&str]| skyctl(&node.url(), words).ok();
    assert_eq!(run(&["job", "logs", &job]), "one\n", "what there is now");
    gates.open("gate");
    assert!(follow.wait(LONG).success());
    assert_eq!(follow.stdout(), "one\ntwo\n");
    assert_eq!(run(&["job", "logs", &job, "--stream", "stdout", "--offset", "4"]), "two\n");
    assert_eq!(run(&["job", "logs", &job, "--stream", "stderr"]), "");
    skyctl(&node.url(), &["job", "logs", &job, "--offset", "4"]).ended(2);
    skyctl(&node.url(), &["job", "logs", "job_00000000-0000-7000-8000-000000000000"]).ended(3);
    let submitted = skyctl(&node.url(), &["job", "submit", "--follow", "--", "sh", "-c", "echo a; exit 9"]);
    assert_eq!(submitted.ended(9).stdout, "a\n");
}
