//! Machines that trust no certificates, as a container without `ca-certificates`.

use skyclaw_tests::Options;

fn without_certificates() -> Options {
    Options::default().env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent")
}

#[test]
fn a_coordinator_serves_where_there_are_none() {
    let node = without_certificates().start();
    let _ = node.wire().get("/readyz").send().ok();
}

#[test]
fn a_coordinator_with_a_peer_that_needs_them_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let refused =
        without_certificates().env("SKYCLAW_PEER_URLS", "https://127.0.0.1:1").refused_in(dir.path());
    for part in ["https://127.0.0.1:1", "CA certificates"] {
        assert!(refused.said.contains(part), "{part} is not in {}", refused.said);
    }
}
