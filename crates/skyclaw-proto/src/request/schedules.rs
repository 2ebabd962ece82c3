//! Requests about schedules.

use serde::{Deserialize, Serialize};

use super::check::{between, optional_text, required_text, required_word, status};
use super::{EnqueueJobBody, Invalid};
use crate::{Overlap, ScheduleId, limits, object};

/// The label that every job of a schedule has, with the schedule's name.
pub const SCHEDULE_LABEL: &str = "skyclaw/schedule";

/// `POST /v1/schedules`. (Ours.)
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct CreateScheduleBody {
    /// What people call it; no two have the same name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// At which times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// The IANA name of the zone those times are in; UTC when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// `skip`, `queue` or `replace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap: Option<String>,
    /// How late it makes up for a time that was missed, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catch_up_ms: Option<u64>,
    /// What it submits, as `POST /v1/jobs` takes it.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object::optional")]
    pub job: Option<EnqueueJobBody>,
    /// Whether it submits nothing until it is resumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Who creates it, as they say themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A checked [`CreateScheduleBody`]. Whether the times and the zone are any is for who knows calendars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateSchedule {
    /// What people call it.
    pub name: String,
    /// At which times.
    pub cron: String,
    /// The name of the zone those times are in.
    pub time_zone: String,
    /// What becomes of a time at which the last job has not ended.
    pub overlap: Overlap,
    /// How late it makes up for a time that was missed, in milliseconds.
    pub catch_up_ms: u64,
    /// What it submits, as JSON, found to be what `POST /v1/jobs` takes.
    pub job: String,
    /// Whether it submits nothing until it is resumed.
    pub paused: bool,
    /// Who creates it.
    pub by: Option<String>,
}

impl CreateScheduleBody {
    /// Checks the body.
    ///
    /// # Errors
    /// The first field that is not as it must be.
    pub fn check(self) -> Result<CreateSchedule, Invalid> {
        let name = name(self.name.as_deref())?;
        let cron = required_text("cron", self.cron.as_deref(), limits::MAX_CRON_LEN)?;
        let zone = optional_text("timeZone", self.time_zone, limits::MAX_TIME_ZONE_LEN)?;
        let time_zone = zone.map_or_else(|| "UTC".to_owned(), |zone| zone.trim().to_owned());
        let overlap = status("overlap", self.overlap.as_deref(), Overlap::ALL, Overlap::as_str)?;
        let (least, most) = (limits::MIN_CATCH_UP_MS, limits::MAX_CATCH_UP_MS);
        let catch_up_ms = between("catchUpMs", self.catch_up_ms, least, most)?;
        let job = job(self.job.ok_or_else(|| Invalid::required("job"))?)?;
        Ok(CreateSchedule {
            name,
            cron,
            time_zone,
            overlap: overlap.unwrap_or_default(),
            catch_up_ms: catch_up_ms.unwrap_or(limits::DEFAULT_CATCH_UP_MS),
            job,
            paused: self.paused.unwrap_or(false),
            by: optional_text("by", self.by, limits::MAX_NAME_LEN)?,
        })
    }
}

/// A name stands in paths beside ids, and is never taken for one.
fn name(raw: Option<&str>) -> Result<String, Invalid> {
    let text = required_word("name", raw, limits::MAX_ID_LEN)?;
    if text.starts_with(ScheduleId::PREFIX) {
        let prefix = ScheduleId::PREFIX;
        return Err(Invalid::new("name", format!("must not begin with {prefix}, as ids do")));
    }
    ScheduleId::parse(&text).map_err(|fault| Invalid::new("name", fault.to_string()))?;
    Ok(text)
}

/// The job as it is kept: as it was given, once it has been found to be one.
fn job(body: EnqueueJobBody) -> Result<String, Invalid> {
    let of_job = |invalid: Invalid| Invalid::new(format!("job.{}", invalid.field), invalid.fault);
    let text = serde_json::to_string(&body).map_err(|_| Invalid::new("job", "cannot be kept"))?;
    if text.len() > limits::MAX_SCHEDULE_JOB_BYTES {
        let max = limits::MAX_SCHEDULE_JOB_BYTES;
        return Err(Invalid::new("job", format!("must take at most {max} bytes of JSON")));
    }
    let job = body.check().map_err(of_job)?;
    if job.labels.contains_key(SCHEDULE_LABEL) {
        return Err(Invalid::new(
            "job.labels",
            format!("must not have {SCHEDULE_LABEL}: the schedule sets it"),
        ));
    }
    if job.labels.len() >= limits::MAX_LABELS {
        let most = limits::MAX_LABELS - 1;
        return Err(Invalid::new(
            "job.labels",
            format!("must have at most {most} entries: one is the schedule's"),
        ));
    }
    Ok(text)
}

/// `POST /v1/schedules/:id/pause`. (Ours.)
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct PauseScheduleBody {
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who asks for it, as they say themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A checked [`PauseScheduleBody`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseSchedule {
    /// Why.
    pub reason: Option<String>,
    /// Who asks for it.
    pub by: Option<String>,
}

impl PauseScheduleBody {
    /// Checks the body.
    ///
    /// # Errors
    /// The first field that is not as it must be.
    pub fn check(self) -> Result<PauseSchedule, Invalid> {
        Ok(PauseSchedule {
            reason: optional_text("reason", self.reason, limits::MAX_REASON_LEN)?,
            by: optional_text("by", self.by, limits::MAX_NAME_LEN)?,
        })
    }
}

/// `POST /v1/schedules/:id/resume` and `POST /v1/schedules/:id/trigger`. (Ours.)
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ActOnScheduleBody {
    /// Who asks for it, as they say themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl ActOnScheduleBody {
    /// Checks the body: who asks for it.
    ///
    /// # Errors
    /// The first field that is not as it must be.
    pub fn check(self) -> Result<Option<String>, Invalid> {
        optional_text("by", self.by, limits::MAX_NAME_LEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> Result<CreateSchedule, String> {
        let body: CreateScheduleBody = serde_json::from_str(json).expect("a body");
        body.check().map_err(|invalid| invalid.to_string())
    }

    fn with(more: &str) -> String {
        let job = r#""job":{"payload":{"kind":"shell","command":"true"}}"#;
        format!(r#"{{"name":"nightly","cron":"0 3 * * *",{job}{more}}}"#)
    }

    #[test]
    fn what_is_left_out_has_its_default_and_the_job_is_kept_as_it_was_given() {
        let schedule = check(&with("")).expect("a schedule");
        assert_eq!(schedule.time_zone, "UTC");
        assert_eq!(schedule.overlap, Overlap::Skip);
        assert_eq!(schedule.catch_up_ms, limits::DEFAULT_CATCH_UP_MS);
        assert!(!schedule.paused);
        assert_eq!(schedule.job, r#"{"payload":{"kind":"shell","command":"true"}}"#);
    }

    #[test]
    fn each_field_that_cannot_be_used_is_named() {
        let table = [
            (r"{}".to_owned(), "name is required"),
            (r#"{"name":"a/b"}"#.to_owned(), "name must be 1 to 128 of the characters A-Z a-z 0-9 . _ : -"),
            (r#"{"name":"sched_x"}"#.to_owned(), "name must not begin with sched_, as ids do"),
            (r#"{"name":"a"}"#.to_owned(), "cron is required"),
            (r#"{"name":"a","cron":"* * * * *"}"#.to_owned(), "job is required"),
            (r#"{"name":"a","cron":"* * * * *","job":{}}"#.to_owned(), "job.payload is required"),
            (with(r#","overlap":"allow""#), r#"overlap must be "skip", "queue" or "replace""#),
            (with(r#","catchUpMs":999"#), "catchUpMs must be between 1000 and 31536000000"),
        ];
        for (json, fault) in table {
            assert_eq!(check(&json).err().as_deref(), Some(fault), "{json}");
        }
    }

    #[test]
    fn a_job_leaves_room_for_the_label_of_the_schedule_and_is_of_bounded_size() {
        let job = |labels: String| {
            let payload = r#""payload":{"kind":"shell","command":"true"}"#;
            check(&format!(r#"{{"name":"a","cron":"* * * * *","job":{{{payload},"labels":{{{labels}}}}}}}"#))
        };
        let many = |n: usize| (0..n).map(|n| format!(r#""k{n}":"""#)).collect::<Vec<_>>().join(",");
        assert!(job(many(limits::MAX_LABELS - 1)).is_ok());
        let fault = job(many(limits::MAX_LABELS)).expect_err("too many");
        assert_eq!(fault, "job.labels must have at most 63 entries: one is the schedule's");
        let fault = job(r#""skyclaw/schedule":"mine""#.to_owned()).expect_err("not theirs");
        assert_eq!(fault, "job.labels must not have skyclaw/schedule: the schedule sets it");
        let long = "x".repeat(limits::MAX_SCHEDULE_JOB_BYTES);
        let job = format!(r#""job":{{"payload":{{"kind":"shell","command":"true","args":["{long}"]}}}}"#);
        let fault = check(&format!(r#"{{"name":"a","cron":"* * * * *",{job}}}"#)).expect_err("too large");
        assert_eq!(fault, "job must take at most 16384 bytes of JSON");
    }
}
