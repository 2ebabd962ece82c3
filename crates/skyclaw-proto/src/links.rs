//! What ties a job to others: what it waits for, what it must not run beside, and what it is the same as.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{JobId, OnDependencyFailure};

/// What ties a job to others. Most jobs have none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Links {
    /// The jobs that must be completed first, each once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<JobId>,
    /// What becomes of it when one of those ends otherwise.
    #[serde(skip_serializing_if = "is_default")]
    pub on_dependency_failure: OnDependencyFailure,
    /// What it must not run beside too many of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// While a job with this key has not ended, there is no second one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unique_key: Option<Arc<str>>,
}

/// That at most so many jobs with a key run at once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Concurrency {
    /// The key.
    pub key: Arc<str>,
    /// This job begins only while fewer than this many with the key run, whatever those say themselves.
    pub limit: u32,
}

fn is_default(on_failure: &OnDependencyFailure) -> bool {
    *on_failure == OnDependencyFailure::default()
}

impl Links {
    /// These links if there are any: most jobs have none, and pay for none.
    #[must_use]
    pub fn kept(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }

    /// About how many bytes they take.
    #[must_use]
    pub fn approx_bytes(&self) -> usize {
        const FIXED: usize = 128;
        let jobs: usize = self.depends_on.iter().map(|id| id.as_str().len() + 16).sum();
        let keys = self.concurrency.as_ref().map(|concurrency| &concurrency.key);
        let keys = keys.into_iter().chain(&self.unique_key).map(|key| key.len());
        FIXED + jobs + keys.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_say_nothing_take_no_room() {
        assert_eq!(Links::default().kept(), None);
        assert_eq!(serde_json::to_string(&Links::default()).expect("json"), "{}");
        assert!(Links { unique_key: Some("k".into()), ..Links::default() }.kept().is_some());
    }

    #[test]
    fn links_come_back_as_they_were_written_down() {
        let links = Links {
            depends_on: vec![JobId::parse("a").expect("an id")],
            on_dependency_failure: OnDependencyFailure::Skip,
            concurrency: Some(Concurrency { key: "db".into(), limit: 3 }),
            unique_key: Some("nightly".into()),
        };
        let text = serde_json::to_string(&links).expect("json");
        assert_eq!(
            text,
            r#"{"dependsOn":["a"],"onDependencyFailure":"skip","concurrency":{"key":"db","limit":3},"uniqueKey":"nightly"}"#
        );
        assert_eq!(serde_json::from_str::<Links>(&text).expect("links"), links);
    }
}
