//! Whose a key is, and which active job has which unique key.
//!
//! A public caller's keys are its own: it neither finds nor hinders anybody else's jobs. All who hold the token of
//! the mesh share theirs.
//!
//! Whoever submits a job with the unique key of one that has not ended is given that one. Two active jobs can have
//! one key when records of another mesh brought one in; the older one stands for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use skyclaw_proto::JobId;

/// What the submitter of a public caller's job begins with.
const PUBLIC: &str = "public:";

/// A key, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct OwnedKey {
    /// The public caller; `None` for everybody who holds the token of the mesh.
    caller: Option<Arc<str>>,
    key: Arc<str>,
}

impl OwnedKey {
    pub(crate) fn new(key: &Arc<str>, submitted_by: Option<&String>) -> Self {
        Self { caller: public_caller(submitted_by).map(Into::into), key: Arc::clone(key) }
    }
}

/// The public caller whose job it is, if it is one's.
pub(crate) fn public_caller(submitted_by: Option<&String>) -> Option<&str> {
    submitted_by.map(String::as_str).filter(|by| by.starts_with(PUBLIC))
}

/// The active jobs that have a unique key.
#[derive(Debug, Default)]
pub(crate) struct Unique {
    holders: HashMap<OwnedKey, BTreeMap<u64, JobId>>,
}

impl Unique {
    /// A job with this key is active.
    pub(crate) fn insert(&mut self, key: OwnedKey, seq: u64, job: &JobId) {
        self.holders.entry(key).or_default().insert(seq, job.clone());
    }

    /// It is no more.
    pub(crate) fn remove(&mut self, key: &OwnedKey, seq: u64) {
        let Some(holders) = self.holders.get_mut(key) else { return };
        holders.remove(&seq);
        if holders.is_empty() {
            self.holders.remove(key);
        }
    }

    /// The job that has this key.
    pub(crate) fn holder(&self, key: &OwnedKey) -> Option<&JobId> {
        self.holders.get(key)?.first_key_value().map(|(_, job)| job)
    }

    /// All that have one.
    #[cfg(test)]
    pub(crate) fn jobs(&self) -> impl Iterator<Item = &JobId> {
        self.holders.values().flat_map(BTreeMap::values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> JobId {
        JobId::parse(name).expect("an id")
    }

    fn key(key: &str, by: Option<&str>) -> OwnedKey {
        OwnedKey::new(&key.into(), by.map(str::to_owned).as_ref())
    }

    #[test]
    fn a_public_callers_keys_are_its_own_and_all_others_share_theirs() {
        assert_eq!(key("k", None), key("k", Some("ann")));
        assert_ne!(key("k", None), key("k", Some("public:ann")));
        assert_ne!(key("k", Some("public:bob")), key("k", Some("public:ann")));
        assert_ne!(key("k", None), key("l", None));
    }

    #[test]
    fn the_oldest_active_job_stands_for_a_key() {
        let mut unique = Unique::default();
        unique.insert(key("k", None), 7, &id("young"));
        unique.insert(key("k", None), 3, &id("old"));
        assert_eq!(unique.holder(&key("k", None)), Some(&id("old")));
        unique.remove(&key("k", None), 3);
        assert_eq!(unique.holder(&key("k", None)), Some(&id("young")));
        unique.remove(&key("k", None), 7);
        assert_eq!((unique.holder(&key("k", None)), unique.jobs().count()), (None, 0));
    }
}
