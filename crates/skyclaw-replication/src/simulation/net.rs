//! A network in memory that loses, delays, doubles and reorders, and whose ways can be cut one by one.
//!
//! A request and its answer travel by themselves: either can be lost. What is delayed is overtaken by what was
//! sent later. Every node is asked on its own runtime, so that it takes what it was doing with it when it dies.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::runtime::Handle;

use crate::{Answered, Node, Wire, WireError};

/// How well messages travel.
#[derive(Debug, Clone)]
pub(super) struct Weather {
    /// How likely a request, and an answer, is lost.
    pub(super) loss: f64,
    /// How likely a request arrives twice.
    pub(super) doubled: f64,
    /// How many milliseconds each takes.
    pub(super) delay_ms: Range<u64>,
}

impl Weather {
    pub(super) fn fair() -> Self {
        Self { loss: 0.0, doubled: 0.0, delay_ms: 0..1 }
    }
}

/// After so long a node notices that a connection is dead.
const NOTICED_AFTER: Duration = Duration::from_millis(2500);

struct State {
    nodes: BTreeMap<String, (Node, Handle)>,
    /// Ways that are cut, from and to.
    cut: BTreeSet<(String, String)>,
    weather: Weather,
    rng: StdRng,
}

/// The network.
pub(super) struct Net(Mutex<State>);

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Net")
    }
}

/// One node's way into the network.
#[derive(Debug)]
struct Port {
    net: Arc<Net>,
    url: String,
}

/// What becomes of one request.
struct Fate {
    node: Option<(Node, Handle)>,
    there: Duration,
    back: Duration,
    arrives: bool,
    comes_back: bool,
    doubled_after: Option<Duration>,
    /// How soon the sender notices when it is lost.
    noticed: Duration,
}

impl Net {
    pub(super) fn new(seed: u64) -> Arc<Self> {
        let (nodes, cut, rng) = (BTreeMap::new(), BTreeSet::new(), StdRng::seed_from_u64(seed));
        Arc::new(Self(Mutex::new(State { nodes, cut, weather: Weather::fair(), rng })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic")
    }

    pub(super) fn port(self: &Arc<Self>, url: &str) -> Arc<dyn Wire> {
        Arc::new(Port { net: Arc::clone(self), url: url.to_owned() })
    }

    pub(super) fn plug_in(&self, url: &str, node: Node, runtime: Handle) {
        self.lock().nodes.insert(url.to_owned(), (node, runtime));
    }

    pub(super) fn unplug(&self, url: &str) {
        self.lock().nodes.remove(url);
    }

    /// A node that runs, and where it does.
    pub(super) fn node(&self, url: &str) -> Option<(Node, Handle)> {
        self.lock().nodes.get(url).cloned()
    }

    pub(super) fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    /// Cuts or mends the way from one node to another.
    pub(super) fn set_cut(&self, from: &str, to: &str, cut: bool) {
        let way = (from.to_owned(), to.to_owned());
        if cut {
            self.lock().cut.insert(way)
        } else {
            self.lock().cut.remove(&way)
        };
    }

    pub(super) fn heal(&self) {
        let mut state = self.lock();
        state.cut.clear();
        state.weather = Weather::fair();
    }

    fn is_cut(&self, from: &str, to: &str) -> bool {
        self.lock().cut.contains(&(from.to_owned(), to.to_owned()))
    }

    fn fate(&self, from: &str, to: &str) -> Fate {
        let cut = self.is_cut(from, to);
        let mut state = self.lock();
        let node = state.nodes.get(to).cloned();
        let State { weather, rng, .. } = &mut *state;
        let delay = |rng: &mut StdRng| Duration::from_millis(rng.random_range(weather.delay_ms.clone()));
        let (there, back) = (delay(rng), delay(rng));
        let arrives = !cut && !rng.random_bool(weather.loss);
        let comes_back = !rng.random_bool(weather.loss);
        let doubled = rng.random_bool(weather.doubled);
        let doubled_after = doubled.then(|| delay(rng) + Duration::from_millis(rng.random_range(0..200)));
        // A reset is noticed at once, silence is not.
        let reset = rng.random_bool(0.5);
        let noticed = if reset { Duration::from_millis(rng.random_range(1..50)) } else { NOTICED_AFTER };
        Fate { node, there, back, arrives, comes_back, doubled_after, noticed }
    }
}

impl Port {
    async fn travel(&self, to: &str, body: Bytes, timeout: Duration) -> Result<Bytes, WireError> {
        let fate = self.net.fate(&self.url, to);
        tokio::time::sleep(fate.there).await;
        let Some((node, runtime)) = fate.node else { return Err(WireError::Unreachable(to.to_owned())) };
        if !fate.arrives {
            tokio::time::sleep(fate.noticed.min(timeout)).await;
            return Err(WireError::Lost(to.to_owned()));
        }
        if let Some(after) = fate.doubled_after {
            let (node, body) = (node.clone(), body.clone());
            runtime.spawn(async move {
                tokio::time::sleep(after).await;
                node.peer(&body).await
            });
        }
        let answer = runtime.spawn(async move { node.peer(&body).await }).await;
        tokio::time::sleep(fate.back).await;
        if !fate.comes_back || self.net.is_cut(to, &self.url) {
            tokio::time::sleep(fate.noticed.min(timeout)).await;
            return Err(WireError::Lost(to.to_owned()));
        }
        match answer {
            Ok(Some(answer)) => Ok(answer.into()),
            Ok(None) => Err(WireError::Unauthorized(to.to_owned())),
            Err(_) => Err(WireError::Lost(to.to_owned())),
        }
    }
}

impl Wire for Port {
    fn post(&self, url: &str, body: Bytes, timeout: Duration) -> Answered<'_> {
        let to = url.to_owned();
        Box::pin(async move {
            let travelled = tokio::time::timeout(timeout, self.travel(&to, body, timeout)).await;
            travelled.unwrap_or(Err(WireError::Lost(to)))
        })
    }
}
