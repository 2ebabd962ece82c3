//! A daemon is killed between the steps by which a job's container is made and started: the job runs once, in
//! this container or in another.

use std::fs;
use std::time::Duration;

use skyclaw_tests::gate::{Gate, What};
use skyclaw_tests::json;
use skyclaw_tests::mesh::id;

use super::{Place, ended};

super::with_both!(
    a_job_whose_daemon_dies_while_its_container_is_made_is_handed_on_and_runs_once,
    a_job_whose_daemon_dies_as_its_container_is_started_is_taken_up_and_runs_once,
    a_job_whose_container_takes_longer_to_be_made_than_its_lease_would_last_runs_all_the_same,
);

/// Says so each time it is run.
const JOB: &str = "echo ran >> /shared/ran; echo out; exit 7";

fn a_job_whose_daemon_dies_while_its_container_is_made_is_handed_on_and_runs_once(place: &mut Place) {
    // No shim has it yet, so nobody knows of it any more: its lease must run out.
    let steps = [
        ("/containers/create", What::Request),
        ("/containers/create", What::Answer),
        ("/init", What::Answer),
    ];
    for step in steps {
        assert_eq!(killed_at(place, step, 3000), 2, "attempts, when killed at {step:?}");
    }
}

fn a_job_whose_daemon_dies_as_its_container_is_started_is_taken_up_and_runs_once(place: &mut Place) {
    // A shim has it: the lease lasts, and the next daemon goes on where the last was.
    for step in [("/start", What::Request), ("/start", What::Answer)] {
        assert_eq!(killed_at(place, step, 60_000), 1, "attempts, when killed at {step:?}");
    }
}

fn a_job_whose_container_takes_longer_to_be_made_than_its_lease_would_last_runs_all_the_same(
    place: &mut Place,
) {
    const LEASE_MS: u32 = 2000;
    let node = Place::node(LEASE_MS);
    let gate = Gate::new(&place.service.dir().join("gate"), place.service.socket());
    let socket = gate.path().display().to_string();
    let mut host = place.host(&node, "h1", &[("SKYCLAW_PODMAN_SOCKET", &socket)]);
    gate.hold("/init", What::Request);
    let mut body = place.script(JOB);
    body["onLost"] = json!("hold");
    let job = id(&node.wire().enqueue_with(&body));
    gate.wait_held();
    // Not to wait for anything: this is how long it takes.
    std::thread::sleep(2 * Duration::from_millis(LEASE_MS.into()));
    gate.let_go();
    let done = ended(&node, &job);
    assert_eq!((&done["attempts"], &done["result"]["exitCode"]), (&json!(1), &json!(7)), "{done}");
    assert_eq!(fs::read_to_string(place.shared().join("ran")).expect("it ran"), "ran\n");
    host.terminate();
}

/// Kills the daemon at a step, starts the next, and says how many attempts it took until the job was done, once.
fn killed_at(place: &mut Place, step: (&str, What), lease_ms: u32) -> u64 {
    let node = Place::node(lease_ms);
    let at =
        place.service.dir().join(format!("gate-{}", step.0.replace('/', "-")) + &format!("{:?}", step.1));
    let gate = Gate::new(&at, place.service.socket());
    let socket = gate.path().display().to_string();
    let mut host = place.host(&node, "h1", &[("SKYCLAW_PODMAN_SOCKET", &socket)]);
    gate.hold(step.0, step.1);
    let job = id(&node.wire().enqueue_with(&place.script(JOB)));
    gate.wait_held();
    host.restart();
    let done = ended(&node, &job);
    let result = &done["result"];
    assert_eq!((&result["exitCode"], &result["stdout"]), (&json!(7), &json!("out\n")), "{step:?}: {done}");
    let ran = place.shared().join("ran");
    assert_eq!(fs::read_to_string(&ran).expect("it ran"), "ran\n", "{step:?}: {done}");
    fs::remove_file(ran).expect("what it wrote");
    place.is_cleared();
    host.terminate();
    done["attempts"].as_u64().expect("attempts")
}
