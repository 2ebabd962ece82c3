//! The one source of new ids. Version 7, so that ids sort by the time they were made.

use skyclaw_proto::{HostId, JobId, NodeId, ServiceId};
use uuid::Uuid;

/// A new UUID.
#[must_use]
pub fn uuid() -> Uuid {
    Uuid::now_v7()
}

/// A new id of a host.
#[must_use]
pub fn host() -> HostId {
    HostId::from_uuid(uuid())
}

/// A new id of a job.
#[must_use]
pub fn job() -> JobId {
    JobId::from_uuid(uuid())
}

/// A new id of a service.
#[must_use]
pub fn service() -> ServiceId {
    ServiceId::from_uuid(uuid())
}

/// A new id of a coordinator.
#[must_use]
pub fn node() -> NodeId {
    NodeId::from_uuid(uuid())
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_sort_by_the_order_they_were_made_in() {
        let made: Vec<_> = (0..100).map(|_| super::job()).collect();
        assert!(made.is_sorted());
    }
}
