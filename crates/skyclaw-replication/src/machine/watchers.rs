//! Requests that wait for something to change.

use std::collections::HashMap;
use std::hash::Hash;

use tokio::sync::oneshot;

/// Requests that wait, by what they wait for.
#[derive(Debug)]
pub(crate) struct Watchers<K> {
    waiting: HashMap<K, Vec<oneshot::Sender<()>>>,
}

impl<K> Default for Watchers<K> {
    fn default() -> Self {
        Self { waiting: HashMap::new() }
    }
}

impl<K: Eq + Hash> Watchers<K> {
    /// Lets a request wait.
    pub(crate) fn watch(&mut self, key: K) -> oneshot::Receiver<()> {
        let (wake, woken) = oneshot::channel();
        self.waiting.entry(key).or_default().push(wake);
        woken
    }

    /// Whether a request waits whose client is still there.
    pub(crate) fn is_watched(&self, key: &K) -> bool {
        self.waiting.get(key).is_some_and(|wakes| wakes.iter().any(|wake| !wake.is_closed()))
    }

    /// Wakes all that wait for one thing.
    pub(crate) fn wake(&mut self, key: &K) {
        if self.waiting.is_empty() {
            return;
        }
        for wake in self.waiting.remove(key).unwrap_or_default() {
            let _ = wake.send(());
        }
    }

    /// Wakes everyone.
    pub(crate) fn wake_all(&mut self) {
        for wake in std::mem::take(&mut self.waiting).into_values().flatten() {
            let _ = wake.send(());
        }
    }

    /// Forgets the requests whose clients are gone.
    pub(crate) fn sweep(&mut self) {
        self.waiting.retain(|_, wakes| {
            wakes.retain(|wake| !wake.is_closed());
            !wakes.is_empty()
        });
    }
}
