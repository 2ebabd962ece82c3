//! What is measured of the output that passes through.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What is measured of the output that passes through. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogMeters {
    followers: Gauge,
    taken: Counter,
    sent: Counter,
}

impl LogMeters {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let logs = registry.sub_registry_with_prefix("logs");
        let followers = "Requests that read the output of jobs here";
        logs.register("followers", followers, self.followers.clone());
        let taken = "Bytes of output that hosts have brought here because somebody follows it";
        logs.register("taken_bytes", taken, self.taken.clone());
        let sent = "Bytes of the output of jobs that were sent to who asked for it";
        logs.register("sent_bytes", sent, self.sent.clone());
    }

    /// Somebody reads, until what is returned is dropped.
    pub(crate) fn follow(&self) -> Follower {
        self.followers.inc();
        Follower(self.clone())
    }

    /// A host has brought so much.
    pub(crate) fn taken(&self, bytes: usize) {
        self.taken.inc_by(bytes as u64);
    }
}

/// Somebody who reads.
#[derive(Debug)]
pub(crate) struct Follower(LogMeters);

impl Follower {
    /// So much was sent.
    pub(crate) fn sent(&self, bytes: usize) {
        self.0.sent.inc_by(bytes as u64);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.followers.dec();
    }
}
