//! Runs that take all they can get, through real daemons: each is bounded as its job says, is told of as what it
//! was, and neither the machine nor the daemon is left with anything of it.

use std::path::Path;
use std::time::Duration;

use skyclaw_tests::mesh::id;
use skyclaw_tests::{Host, LONG, Options, Value, json, process, wait_until};

use super::witness::{self, Kind};

const ROUNDS: usize = 8;
/// A daemon that kept what these runs wrote would have grown by more, in KiB.
const GROWTH_KIB: u64 = 8192;
const OUTPUT: usize = 131_072;

/// A run, and how it must end: its status, and how its error begins.
struct Hog {
    body: Value,
    ends: (&'static str, Option<&'static str>),
}

fn sh(script: &str, timeout_ms: u64, resources: &Value, ends: (&'static str, Option<&'static str>)) -> Hog {
    let payload = json!({"kind": "shell", "command": "sh", "args": ["-c", script], "timeoutMs": timeout_ms});
    Hog { body: json!({"payload": payload, "resources": resources}), ends }
}

fn hogs(dir: &Path, mark: &str, round: usize) -> Vec<Hog> {
    let witness = |kind: Kind, how_long: Duration, timeout_ms: u64, ends| {
        let file = dir.join(format!("{round}-{kind:?}"));
        let mut payload = witness::payload(&file, how_long, kind, mark);
        payload["timeoutMs"] = json!(timeout_ms);
        Hog { body: json!({"payload": payload}), ends }
    };
    let failed = |text| ("failed", Some(text));
    // Not this shell itself: one that cannot fork ends.
    let bomb = format!(": {mark}; b() {{ b | b & }}; (b) 2> /dev/null & while :; do :; done");
    let nothing = json!({});
    let talk = "head -c 200000 /dev/zero | tr '\\0' x; head -c 200000 /dev/zero | tr '\\0' y >&2";
    let talkers = (0..8).map(|_| sh(talk, 60_000, &nothing, ("completed", None)));
    let hogs = vec![
        sh(&bomb, 700, &json!({"pids": 64}), failed("timed out after 700ms")),
        sh(
            "head -c 300000000 /dev/zero | tail",
            60_000,
            &json!({"memoryBytes": 67_108_864}),
            failed("out of memory"),
        ),
        sh(
            "head -c 268435456 /dev/zero | tr '\\0' x; head -c 268435456 /dev/zero >&2",
            60_000,
            &nothing,
            ("completed", None),
        ),
        witness(Kind::Daemon, Duration::from_millis(200), 60_000, ("completed", None)),
        witness(Kind::Stubborn, LONG * 10, 500, failed("timed out after 500ms")),
        sh(
            "i=0; while [ $i -lt 200 ]; do echo > file-$i; i=$((i+1)); done; chmod 0 .",
            60_000,
            &nothing,
            ("completed", None),
        ),
    ];
    hogs.into_iter().chain(talkers).collect()
}

#[test]
fn runs_that_take_all_they_can_are_told_of_as_what_they_were_and_nothing_of_them_is_left() {
    let node = Options::default().env("SKYCLAW_LEASE_MS", "60000").start();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let allowed = format!("sh,{}", witness::program());
    let extra = [("SKYCLAW_ALLOWED_COMMANDS", allowed.as_str()), ("SKYCLAW_MAX_PARALLEL", "6")];
    let mut host = Host::start(&node.url(), "h1", &extra);
    let mark = format!("hog-{}", dir.path().display());
    let mut resident = Vec::new();
    for round in 0..ROUNDS {
        let hogs = hogs(dir.path(), &mark, round);
        let jobs: Vec<String> = hogs.iter().map(|hog| id(&node.wire().enqueue_with(&hog.body))).collect();
        for (job, hog) in jobs.iter().zip(&hogs) {
            let record = wait_until("the job has ended", LONG, || {
                Some(node.wire().job(job))
                    .filter(|job| !matches!(job["status"].as_str(), Some("queued" | "leased")))
            });
            let (status, error) = hog.ends;
            assert_eq!(record["status"], status, "{record}");
            let said = record["error"].as_str();
            assert!(error.is_none_or(|error| said.is_some_and(|said| said.starts_with(error))), "{record}");
            for stream in ["stdout", "stderr"] {
                assert!(
                    record["result"][stream].as_str().is_none_or(|text| text.len() <= OUTPUT),
                    "{stream}"
                );
            }
        }
        wait_until("nothing is left of any run", LONG, || host.left(&[&mark]).is_empty().then_some(()));
        resident.extend(process::resident_kib(host.process().pid()));
    }
    let mean = |of: &[u64]| of.iter().sum::<u64>() / of.len() as u64;
    // The first round is that in which it takes what it keeps for ever.
    let (first, last) = (mean(&resident[1..3]), mean(&resident[ROUNDS - 2..]));
    println!("the daemon had {first} KiB after the first rounds and {last} KiB after the last: {resident:?}");
    assert!(last <= first + GROWTH_KIB, "from {first} to {last} KiB: {resident:?}");
}
