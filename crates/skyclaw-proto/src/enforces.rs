//! What a host can enforce of what jobs ask for.
//!
//! A word names one thing: `process` and `podman` are the kinds of isolation, `process.memory` a limit
//! within one (`cpu`, `memory`, `pids`, `tmpfs`), `podman.network.host` a network. A job without an
//! isolation is run as a process. The scheduler gives a job only to hosts that say all words
//! [it needs](crate::Terms::needs).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a host says about what it can enforce. A host that says nothing of it runs processes, and bounds
/// nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Enforces {
    /// What it enforces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub can: Vec<String>,
    /// What it cannot enforce and accepts all the same, as its operator allows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub best_effort: Vec<String>,
    /// What is not available, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unavailable: BTreeMap<String, String>,
    /// What else binds runs, and what there is to say of it, which may be nothing. For people alone: no job
    /// is given by it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub in_force: BTreeMap<String, String>,
}

impl Enforces {
    /// The words a job may need of this host.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.can.iter().chain(&self.best_effort).map(String::as_str)
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn approx_bytes(&self) -> usize {
        let said = self.unavailable.iter().chain(&self.in_force);
        let reasons: usize = said.map(|(word, text)| word.len() + text.len() + 8).sum();
        self.words().map(|word| word.len() + 8).sum::<usize>() + reasons
    }
}
