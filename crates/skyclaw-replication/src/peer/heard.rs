//! When others were last heard of: by an answer, a request or gossip, all of which are sealed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::raft::RaftId;

/// Most nodes that are remembered. A node that lost its disk comes back under another number, so there can
/// be more than there ever were at once.
const MAX_NODES: usize = 1024;

/// When each node was last heard of. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<HashMap<RaftId, Instant>>>);

impl Heard {
    /// A node was heard of just now.
    pub(crate) fn note(&self, node: RaftId) {
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if nodes.len() >= MAX_NODES && !nodes.contains_key(&node) {
            let oldest = nodes.iter().min_by_key(|(_, at)| **at).map(|(node, _)| *node);
            oldest.map(|node| nodes.remove(&node));
        }
        nodes.insert(node, Instant::now());
    }

    /// How long ago that was; `None` when it never was.
    pub(crate) fn silent_for(&self, node: RaftId) -> Option<Duration> {
        let nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.get(&node).map(Instant::elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_heard_of_longest_ago_makes_room() {
        let heard = Heard::default();
        (0..=MAX_NODES as u64).for_each(|node| heard.note(node));
        assert_eq!(heard.silent_for(0), None);
        assert!(heard.silent_for(1).is_some() && heard.silent_for(MAX_NODES as u64).is_some());
    }
}
