//! What jobs in Podman write, followed while they run.

use std::fs;

use skyclaw_tests::{json, wait_until};

use super::Place;

super::with_both!(lines_of_a_container_arrive_before_it_goes_on_also_when_its_daemon_is_killed);

fn lines_of_a_container_arrive_before_it_goes_on_also_when_its_daemon_is_killed(place: &mut Place) {
    let node = Place::node(600_000);
    let mut host = place.host(&node, "h1", &[]);
    let wait = |at: &str| format!("until [ -e /shared/{at} ]; do sleep 0.02; done");
    let text = format!("echo one; {}; echo two; echo err >&2; {}; echo three", wait("first"), wait("second"));
    let job = place.submit(&node, &text);
    let wire = node.wire();
    let follow = |stream: &str| wire.get(&format!("/v1/jobs/{job}/logs?follow=true&stream={stream}")).open();
    let (mut out, mut err) = (follow("stdout"), follow("stderr"));
    assert_eq!(out.line(), "one\n");
    host.kill9();
    fs::write(place.shared().join("first"), "").expect("a file");
    host.restart();
    assert_eq!((out.line(), err.line()), ("two\n".into(), "err\n".into()));
    fs::write(place.shared().join("second"), "").expect("a file");
    assert_eq!((out.rest(), err.rest()), ("three\n".into(), String::new()));
    let done = wait_until("the job has ended", skyclaw_tests::LONG, || {
        Some(wire.job(&job)).filter(|job| job["status"] == "completed")
    });
    assert_eq!(done["result"]["stdout"], json!("one\ntwo\nthree\n"));
    place.is_cleared();
    host.terminate();
}
