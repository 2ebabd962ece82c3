//! Maps and sets by ids.
//!
//! An enqueue looks its id up in half a dozen of them. What is looked up are ids that coordinators make, or that
//! whoever holds the token of the mesh has chosen: nobody who would gain by ids that collide. So they are hashed
//! by what is quick, seeded anew in each process. The order of such a map decides nothing.

use std::collections::{HashMap, HashSet};

/// A map by ids.
pub type ById<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// A set of ids.
pub type Ids<K> = HashSet<K, foldhash::fast::RandomState>;
