//! Starts that must be refused: two daemons on one database, open doors, wrong settings.

use std::fs;

use skyclaw_tests::{Options, Value};

use super::jobs;

#[test]
fn a_second_daemon_on_the_same_database_is_refused_and_the_first_goes_on() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut first = Options::default().start_in(dir.path());
    let known = Value::Array(vec![first.wire().enqueue()]);
    let refused = Options::default().refused_in(dir.path());
    assert!(refused.said.contains("coordinator.db"), "{}", refused.said);
    assert_eq!(jobs(&first), known);
    assert!(first.process().ended().is_none());
    // A lock does not outlive its holder, however that ended.
    first.kill9();
    assert_eq!(jobs(&Options::default().start_in(dir.path())), known);
}

#[test]
fn without_a_token_only_loopback_is_served() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let open = |host: Option<&str>| {
        let options = Options::default().without("SKYCLAW_TOKEN").without("SKYCLAW_COORDINATOR_HOST");
        host.map_or(options.clone(), |host| options.env("SKYCLAW_COORDINATOR_HOST", host))
    };
    for host in [None, Some("0.0.0.0"), Some("::")] {
        let said = open(host).refused_in(dir.path()).said;
        assert!(said.contains("SKYCLAW_TOKEN"), "{host:?}: {said}");
    }
    assert!(fs::read_dir(dir.path()).expect("a directory").next().is_none(), "nothing was made");
    let _served = open(Some("127.0.0.1")).start_in(dir.path());
}

#[test]
fn a_wrong_setting_is_refused_and_named_with_what_is_allowed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (name, value) in [
        ("SKYCLAW_COORDINATOR_PORT", "http"),
        ("SKYCLAW_COORDINATOR_PORT", "70000"),
        ("SKYCLAW_LEASE_MS", "soon"),
        ("SKYCLAW_LEASE_MS", "-1"),
        ("SKYCLAW_LEASE_MS", "0"),
        ("SKYCLAW_MIN_REPLICATIONS", "many"),
        ("SKYCLAW_PEER_URLS", "not a url"),
        ("SKYCLAW_COORDINATOR_NODE_ID", "a b"),
        ("SKYCLAW_PEER_DISCOVERY", "perhaps"),
        ("SKYCLAW_PUBLIC_API_KEYS", "key:label:caps:nonsense"),
    ] {
        let said = Options::default().env(name, value).refused_in(dir.path()).said;
        assert!(said.contains(name), "{name}={value}: {said}");
        assert!(!said.contains("panicked"), "{name}={value}: {said}");
    }
}

#[test]
fn an_unknown_key_in_the_file_is_refused_and_the_nearest_is_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("skyclawd.toml");
    fs::write(&file, "lease_mss = 5\n").expect("a file");
    let refused = Options::default().arg("--config").arg(file.display().to_string()).refused_in(dir.path());
    for text in ["lease_mss", "lease_ms", "skyclawd.toml"] {
        assert!(refused.said.contains(text), "{text}: {}", refused.said);
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let first = Options::default().start();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let address = first.address();
    let refused = Options::default()
        .env("SKYCLAW_COORDINATOR_HOST", address.ip().to_string())
        .env("SKYCLAW_COORDINATOR_PORT", address.port().to_string())
        .refused_in(dir.path());
    assert!(refused.said.contains(&address.to_string()), "{}", refused.said);
}
