//! Which port a service is given.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};

/// The lowest port from `base` upward that is not `taken` and passes `is_free`.
pub(crate) fn choose(base: u16, taken: &BTreeSet<u16>, is_free: impl Fn(u16) -> bool) -> Option<u16> {
    (base..=u16::MAX).find(|port| !taken.contains(port) && is_free(*port))
}

/// Whether nobody on this machine listens there now.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_port_that_is_neither_taken_nor_busy_is_chosen() {
        let taken = BTreeSet::from([3100, 3102]);
        assert_eq!(choose(3100, &taken, |_| true), Some(3101));
        assert_eq!(choose(3100, &taken, |port| port != 3101), Some(3103));
        assert_eq!(choose(u16::MAX, &BTreeSet::from([u16::MAX]), |_| true), None);
    }

    #[test]
    fn a_port_somebody_listens_on_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        assert!(!is_free(listener.local_addr().expect("address").port()));
    }
}
