//! What a host does not run, and what it runs in Podman alone.

use skyclaw_tests::mesh::id;
use skyclaw_tests::podman::IMAGE;
use skyclaw_tests::{Host, LONG, Value, json, wait_until};

use super::{Place, ended};

super::with_both!(
    what_the_policy_does_not_allow_is_refused_by_the_name_of_its_field,
    what_a_host_forces_into_podman_runs_there_or_not_at_all,
    temporary_files_are_as_many_as_asked_for_up_to_what_the_host_says_it_has,
);

fn temporary_files_are_as_many_as_asked_for_up_to_what_the_host_says_it_has(place: &mut Place) {
    let node = Place::node(60_000);
    let most = 80 << 20;
    let setting = most.to_string();
    let mut host = place.host(&node, "h1", &[("SKYCLAW_PODMAN_MAX_TMPFS_BYTES", &setting)]);
    let told = node.wire().get("/v1/hosts/h1").ok();
    assert_eq!(
        told["host"]["enforces"]["inForce"]["podman.tmpfs"],
        format!("at most {most} bytes"),
        "{told}"
    );
    let with = |bytes: u64| {
        let mut body = place.script("df -k /tmp | tail -n 1 | awk '{ print $2 }'");
        body["resources"] = json!({"tmpfsBytes": bytes});
        ended(&node, &id(&node.wire().enqueue_with(&body)))
    };
    for bytes in [1 << 20, most] {
        let done = with(bytes);
        assert_eq!(done["result"]["stdout"], format!("{}\n", bytes / 1024), "{done}");
    }
    let done = with(most + 1);
    assert_eq!(done["error"], format!("resources.tmpfsBytes: must be at most {most} on this host"), "{done}");
    host.terminate();
}

fn what_the_policy_does_not_allow_is_refused_by_the_name_of_its_field(place: &mut Place) {
    let node = Place::node(60_000);
    let mut host = place.host(&node, "h1", &[]);
    let trap = place.shared().join("trap");
    type Break = fn(&mut Value);
    let cases: [(&str, Break); 6] = [
        ("image", |body| body["image"] = json!("localhost/other:latest")),
        ("image", |body| body["image"] = Value::Null),
        ("mounts", |body| body["mounts"][0] = json!({"source": "/etc", "target": "/etc2"})),
        ("mounts", |body| body["mounts"][0]["target"] = json!("/.skyclaw/x")),
        ("cwd", |body| body["payload"]["cwd"] = json!("here")),
        ("resources.tmpfsBytes", |body| body["resources"] = json!({"tmpfsBytes": (64 << 20) + 1})),
    ];
    for (field, spoil) in cases {
        let mut body = place.script("touch /shared/trap");
        spoil(&mut body);
        if body["image"].is_null() {
            body.as_object_mut().expect("an object").remove("image");
        }
        let done = ended(&node, &id(&node.wire().enqueue_with(&body)));
        assert_eq!((&done["status"], &done["result"]["exitCode"]), (&json!("failed"), &json!(126)), "{done}");
        let error = done["error"].as_str().expect("an error");
        assert!(error.starts_with(&format!("{field}: ")), "{field}: {error}");
    }
    assert!(!trap.exists(), "nothing of them ran");
    // A network that no host allows is not even given to one.
    let mut body = place.script("touch /shared/trap");
    body["network"] = json!("host");
    let waits = id(&node.wire().enqueue_with(&body));
    ended(&node, &place.submit(&node, "true"));
    assert_eq!(node.wire().job(&waits)["status"], "queued");
    host.terminate();
}

fn what_a_host_forces_into_podman_runs_there_or_not_at_all(place: &mut Place) {
    let node = Place::node(60_000);
    let extra = [
        ("SKYCLAW_CAPABILITIES", "shell,wallet"),
        ("SKYCLAW_PODMAN_DEFAULT_IMAGE", IMAGE),
        ("SKYCLAW_PODMAN_FORCED_CAPABILITIES", "wallet"),
        ("SKYCLAW_PODMAN_FORCED_LABELS", "trust=none"),
    ];
    let mut host = place.host(&node, "h1", &extra);
    let text = "[ -e /.skyclaw/run ] && echo contained || echo plain";
    let run = |command: &str, more: Value| {
        let payload = json!({"kind": "shell", "command": command, "args": ["-c", text]});
        let mut body = json!({"payload": payload});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        id(&node.wire().enqueue_with(&body))
    };
    let wallet = json!({"requirement": {"requiredCapabilities": ["wallet"]}});
    let labelled = json!({"labels": {"trust": "none"}});
    for (more, want) in [
        (json!({}), "plain\n"),
        (wallet.clone(), "contained\n"),
        (labelled.clone(), "contained\n"),
        (json!({"labels": {"trust": "none"}, "isolation": "process"}), "contained\n"),
    ] {
        let done = ended(&node, &run("sh", more));
        assert_eq!(done["result"]["stdout"], want, "{done}");
    }
    // What may be run as a process is what may be run in its place.
    let done = ended(&node, &run("ash", wallet.clone()));
    assert_eq!(
        (&done["result"]["exitCode"], &done["error"]),
        (&json!(126), &json!("command not allowed: ash"))
    );
    without_podman(place, &node, &mut host, |more| run("sh", more), &wallet, &labelled);
}

fn without_podman(
    place: &mut Place,
    node: &skyclaw_tests::Coordinator,
    host: &mut Host,
    run: impl Fn(Value) -> String,
    wallet: &Value,
    labelled: &Value,
) {
    place.service.kill();
    // One that is noticed by its failure, and given back.
    let first = run(labelled.clone());
    let capable = || {
        let told = node.wire().get("/v1/hosts/h1").ok();
        told["host"]["capabilities"].as_array().is_some_and(|all| all.contains(&json!("wallet")))
    };
    wait_until("the host offers no such work any more", LONG, || (!capable()).then_some(()));
    let second = run(wallet.clone());
    assert_eq!(node.wire().job(&second)["status"], "queued");
    place.service.serve();
    for job in [first, second] {
        let done = ended(node, &job);
        assert_eq!(done["result"]["stdout"], "contained\n", "{done}");
    }
    host.terminate();
}
