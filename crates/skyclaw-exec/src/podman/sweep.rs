//! Clears away what this host made and knows nothing of any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;

use super::container::{HOST_LABEL, RUN_LABEL};
use super::driver::{Inner, PREFIX, blocking};
use super::enforcement::Holder;
use super::http::escaped;
use super::{Error, Identity};
use crate::cgroup::Group;

/// A run of which there is a record on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name, by which it is adopted.
    pub run: String,
    /// The container's id.
    pub container: String,
    /// Whose it is.
    pub identity: Identity,
    /// The agent it belongs to.
    pub agent: Option<String>,
}

/// What a sweep has cleared away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Runs whose container was killed and removed.
    pub containers: Vec<String>,
    /// Runs of which only folders were left.
    pub folders: Vec<String>,
    /// Runs of which only a control group was left.
    pub groups: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    labels: Option<BTreeMap<String, String>>,
}

pub(crate) async fn sweep(inner: &Arc<Inner>, known: &BTreeSet<String>) -> Result<Swept, Error> {
    // What is found first and claimed later is claimed by then: a claim comes before all that is found.
    let containers = listed(inner).await?;
    let (folders, groups) = left(inner).await?;
    let unknown = |run: &String| !known.contains(run) && !inner.is_claimed(run);
    let groups_of = |run: &str| groups.get(run).cloned().unwrap_or_default();
    let mut swept = Swept::default();
    // One that cannot be removed is no reason to leave the others.
    let mut fault = Ok(());
    for (container, run) in &containers {
        if unknown(run) {
            let removed = inner.remove(container, run, groups_of(run)).await;
            swept.containers.extend(removed.is_ok().then(|| run.clone()));
            fault = fault.and(removed);
        }
    }
    let of_containers: BTreeSet<_> = containers.iter().map(|(_, run)| run).collect();
    for run in folders.iter().filter(|run| !of_containers.contains(run) && unknown(run)) {
        let removed = inner.remove("", run, groups_of(run)).await;
        swept.folders.extend(removed.is_ok().then(|| run.clone()));
        fault = fault.and(removed);
    }
    let done = |run: &String| of_containers.contains(run) || folders.contains(run);
    for (run, groups) in groups.iter().filter(|(run, _)| !done(run) && unknown(run)) {
        let removed = inner.remove("", run, groups.clone()).await;
        swept.groups.extend(removed.is_ok().then(|| run.clone()));
        fault = fault.and(removed);
    }
    fault.map(|()| swept)
}

/// Containers of this host, with their runs.
async fn listed(inner: &Arc<Inner>) -> Result<Vec<(String, String)>, Error> {
    let owner = &inner.config.owner;
    let filters = serde_json::json!({"label": [format!("{HOST_LABEL}={owner}")]}).to_string();
    let path = format!("/containers/json?all=true&filters={}", escaped(&filters));
    // A service without containers says `null`.
    let all: Option<Vec<Listed>> = inner.http.get("list containers", &path).await?;
    let mine = all.unwrap_or_default().into_iter().filter_map(|one| {
        let labels = one.labels?;
        // The service takes a pattern where a name is meant.
        let mine = labels.get(HOST_LABEL) == Some(owner);
        let run = labels.get(RUN_LABEL).filter(|run| is_run(run))?;
        mine.then(|| (one.id, run.clone()))
    });
    Ok(mine.collect())
}

/// Folders and groups of runs.
async fn left(inner: &Arc<Inner>) -> Result<(Vec<String>, BTreeMap<String, Vec<Group>>), Error> {
    let inner = Arc::clone(inner);
    blocking("look for what is left", move || {
        let folders = inner.folders.found(PREFIX)?.into_iter().filter(|run| is_run(run)).collect();
        let groups = match &inner.holder {
            Holder::Own(cgroups) => cgroups.left(),
            Holder::Podman | Holder::Nobody => BTreeMap::new(),
        };
        Ok((folders, groups.into_iter().filter(|(run, _)| is_run(run)).collect()))
    })
    .await
}

/// Whether a name is one that this driver gives: it becomes a path.
pub(crate) fn is_run(name: &str) -> bool {
    name.strip_prefix(PREFIX)
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
}
