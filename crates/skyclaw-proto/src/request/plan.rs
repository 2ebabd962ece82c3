//! When a job is to be run, and how often: the checks of what a submission says of it.

use serde::{Deserialize, Serialize};

use super::check::{between, optional_text};
use super::{EnqueueJobBody, Invalid};
use crate::limits::{
    DEFAULT_MAX_BACKOFF_MS, MAX_ATTEMPTS, MAX_BACKOFF_MS, MAX_NAME_LEN, MAX_REASON_LEN, MAX_RETAIN_MS,
    MAX_TTL_MS,
};
use crate::{Plan, Retry, Timestamp};

/// The `retry` of a submission.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RetryBody {
    /// How many runs may fail or be lost before the job has failed; 1 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// How long it waits after the first that failed, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_ms: Option<u64>,
    /// How long it waits at most, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_backoff_ms: Option<u64>,
}

/// `POST /v1/jobs/:id/retry`. (Ours.)
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RetryJobBody {
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who asks for it, as they say themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl RetryJobBody {
    /// Checks the body.
    ///
    /// # Errors
    /// The first field that is not as it must be.
    pub fn check(self) -> Result<Self, Invalid> {
        Ok(Self {
            reason: optional_text("reason", self.reason, MAX_REASON_LEN)?,
            by: optional_text("by", self.by, MAX_NAME_LEN)?,
        })
    }
}

/// Checks what a submission says of when the job is to be run.
pub(super) fn check(body: &EnqueueJobBody) -> Result<Plan, Invalid> {
    Ok(Plan {
        ttl_ms: between("ttlMs", body.ttl_ms, 1, MAX_TTL_MS)?,
        not_before: body.not_before.as_deref().map(|raw| time("notBefore", raw)).transpose()?,
        retry: body.retry.as_ref().map(retry).transpose()?,
        retain_ms: between("retainMs", body.retain_ms, 0, MAX_RETAIN_MS)?,
    })
}

pub(super) fn time(field: &str, raw: &str) -> Result<Timestamp, Invalid> {
    Timestamp::parse(raw).map_err(|error| Invalid::new(field, error.to_string()))
}

fn retry(given: &RetryBody) -> Result<Retry, Invalid> {
    let usual = Retry::default();
    let backoff_ms = between("retry.backoffMs", given.backoff_ms, 0, MAX_BACKOFF_MS)?;
    let backoff_ms = backoff_ms.unwrap_or(usual.backoff_ms);
    let max_backoff_ms = between("retry.maxBackoffMs", given.max_backoff_ms, 0, MAX_BACKOFF_MS)?;
    match max_backoff_ms {
        Some(most) if given.backoff_ms.is_some_and(|least| most < least) => {
            return Err(Invalid::new("retry.maxBackoffMs", "must not be less than retry.backoffMs"));
        }
        _ => {}
    }
    Ok(Retry {
        max_attempts: between("retry.maxAttempts", given.max_attempts, 1, MAX_ATTEMPTS)?
            .unwrap_or(usual.max_attempts),
        backoff_ms,
        max_backoff_ms: max_backoff_ms.unwrap_or(DEFAULT_MAX_BACKOFF_MS.max(backoff_ms)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<Plan, String> {
        let body: EnqueueJobBody = serde_json::from_str(json).expect("a body");
        check(&body).map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn what_is_not_said_is_as_usual() {
        assert_eq!(plan("{}"), Ok(Plan::default()));
        let retry = |json: &str| plan(json).expect("valid").retry.expect("a retry");
        assert_eq!(retry(r#"{"retry":{}}"#), Retry::default());
        let patient = retry(r#"{"retry":{"maxAttempts":3,"backoffMs":600000}}"#);
        assert_eq!(patient, Retry { max_attempts: 3, backoff_ms: 600_000, max_backoff_ms: 600_000 });
        let hasty = retry(r#"{"retry":{"maxAttempts":3,"maxBackoffMs":10}}"#);
        assert_eq!((hasty.backoff_ms, hasty.max_backoff_ms), (1000, 10));
    }

    #[test]
    fn a_record_is_kept_for_no_time_or_for_long() {
        let retain = |json: &str| plan(json).expect("valid").retain_ms;
        assert_eq!(retain(r#"{"retainMs":0}"#), Some(0));
        assert_eq!(retain(r#"{"retainMs":315360000000}"#), Some(MAX_RETAIN_MS));
    }

    #[test]
    fn a_time_has_any_zone() {
        let plan = plan(r#"{"notBefore":"2026-01-01T02:00:00+02:00"}"#).expect("valid");
        assert_eq!(plan.not_before, Some(Timestamp::from_millis(1_767_225_600_000)));
    }

    #[test]
    fn what_is_not_as_it_must_be_is_named() {
        for (body, field) in [
            (r#"{"ttlMs":0}"#, "ttlMs"),
            (r#"{"ttlMs":31536000001}"#, "ttlMs"),
            (r#"{"retainMs":315360000001}"#, "retainMs"),
            (r#"{"notBefore":"soon"}"#, "notBefore"),
            (r#"{"notBefore":""}"#, "notBefore"),
            (r#"{"retry":{"maxAttempts":0}}"#, "retry.maxAttempts"),
            (r#"{"retry":{"maxAttempts":101}}"#, "retry.maxAttempts"),
            (r#"{"retry":{"backoffMs":31536000001}}"#, "retry.backoffMs"),
            (r#"{"retry":{"backoffMs":5,"maxBackoffMs":4}}"#, "retry.maxBackoffMs"),
        ] {
            let fault = plan(body).expect_err(body);
            assert!(fault.starts_with(field), "{body}: {fault}");
        }
    }
}
