//! What ties a job to others: the checks of what a submission says of it.

use std::collections::BTreeSet;

use super::check::{between, optional_text, status};
use super::{EnqueueJobBody, Invalid};
use crate::links::{Concurrency, Links};
use crate::{JobId, OnDependencyFailure, limits};

/// Checks what a submission says of what ties the job to others.
pub(super) fn check(body: &EnqueueJobBody) -> Result<Links, Invalid> {
    let depends_on = depends_on(body.depends_on.as_deref().unwrap_or_default())?;
    let on_failure = status(
        "onDependencyFailure",
        body.on_dependency_failure.as_deref(),
        OnDependencyFailure::ALL,
        OnDependencyFailure::as_str,
    )?;
    if on_failure.is_some() && depends_on.is_empty() {
        return Err(Invalid::new("onDependencyFailure", "can only be given with \"dependsOn\""));
    }
    let key = key("concurrencyKey", body.concurrency_key.clone())?;
    let limit = between("concurrencyLimit", body.concurrency_limit, 1, limits::MAX_CONCURRENCY)?;
    if limit.is_some() && key.is_none() {
        return Err(Invalid::new("concurrencyLimit", "can only be given with \"concurrencyKey\""));
    }
    Ok(Links {
        depends_on,
        on_dependency_failure: on_failure.unwrap_or_default(),
        concurrency: key.map(|key| Concurrency { key: key.into(), limit: limit.unwrap_or(1) }),
        unique_key: self::key("uniqueKey", body.unique_key.clone())?.map(Into::into),
    })
}

fn depends_on(given: &[String]) -> Result<Vec<JobId>, Invalid> {
    const FIELD: &str = "dependsOn";
    if given.len() > limits::MAX_DEPENDENCIES {
        return Err(Invalid::new(FIELD, format!("must have at most {} entries", limits::MAX_DEPENDENCIES)));
    }
    let mut seen = BTreeSet::new();
    let mut all = Vec::with_capacity(given.len());
    for (i, raw) in given.iter().enumerate() {
        let id = JobId::parse(raw).map_err(|e| Invalid::new(format!("{FIELD}[{i}]"), e.to_string()))?;
        if !seen.insert(id.clone()) {
            return Err(Invalid::new(FIELD, format!("names job {id} twice")));
        }
        all.push(id);
    }
    Ok(all)
}

/// A key: no more than a text that is compared. Blank counts as absent.
fn key(field: &str, raw: Option<String>) -> Result<Option<String>, Invalid> {
    let text = optional_text(field, raw, limits::MAX_KEY_LEN)?.map(|text| text.trim().to_owned());
    if text.as_ref().is_some_and(|text| text.chars().any(char::is_control)) {
        return Err(Invalid::new(field, "must not contain control characters"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn links(body: Value) -> Result<Links, String> {
        let body: EnqueueJobBody = serde_json::from_value(body).expect("a body");
        check(&body).map_err(|fault| fault.to_string())
    }

    #[test]
    fn what_is_not_said_is_not_there() {
        assert_eq!(links(json!({})), Ok(Links::default()));
        assert_eq!(
            links(json!({"dependsOn": [], "uniqueKey": " ", "concurrencyKey": ""})),
            Ok(Links::default())
        );
    }

    #[test]
    fn a_key_without_a_limit_lets_one_job_run_at_a_time() {
        let found = links(json!({"concurrencyKey": " db "})).expect("valid").concurrency;
        assert_eq!(found, Some(Concurrency { key: "db".into(), limit: 1 }));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let many: Vec<String> = (0..=limits::MAX_DEPENDENCIES).map(|n| format!("j{n}")).collect();
        for (body, fault) in [
            (json!({"dependsOn": ["a", "b", " a"]}), "dependsOn names job a twice"),
            (json!({"dependsOn": many}), "dependsOn must have at most 64 entries"),
            (
                json!({"dependsOn": ["a"], "onDependencyFailure": "retry"}),
                "onDependencyFailure must be \"fail\" or \"skip\"",
            ),
            (
                json!({"onDependencyFailure": "skip"}),
                "onDependencyFailure can only be given with \"dependsOn\"",
            ),
            (json!({"concurrencyLimit": 2}), "concurrencyLimit can only be given with \"concurrencyKey\""),
            (
                json!({"concurrencyKey": "a", "concurrencyLimit": 0}),
                "concurrencyLimit must be between 1 and 1000000",
            ),
            (json!({"uniqueKey": "a\nb"}), "uniqueKey must not contain control characters"),
            (json!({"uniqueKey": "x".repeat(257)}), "uniqueKey must be at most 256 bytes long"),
        ] {
            assert_eq!(links(body), Err(fault.to_owned()));
        }
        assert!(links(json!({"dependsOn": ["a b"]})).expect_err("no id").starts_with("dependsOn[0] "));
    }
}
