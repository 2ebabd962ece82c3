//! Finds, among many capability sets, those that cover a given one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use skyclaw_proto::Capabilities;

/// An index of capability sets by what is in them.
///
/// A lookup looks only at the sets that have the rarest of the capabilities asked for, so a
/// requirement that few can meet costs little however many sets there are.
#[derive(Debug)]
pub struct Supersets<K> {
    sets: BTreeMap<K, Capabilities>,
    holders: HashMap<Arc<str>, BTreeSet<K>>,
}

impl<K> Default for Supersets<K> {
    fn default() -> Self {
        Self { sets: BTreeMap::new(), holders: HashMap::new() }
    }
}

impl<K: Ord + Copy> Supersets<K> {
    /// Adds a set under a key that is not in use.
    pub fn insert(&mut self, key: K, set: Capabilities) {
        for capability in set.iter() {
            self.holders.entry(Arc::clone(capability)).or_default().insert(key);
        }
        let replaced = self.sets.insert(key, set);
        debug_assert!(replaced.is_none(), "a key stands for one set");
    }

    /// Takes a set out.
    pub fn remove(&mut self, key: K) {
        let Some(set) = self.sets.remove(&key) else { return };
        for capability in set.iter() {
            if let Some(holders) = self.holders.get_mut(capability) {
                holders.remove(&key);
                if holders.is_empty() {
                    self.holders.remove(capability);
                }
            }
        }
    }

    /// The keys of all sets that cover `required`, in the order of the keys.
    pub fn covering<'a>(&'a self, required: &'a Capabilities) -> impl Iterator<Item = K> + 'a {
        let rarest = required.iter().map(|c| self.holders.get(c)).min_by_key(|h| h.map_or(0, BTreeSet::len));
        let (some, all) = match rarest {
            Some(holders) => (holders, None),
            None => (None, Some(self.sets.keys())),
        };
        let candidates = some.into_iter().flatten().chain(all.into_iter().flatten());
        candidates.copied().filter(move |key| self.sets.get(key).is_some_and(|set| set.covers(required)))
    }

    /// All sets, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = &Capabilities> {
        self.sets.values()
    }

    /// Whether any set has this capability.
    pub fn mentions(&self, capability: &str) -> bool {
        self.holders.contains_key(capability)
    }

    /// How many sets there are.
    pub fn len(&self) -> usize {
        self.sets.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sets() -> impl Strategy<Value = Capabilities> {
        prop::collection::vec("[a-f]", 0..5).prop_map(Capabilities::new)
    }

    proptest! {
        #[test]
        fn exactly_the_covering_sets_are_found(
            all in prop::collection::vec(sets(), 0..20),
            gone in prop::collection::vec(any::<bool>(), 20),
            required in sets(),
        ) {
            let mut index = Supersets::default();
            for (key, set) in all.iter().enumerate() {
                index.insert(key, set.clone());
            }
            let mut want = Vec::new();
            for (key, set) in all.iter().enumerate() {
                if gone[key] {
                    index.remove(key);
                } else if set.covers(&required) {
                    want.push(key);
                }
            }
            prop_assert_eq!(index.covering(&required).collect::<Vec<_>>(), want);
        }
    }
}
