//! What jobs in containers can reach: nothing, or what the operator of their host lets them ask for.

use std::net::TcpListener;

use skyclaw_tests::mesh::id;
use skyclaw_tests::{Coordinator, LONG, json, wait_until};

use super::{Place, ended};

super::with_both!(a_job_reaches_a_network_only_where_its_host_allows_it_by_name);

fn submit(place: &Place, node: &Coordinator, network: &str, text: &str) -> String {
    let mut body = place.script(text);
    body["network"] = json!(network);
    id(&node.wire().enqueue_with(&body))
}

fn a_job_reaches_a_network_only_where_its_host_allows_it_by_name(place: &mut Place) {
    const INTERFACES: &str = "ls /sys/class/net | sort | tr '\\n' ' '";
    // Bridges are the machine's.
    let name = format!("lan{}", std::process::id());
    let other = format!("{name}-other");
    for name in [&name, &other] {
        place.service.podman_ok(&["network", "create", "--internal", "--disable-dns", name]);
    }
    let node = Place::node(60_000);
    let mut closed = place.host(&node, "closed", &[]);
    let waits = submit(place, &node, &name, INTERFACES);
    // It is given to no host that does not allow it: what comes later, and asks for nothing, is done meanwhile.
    let inside = ended(&node, &submit(place, &node, "none", INTERFACES));
    assert_eq!(inside["result"]["stdout"], "lo ", "{inside}");
    assert_eq!(node.wire().job(&waits)["status"], "queued");
    closed.terminate();
    let allowed = format!("host,{name},nowhere");
    let mut open = place.host(&node, "open", &[("SKYCLAW_PODMAN_NETWORKS", &allowed)]);
    let told = node.wire().get("/v1/hosts/open").ok();
    assert!(told["host"]["enforces"]["unavailable"]["podman.network.nowhere"].is_string(), "{told}");
    let done = ended(&node, &waits);
    assert_eq!(done["result"]["stdout"], "eth0 lo ", "{done}");
    // The host's own: what listens there, on its loopback address, is reached.
    let server = TcpListener::bind("127.0.0.1:0").expect("a port of the host");
    let port = server.local_addr().expect("its address").port();
    let text = format!("nc -w 5 127.0.0.1 {port} < /dev/null && echo reached");
    let reach = submit(place, &node, "host", &text);
    server.set_nonblocking(true).expect("a listener that does not wait");
    wait_until("it is asked", LONG, || server.accept().ok());
    let done = ended(&node, &reach);
    assert_eq!(done["result"]["stdout"], "reached\n", "{done}");
    // One that is there, and not allowed, is as good as none.
    let refused = submit(place, &node, &other, INTERFACES);
    ended(&node, &submit(place, &node, "none", "true"));
    assert_eq!(node.wire().job(&refused)["status"], "queued");
    node.wire().post(&format!("/v1/jobs/{refused}/cancel"), &json!({})).ok();
    open.terminate();
    for name in [&name, &other] {
        place.service.podman_ok(&["network", "rm", "--force", name]);
    }
}
