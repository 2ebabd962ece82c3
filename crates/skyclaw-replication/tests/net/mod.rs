//! A network in memory, that can be cut.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use skyclaw_replication::{Answered, Node, Wire, WireError};

/// Who is reached under which URL, and which ways are cut.
#[derive(Default)]
pub(crate) struct Net {
    nodes: Mutex<BTreeMap<String, Node>>,
    cut: Mutex<BTreeSet<(String, String)>>,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Net")
    }
}

/// One node's way into the network.
#[derive(Debug)]
pub(crate) struct Port {
    net: Arc<Net>,
    url: String,
}

impl Net {
    pub(crate) fn port(self: &Arc<Self>, url: &str) -> Arc<dyn Wire> {
        Arc::new(Port { net: Arc::clone(self), url: url.to_owned() })
    }

    pub(crate) fn plug_in(&self, url: &str, node: Node) {
        lock(&self.nodes).insert(url.to_owned(), node);
    }

    pub(crate) fn unplug(&self, url: &str) {
        lock(&self.nodes).remove(url);
    }

    /// Cuts both ways between a node and all others.
    pub(crate) fn isolate(&self, url: &str, all: &[&str]) {
        let mut cut = lock(&self.cut);
        for other in all.iter().filter(|other| **other != url) {
            cut.insert((url.to_owned(), (*other).to_owned()));
            cut.insert(((*other).to_owned(), url.to_owned()));
        }
    }

    pub(crate) fn heal(&self) {
        lock(&self.cut).clear();
    }

    fn is_cut(&self, from: &str, to: &str) -> bool {
        lock(&self.cut).contains(&(from.to_owned(), to.to_owned()))
    }
}

impl Wire for Port {
    fn post(&self, url: &str, body: Bytes, timeout: Duration) -> Answered<'_> {
        let to = url.to_owned();
        Box::pin(async move {
            let node = lock(&self.net.nodes).get(&to).cloned();
            let Some(node) = node.filter(|_| !self.net.is_cut(&self.url, &to)) else {
                return Err(WireError::Unreachable(to));
            };
            let answer = tokio::time::timeout(timeout, node.peer(&body)).await;
            if self.net.is_cut(&to, &self.url) {
                return Err(WireError::Lost(to));
            }
            match answer {
                Ok(Some(answer)) => Ok(answer.into()),
                Ok(None) => Err(WireError::Unauthorized(to)),
                Err(_) => Err(WireError::Lost(to)),
            }
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
