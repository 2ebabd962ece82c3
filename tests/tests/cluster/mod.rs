//! What several coordinators promise together: any of them takes any request, what was acknowledged
//! survives whatever happens to a few of them, and nothing is given out twice.

mod client;
mod faults;
mod forming;
mod ledger;
mod load;
mod membership;
mod succession;

use skyclaw_tests::{Value, Wire};

/// The whole state as a node has it, without what may differ: who says so, and when a host was last
/// heard of, which is known to the leader first.
fn state(wire: &Wire) -> Option<Value> {
    let reply = wire.get("/v1/state?consistent=true").try_send().ok()?;
    if reply.status != 200 {
        return None;
    }
    let mut state = reply.json();
    state.as_object_mut()?.remove("nodeId");
    for host in state["hosts"].as_array_mut()? {
        host.as_object_mut()?.remove("lastSeenAt");
    }
    Some(state)
}
