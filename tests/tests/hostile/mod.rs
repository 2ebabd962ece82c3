//! Requests nobody should send: each is refused with a 4xx that names the fault, and the daemon goes
//! on as if nothing had been.

mod bodies;
mod heads;
mod places;
mod slow;

use std::time::Duration;

use skyclaw_tests::mesh::id;
use skyclaw_tests::raw::{Until, exchange};
use skyclaw_tests::{Coordinator, Options, TOKEN};

const PATIENCE: Duration = Duration::from_secs(20);

/// One request and what is allowed to come of it.
struct Case {
    name: String,
    bytes: Vec<u8>,
    until: Until,
    outcome: Outcome,
}

/// What is allowed to come of a request.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    /// One of these statuses, and an error that holds this text.
    Fault(&'static [u16], &'static str),
    /// This is no HTTP: a 4xx, with or without a sentence, or the end of the connection.
    NotHttp,
}

impl Case {
    /// A well-formed request with a token and this body.
    fn post(path: &str, body: impl AsRef<[u8]>, mention: &'static str) -> Self {
        Self::with_headers(path, "", body, Outcome::Fault(&[400], mention))
    }

    /// The same with further header lines.
    fn with_headers(path: &str, headers: &str, body: impl AsRef<[u8]>, outcome: Outcome) -> Self {
        let body = body.as_ref();
        let mut bytes = head("POST", path, &format!("content-length: {}\r\n{headers}", body.len()));
        bytes.extend_from_slice(body);
        let shown = String::from_utf8_lossy(body).chars().take(80).collect::<String>();
        let headers = headers.chars().take(80).collect::<String>();
        Self { name: format!("POST {path} {headers}{shown}"), bytes, until: Until::Answer, outcome }
    }

    /// Any bytes.
    fn raw(name: &str, bytes: Vec<u8>, until: Until, outcome: Outcome) -> Self {
        Self { name: name.to_owned(), bytes, until, outcome }
    }
}

fn head(method: &str, path: &str, headers: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nhost: a\r\nx-skyclaw-token: {TOKEN}\r\n{headers}\r\n").into_bytes()
}

/// What is wrong with the answer to a request, if anything is.
fn fault(node: &Coordinator, case: &Case) -> Option<String> {
    let answer = exchange(node.address(), &case.bytes, case.until, PATIENCE);
    let statuses = answer.statuses();
    let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
    let right = match case.outcome {
        Outcome::Fault(allowed, mention) => {
            matches!(statuses[..], [status] if allowed.contains(&status))
                && !error.is_empty()
                && error.to_lowercase().contains(&mention.to_lowercase())
        }
        Outcome::NotHttp => match statuses[..] {
            [] => answer.closed,
            [status] => (400..500).contains(&status),
            _ => false,
        },
    };
    let shown = String::from_utf8_lossy(&answer.bytes).chars().take(400).collect::<String>();
    let Case { name, outcome, .. } = case;
    (!right).then(|| format!("{name}\n    wanted {outcome:?}\n    got {statuses:?} {shown:?}"))
}

/// Sends every request, one after the other; after each the daemon must still be well.
fn assert_all_refused(cases: &[Case]) {
    // Quick to give up on what never comes, so that the connection always ends.
    let options =
        Options::default().env("SKYCLAW_IDLE_TIMEOUT_MS", "1000").env("SKYCLAW_BODY_TIMEOUT_MS", "1000");
    let mut node = options.start();
    let wire = node.wire();
    wire.host("h1", &["shell"], 4);
    wire.enqueue();
    let leased = id(&wire.claim("h1"));
    let pid = node.process().pid();
    let mut faults = Vec::new();
    for case in cases {
        faults.extend(fault(&node, case));
        let health = node.wire().get("/health").try_send();
        assert!(health.is_ok_and(|reply| reply.status == 200), "not well after {}", case.name);
    }
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), cases.len(), faults.join("\n"));
    assert_unharmed(&mut node, pid, &leased);
}

/// The same process goes on, nothing panicked, nothing was written, and a job can be run.
fn assert_unharmed(node: &mut Coordinator, pid: u32, leased: &str) {
    let wire = node.wire();
    let state = wire.get("/v1/state").ok();
    let count = |records: &str| state[records].as_array().map(Vec::len);
    let counts = (count("hosts"), count("jobs"), count("services"));
    assert_eq!(counts, (Some(1), Some(1), Some(0)), "a refused request was carried out: {state}");
    wire.completion(leased, "h1").ok();
    let job = id(&wire.enqueue());
    assert_eq!(id(&wire.claim("h1")), job);
    wire.completion(&job, "h1").ok();
    assert_eq!(node.process().pid(), pid);
    assert!(node.process().ended().is_none());
    let log = node.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn there_are_enough_hostile_requests() {
    let all = bodies::cases().len() + heads::cases().len() + places::cases().len();
    assert!(all >= 150, "{all}");
}
