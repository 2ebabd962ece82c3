//! What somebody follows goes on, without a gap and nothing twice, whatever dies meanwhile.

use std::thread;

use skyclaw_client::{Client, Config};
use skyclaw_proto::logs::LogCursor;
use skyclaw_proto::{JobId, LogStream};
use skyclaw_tests::process::{Process, command};
use skyclaw_tests::{Cluster, Host, LONG, Options, TOKEN, wait_until};

use super::{Gates, logs, runs, submit};

/// Some lines, of which no two are the same.
fn lines(part: &str, count: usize) -> String {
    (1..=count).map(|line| format!("{part} {line}\n")).collect()
}

/// What a script says to write them.
fn write(part: &str, count: usize) -> String {
    format!("for i in $(seq 1 {count}); do echo {part} $i; done")
}

fn host(cluster: &Cluster) -> Host {
    let urls = cluster.urls().join(",");
    Host::start(&cluster.urls()[0], "h1", &[("SKYCLAW_COORDINATOR_URLS", urls.as_str())])
}

#[test]
fn a_stream_at_a_follower_goes_on_when_the_leader_is_killed() {
    let (mut cluster, gates) = (Cluster::start_with(3, long_leases), Gates::new());
    let _host = host(&cluster);
    let (first, second) = (gates.wait_at("first"), gates.wait_at("second"));
    let (leader, follower) = (cluster.leader(), cluster.follower());
    let wire = cluster.wire(follower);
    let text = format!("{}; {first}; {}; {second}; {}", write("a", 50), write("b", 50), write("c", 50));
    let job = submit(&wire, &text);
    let mut out = wire.get(&logs(&job, "follow=true&consistent=true")).open();
    let mut got: String = (0..50).map(|_| out.line()).collect();
    cluster.kill9(leader);
    gates.open("first");
    got.extend((0..50).map(|_| out.line()));
    gates.open("second");
    got.push_str(&out.rest());
    assert_eq!(got, lines("a", 50) + &lines("b", 50) + &lines("c", 50));
}

fn long_leases(options: Options) -> Options {
    options.env("SKYCLAW_LEASE_MS", "60000")
}

#[test]
fn a_client_goes_on_at_another_coordinator_when_its_own_is_killed() {
    let (mut cluster, gates) = (Cluster::start_with(3, long_leases), Gates::new());
    let _host = host(&cluster);
    let gate = gates.wait_at("gate");
    let leader = cluster.leader();
    let mut urls = cluster.urls();
    urls.swap(0, leader);
    let job = submit(&cluster.wire(leader), &format!("{}; {gate}; {}", write("a", 50), write("b", 50)));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let env = [("SKYCLAW_COORDINATOR_URLS", urls.join(",")), ("SKYCLAW_TOKEN", TOKEN.to_owned())];
    let mut follow = command("skyctl", dir.path(), env);
    follow.args(["job", "logs", "--follow", &job]);
    let mut follow = Process::start("follow", dir.path(), follow);
    wait_until("it shows the first lines", LONG, || (follow.stdout() == lines("a", 50)).then_some(()));
    cluster.kill9(leader);
    gates.open("gate");
    assert!(follow.wait(LONG).success(), "{}", follow.stderr());
    assert_eq!(follow.stdout(), lines("a", 50) + &lines("b", 50));
}

#[test]
fn a_stream_goes_on_when_the_hosts_daemon_is_killed_and_comes_back() {
    let node = long_leases(Options::default()).start();
    let gates = Gates::new();
    let mut host = Host::start(&node.url(), "h1", &[]);
    let (first, second) = (gates.wait_at("first"), gates.wait_at("second"));
    let wire = node.wire();
    let text = format!("{}; {first}; {}; {second}; {}", write("a", 50), write("b", 50), write("c", 50));
    let job = submit(&wire, &text);
    let mut out = wire.get(&logs(&job, "follow=true&consistent=true")).open();
    let mut got: String = (0..50).map(|_| out.line()).collect();
    host.kill9();
    // It writes on while nobody can tell of it.
    gates.open("first");
    host.restart();
    got.extend((0..50).map(|_| out.line()));
    gates.open("second");
    got.push_str(&out.rest());
    assert_eq!(got, lines("a", 50) + &lines("b", 50) + &lines("c", 50));
}

#[test]
fn a_coordinator_that_ends_breaks_its_streams_off_where_they_can_be_taken_up_again() {
    let (mut cluster, gates) = (Cluster::start_with(3, long_leases), Gates::new());
    let _host = host(&cluster);
    let gate = gates.wait_at("gate");
    let leader = cluster.leader();
    let job = submit(&cluster.wire(leader), &format!("echo one; {gate}; echo two"));
    runs(&cluster.wire(leader), &job);
    let mut out = cluster.wire(leader).get(&logs(&job, "follow=true&consistent=true")).open();
    assert_eq!(out.line(), "one\n");
    let rest = thread::spawn(move || std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| out.rest())));
    cluster.terminate(leader);
    assert!(rest.join().expect("it was read").is_err(), "no end that is none");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let client = Client::new(Config::new(cluster.urls(), Some(TOKEN.into()))).expect("a client");
    let mut cursor = LogCursor::new(&[LogStream::Stdout]);
    cursor.stdout = Some(4);
    let mut logs = client.job_logs(JobId::parse(&job).expect("an id"), cursor, true);
    gates.open("gate");
    let mut text = String::new();
    runtime.block_on(async {
        loop {
            let piece = logs.next().await.expect("a piece");
            text.push_str(&piece.data);
            if piece.ended {
                break;
            }
        }
    });
    assert_eq!(text, "two\n");
}
