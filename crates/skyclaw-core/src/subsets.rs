//! Finds, among many capability sets, those that a given one may cover.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use skyclaw_proto::Capabilities;

/// An index of capability sets by one capability of each.
///
/// A set is filed under that of its capabilities under which fewest are filed, so a lookup passes by
/// what asks for something rare, however much there is of it.
#[derive(Debug)]
pub(crate) struct Subsets<K> {
    filed: HashMap<Arc<str>, BTreeSet<K>>,
    /// The sets without any capability.
    blank: BTreeSet<K>,
}

impl<K> Default for Subsets<K> {
    fn default() -> Self {
        Self { filed: HashMap::new(), blank: BTreeSet::new() }
    }
}

impl<K: Ord + Copy> Subsets<K> {
    /// Adds a set under a key that is not in use.
    pub(crate) fn insert(&mut self, key: K, set: &Capabilities) {
        match set.iter().min_by_key(|&capability| self.filed.get(capability).map_or(0, BTreeSet::len)) {
            Some(capability) => self.filed.entry(Arc::clone(capability)).or_default().insert(key),
            None => self.blank.insert(key),
        };
    }

    /// Takes out what was added with this key and set.
    pub(crate) fn remove(&mut self, key: K, set: &Capabilities) {
        self.blank.remove(&key);
        for capability in set.iter() {
            if let Some(keys) = self.filed.get_mut(capability) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.filed.remove(capability);
                }
            }
        }
    }

    /// The keys of all sets that `have` covers, and of some that it does not.
    pub(crate) fn candidates<'a>(&'a self, have: &'a Capabilities) -> impl Iterator<Item = K> + 'a {
        let filed = have.iter().filter_map(|capability| self.filed.get(capability)).flatten();
        self.blank.iter().chain(filed).copied()
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
        fn every_covered_set_is_found_once(
            all in prop::collection::vec(sets(), 0..20),
            gone in prop::collection::vec(any::<bool>(), 20),
            have in sets(),
        ) {
            let mut index = Subsets::default();
            for (key, set) in all.iter().enumerate() {
                index.insert(key, set);
            }
            let mut want = Vec::new();
            for (key, set) in all.iter().enumerate() {
                if gone[key] {
                    index.remove(key, set);
                } else if have.covers(set) {
                    want.push(key);
                }
            }
            let mut got: Vec<_> = index.candidates(&have).filter(|key| have.covers(&all[*key])).collect();
            got.sort_unstable();
            prop_assert_eq!(got, want);
            prop_assert!(index.candidates(&have).all(|key| !gone[key]));
        }
    }

    #[test]
    fn what_asks_for_something_rare_is_passed_by() {
        let mut index = Subsets::default();
        for key in 0..1000 {
            index.insert(key, &Capabilities::new(["common".to_owned(), format!("rare-{key}")]));
        }
        assert!(index.candidates(&Capabilities::new(["common"])).count() <= 1);
    }
}
