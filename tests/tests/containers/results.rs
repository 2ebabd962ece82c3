//! What a job in Podman gives back.

use skyclaw_tests::ctl::skyctl;
use skyclaw_tests::mesh::id;
use skyclaw_tests::podman::IMAGE;
use skyclaw_tests::{LONG, json, wait_until};

use super::{Place, ended, exists, groups, kinds};

super::with_both!(
    a_job_in_podman_gives_back_what_it_did,
    what_a_job_is_given_reaches_its_container,
    memory_that_runs_out_is_told,
    jobs_of_an_image_that_is_run_often_find_a_container_made_ahead,
    a_host_says_what_it_can_enforce_in_podman,
);

fn a_job_in_podman_gives_back_what_it_did(place: &mut Place) {
    let node = Place::node(60_000);
    let mut host = place.host(&node, "h1", &[]);
    let job = place.submit(&node, "echo out; echo err >&2; [ -e /.skyclaw/run ] && exit 3");
    let done = ended(&node, &job);
    assert_eq!((&done["status"], &done["assignedHostId"]), (&json!("failed"), &json!("h1")), "{done}");
    let result = &done["result"];
    assert_eq!((&result["stdout"], &result["stderr"]), (&json!("out\n"), &json!("err\n")));
    assert_eq!((&result["exitCode"], &done["error"]), (&json!(3), &json!("exited with code 3")));
    let told = kinds(&node, &job);
    let of_run: Vec<_> = told.iter().map(String::as_str).collect();
    let want = ["submitted", "claimed", "image", "prepared", "limits", "started", "exited", "usage"];
    assert!(of_run.starts_with(&want), "{told:?}");
    let shown = skyctl(&node.url(), &["job", "get", &job]).ok();
    assert!(shown.contains(IMAGE) && shown.contains("made for this run"), "{shown}");
    let good = ended(&node, &place.submit(&node, "true"));
    assert_eq!((&good["status"], &good["result"]["exitCode"]), (&json!("completed"), &json!(0)));
    host.terminate();
}

fn what_a_job_is_given_reaches_its_container(place: &mut Place) {
    let node = Place::node(60_000);
    let mut host = place.host(&node, "h1", &[("SKYCLAW_MAX_OUTPUT_BYTES", "1000")]);
    let text = "echo $GIVEN $SKYCLAW_JOB_ID $SKYCLAW_ATTEMPT $SKYCLAW_FENCE in $PWD; id -u; \
                ls /sys/class/net | tr '\\n' ' '; touch /data/x 2>/dev/null || echo read-only; echo wrote > /shared/file";
    let mut body = place.script(text);
    body["payload"]["env"] = json!({"GIVEN": "hello", "SKYCLAW_FENCE": "made up"});
    body["payload"]["cwd"] = json!("/data");
    body["agentId"] = json!("bot");
    let job = id(&node.wire().enqueue_with(&body));
    let done = ended(&node, &job);
    let fence = done["fence"].as_u64().expect("a fence");
    let want = format!("hello {job} 1 {fence} in /data\n1000\nlo read-only\n");
    assert_eq!(done["result"]["stdout"], want, "{done}");
    assert_eq!(std::fs::read_to_string(place.shared().join("file")).expect("it wrote"), "wrote\n");
    let flood = ended(&node, &place.submit(&node, "head -c 3000000 /dev/zero | tr '\\0' x"));
    let stdout = flood["result"]["stdout"].as_str().expect("output");
    assert!(stdout.len() <= 1000 && stdout.contains("[output truncated]"), "{}", stdout.len());
    let mut slow = place.script("trap '' TERM; while :; do sleep 1000; done");
    slow["payload"]["timeoutMs"] = json!(500);
    let done = ended(&node, &id(&node.wire().enqueue_with(&slow)));
    assert_eq!((&done["status"], &done["error"]), (&json!("failed"), &json!("timed out after 500ms")));
    host.terminate();
}

fn memory_that_runs_out_is_told(place: &mut Place) {
    let node = Place::node(60_000);
    let mut body = place.script("head -c 200000000 /dev/zero | tail -c 190000000 > /dev/null");
    body["resources"] = json!({"memoryBytes": 32 << 20});
    if !place.is_bounded {
        let mut host = place.host(&node, "h1", &[]);
        let job = id(&node.wire().enqueue_with(&body));
        // Taken by nobody: a job that asks for nothing, and comes later, is done meanwhile.
        ended(&node, &place.submit(&node, "true"));
        assert_eq!(node.wire().job(&job)["status"], "queued");
        let told = node.wire().get("/v1/hosts/h1").ok();
        let why = told["host"]["enforces"]["unavailable"]["podman.memory"].as_str().map(str::to_owned);
        assert!(why.is_some_and(|why| why.contains("rootless")), "{told}");
        host.terminate();
        return;
    }
    // Its groups are named after it, and no other test's are.
    let mut host = place.host(&node, "hog", &[]);
    let mine = || groups().into_iter().filter(|path| path.to_string_lossy().contains("/skyclaw/hog%2e"));
    let sleeper = place.submit(&node, "touch /shared/begun; exec sleep 1000");
    exists(&place.shared().join("begun"));
    assert!(mine().count() > 0, "a run has control groups: {:?}", groups());
    node.wire().post(&format!("/v1/jobs/{sleeper}/cancel"), &json!({})).ok();
    ended(&node, &sleeper);
    let job = id(&node.wire().enqueue_with(&body));
    let done = ended(&node, &job);
    assert_eq!((&done["status"], &done["result"]["oom"]), (&json!("failed"), &json!(true)), "{done}");
    assert!(done["error"].as_str().is_some_and(|error| error.starts_with("out of memory")), "{done}");
    assert!(kinds(&node, &job).contains(&"oom".to_owned()));
    let peak = done["result"]["usage"]["peakMemoryBytes"].as_u64().expect("a peak");
    assert!((16 << 20..=33 << 20).contains(&peak), "{peak}");
    host.terminate();
    assert_eq!(mine().collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
}

fn jobs_of_an_image_that_is_run_often_find_a_container_made_ahead(place: &mut Place) {
    let node = Place::node(60_000);
    let mut host = place.host(&node, "h1", &[("SKYCLAW_PODMAN_PREPARED", "2")]);
    let found = wait_until("a container was made ahead", LONG, || {
        let job = place.submit(&node, "echo hi");
        assert_eq!(ended(&node, &job)["result"]["stdout"], "hi\n");
        let told = node.wire().get(&format!("/v1/jobs/{job}/events")).ok();
        let image = told["events"].as_array()?.iter().find(|event| event["kind"] == "image")?.clone();
        image["detail"].as_str()?.contains("made ahead").then_some(image)
    });
    assert!(found["detail"].as_str().is_some_and(|detail| detail.starts_with(IMAGE)), "{found}");
    host.terminate();
}

fn a_host_says_what_it_can_enforce_in_podman(place: &mut Place) {
    let node = Place::node(60_000);
    let extra = [("SKYCLAW_PODMAN_NETWORKS", "host,nowhere")];
    place.service.kill();
    // The service comes after its host: until then there is no Podman, and its host says so.
    let mut host = place.host(&node, "h1", &extra);
    let enforces = || node.wire().get("/v1/hosts/h1").ok()["host"]["enforces"].take();
    let why = enforces()["unavailable"]["podman"].as_str().map(str::to_owned).expect("a reason");
    assert!(why.contains("does not answer"), "{why}");
    let waits = place.submit(&node, "echo later");
    place.service.serve();
    assert_eq!(ended(&node, &waits)["result"]["stdout"], "later\n");
    let told = enforces();
    let can: Vec<_> = told["can"].as_array().into_iter().flatten().filter_map(|word| word.as_str()).collect();
    for word in ["process", "podman", "podman.tmpfs", "podman.network.host"] {
        assert!(can.contains(&word), "{word}: {told}");
    }
    for word in ["podman.memory", "podman.cpu", "podman.pids"] {
        assert_eq!(can.contains(&word), place.is_bounded, "{word}: {told}");
    }
    assert!(told["unavailable"]["podman.network.nowhere"].is_string(), "{told}");
    let shown = skyctl(&node.url(), &["host", "get", "h1"]).ok();
    assert!(shown.contains("podman.network.nowhere: "), "{shown}");
    host.terminate();
}
