//! What is turned away, and who waits.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What bound a request met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shed {
    /// As many connections as may be.
    Connections,
    /// As many requests at once as may be.
    Work,
    /// As many requests wait as may.
    Parked,
    /// As many streams of events as may be.
    Streams,
}

impl EncodeLabelValue for Shed {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let text = match self {
            Self::Connections => "connections",
            Self::Work => "work",
            Self::Parked => "parked",
            Self::Streams => "streams",
        };
        text.encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShedLabels {
    bound: Shed,
}

/// Counts what is turned away, and who waits. Clones are the same counters.
#[derive(Debug, Clone, Default)]
pub struct Sheds {
    turned_away: Family<ShedLabels, Counter>,
    pub(super) parked: Gauge,
}

impl Sheds {
    /// Registers them, all told from the start, so that the first one can be seen to happen.
    pub(super) fn register(&self, http: &mut Registry) {
        for bound in [Shed::Connections, Shed::Work, Shed::Parked, Shed::Streams] {
            drop(self.turned_away.get_or_create(&ShedLabels { bound }));
        }
        http.register(
            "sheds",
            "Connections and requests turned away, by the bound they met",
            self.turned_away.clone(),
        );
        http.register("parked", "Requests that wait for something to happen", self.parked.clone());
    }

    /// One was turned away.
    pub fn count(&self, bound: Shed) {
        self.turned_away.get_or_create(&ShedLabels { bound }).inc();
    }

    /// One waits, until what is returned is dropped.
    pub(crate) fn park(&self) -> Counted {
        Counted::new(&self.parked)
    }
}

/// Counted in a gauge as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
