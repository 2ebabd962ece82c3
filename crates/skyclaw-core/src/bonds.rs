//! What ties a job to others, and what has come of that.
//!
//! Few jobs have any; the others pay for none.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skyclaw_proto::{JobId, Links};

use crate::keys::OwnedKey;
use crate::lanes::Turn;
use crate::model::{Job, Phase};

/// What ties a job to others, and what has come of that.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Bonds {
    /// What was asked for.
    pub links: Arc<Links>,
    /// Those it depends on that are not known to be completed. One that is completed is taken out, once and for
    /// all: it may be forgotten after that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<JobId>,
}

impl Bonds {
    /// About how many bytes they take.
    #[must_use]
    pub fn approx_bytes(&self) -> usize {
        let waits: usize = self.waits_for.iter().map(|id| id.as_str().len() + 16).sum();
        self.links.approx_bytes() + waits
    }
}

impl Job {
    /// The jobs that must be completed before it can be claimed, and are not known to be.
    #[must_use]
    pub fn waits_for(&self) -> &[JobId] {
        self.bonds.as_ref().map_or(&[], |bonds| &bonds.waits_for)
    }

    /// What ties it to other jobs.
    #[must_use]
    pub fn links(&self) -> Option<&Links> {
        self.bonds.as_ref().map(|bonds| &*bonds.links)
    }

    /// Whether it counts as running where only so many may: what is lost may run still.
    pub(crate) fn may_run(&self) -> bool {
        matches!(self.phase, Phase::Leased(_) | Phase::Lost(_))
    }

    /// What its turn depends on, if it has a concurrency key.
    pub(crate) fn turn(&self) -> Option<Turn> {
        let concurrency = self.links()?.concurrency.as_ref()?;
        let key = OwnedKey::new(&concurrency.key, self.submitted_by.as_ref());
        Some(Turn { key, limit: concurrency.limit.max(1) })
    }

    /// Its unique key, if it has one.
    pub(crate) fn unique_key(&self) -> Option<OwnedKey> {
        let key = self.links()?.unique_key.as_ref()?;
        Some(OwnedKey::new(key, self.submitted_by.as_ref()))
    }
}
