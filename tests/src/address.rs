//! Loopback addresses that nobody else uses.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

/// An address in `127.0.0.0/8` that no other process of the tests has.
///
/// A daemon that is killed and started again wants its old port back. On `127.0.0.1` a client's
/// outgoing connection may hold it meanwhile, or even be connected to itself through it: clients of
/// another loopback address call from `127.0.0.1`, so that cannot happen.
pub(crate) fn unused() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mine = NEXT.fetch_add(1, Ordering::Relaxed) % (250 * 64);
    let process = std::process::id() % (250 * 4);
    let [second, third] = [1 + process % 250, mine / 250 * 4 + process / 250];
    Ipv4Addr::from((127 << 24) | (second << 16) | (third << 8) | (1 + mine % 250))
}
