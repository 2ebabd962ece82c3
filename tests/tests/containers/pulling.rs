//! Images that are not on a host: fetched where its operator allows it, by a name or by what they are.

use skyclaw_tests::mesh::id;
use skyclaw_tests::podman::IMAGE;
use skyclaw_tests::registry::Registry;
use skyclaw_tests::{Coordinator, Value, json};

use super::{Place, ended};

super::with_both!(an_image_is_fetched_only_where_the_policy_allows_it_and_only_if_it_is_what_it_is_called_by,);

/// What the images of a registry may be asked for by.
struct Store {
    by_tag: String,
    unlisted: String,
    by_digest: String,
    absent: String,
    tampered: String,
    _registry: Registry,
}

/// A registry that the service knows, with images in it that are not on the host.
fn store(place: &mut Place) -> Store {
    let registry = Registry::start();
    let at = registry.address().to_owned();
    place.service.kill();
    place.service.may_pull_from(&[&at]);
    place.service.serve();
    let archive = place.service.dir().join("image.tar").display().to_string();
    let push = |name: &str| {
        let change = format!("ENV=NAME={name}");
        let image = format!("localhost/{name}:latest");
        place.service.podman_ok(&["import", "--quiet", "--change", &change, &archive, &image]);
        let digest = registry.push(&place.service, &image, &format!("{name}:1"));
        place.service.podman_ok(&["rmi", "--force", &image]);
        digest
    };
    let [_, plain, bad] = ["tool", "plain", "bad"].map(push);
    registry.tamper(&bad);
    Store {
        by_tag: format!("{at}/tool:1"),
        unlisted: format!("{at}/plain:1"),
        by_digest: format!("{at}/plain@{plain}"),
        absent: format!("{at}/plain@sha256:{}", "0".repeat(64)),
        tampered: format!("{at}/bad@{bad}"),
        _registry: registry,
    }
}

fn run(place: &Place, node: &Coordinator, image: &str) -> Value {
    let mut body = place.script("echo is $NAME");
    body["image"] = json!(image);
    ended(node, &id(&node.wire().enqueue_with(&body)))
}

#[track_caller]
fn assert_refused(done: &Value, beginning: &str) {
    assert_eq!((&done["status"], &done["result"]["exitCode"]), (&json!("failed"), &json!(126)), "{done}");
    let error = done["error"].as_str().expect("an error");
    assert!(error.starts_with(beginning), "{error}");
}

fn an_image_is_fetched_only_where_the_policy_allows_it_and_only_if_it_is_what_it_is_called_by(
    place: &mut Place,
) {
    let store = store(place);
    let node = Place::node(60_000);
    let listed = [IMAGE, &store.by_tag, &store.by_digest, &store.absent, &store.tampered].join(",");
    let mut strict = place.host(&node, "h1", &[("SKYCLAW_PODMAN_IMAGES", &listed)]);
    for image in [&store.by_tag, &store.by_digest] {
        let why = format!("image: {image} is not on this host, and this host does not fetch images");
        assert_refused(&run(place, &node, image), &why);
    }
    strict.terminate();
    let lax = [("SKYCLAW_PODMAN_IMAGES", listed.as_str()), ("SKYCLAW_PODMAN_PULL", "1")];
    let mut lax = place.host(&node, "h2", &lax);
    // What is not on the list is not fetched either, though what it is is allowed by another name.
    let why = format!("image: {} is not on this host's list", store.unlisted);
    assert_refused(&run(place, &node, &store.unlisted), &why);
    for (image, name) in [(&store.by_tag, "tool"), (&store.by_digest, "plain")] {
        let done = run(place, &node, image);
        assert_eq!(done["result"]["stdout"], format!("is {name}\n"), "{done}");
    }
    for image in [&store.absent, &store.tampered] {
        assert_refused(&run(place, &node, image), &format!("Podman could not fetch {image}"));
    }
    let there = place.service.podman_ok(&["images", "--format", "{{.Repository}}"]);
    assert!(!there.contains("/bad"), "{there}");
    lax.terminate();
}
