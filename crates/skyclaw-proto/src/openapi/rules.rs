//! What the checks of requests ask for beyond types.

use crate::limits::{
    MAX_ATTEMPTS, MAX_BACKOFF_MS, MAX_CATCH_UP_MS, MAX_CLAIM, MAX_CONCURRENCY, MAX_CPU_MILLIS, MAX_CRON_LEN,
    MAX_DEPENDENCIES, MAX_DRAIN_MS, MAX_ENFORCES, MAX_EVENT_DETAIL_LEN, MAX_EVENTS_AT_ONCE, MAX_GRACE_MS,
    MAX_IMAGE_LEN, MAX_KEY_LEN, MAX_LOG_OFFSET, MAX_LOG_PIECE_BYTES, MAX_MEMORY_BYTES, MAX_MOUNTS,
    MAX_NAME_LEN, MAX_NETWORK_LEN, MAX_PARALLEL, MAX_PIDS, MAX_PRIORITY, MAX_REASON_LEN, MAX_REPLICAS,
    MAX_RETAIN_MS, MAX_TEXT_LEN, MAX_TIME_ZONE_LEN, MAX_TIMEOUT_MS, MAX_TTL_MS, MAX_WAIT_MS, MIN_CATCH_UP_MS,
    MIN_MEMORY_BYTES,
};
use crate::{
    AssignmentStatus, Isolation, LogStream, OnDependencyFailure, OnLost, Overlap, Resolution, Stopped,
};

/// What a check asks for of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// It must be there.
    Required,
    /// A number between two, both included.
    Between(u64, u64),
    /// A text that is not blank, of at most so many bytes, without NUL.
    Text(usize),
    /// A text of at most so many bytes, without NUL. Blank is as good as absent.
    OptionalText(usize),
    /// A text of at most so many bytes, whatever they are.
    Bytes(usize),
    /// A text without white space in it, of at most so many bytes. Blank is as good as absent.
    Plain(usize),
    /// A text that looks like this.
    Pattern(&'static str),
    /// An id that a client chose.
    Id,
    /// The same where blank is as good as absent.
    OptionalId,
    /// One of these words. Blank is as good as absent.
    Words(Vec<&'static str>),
    /// Exactly one of these words.
    Exactly(Vec<&'static str>),
    /// A list of at most so many.
    Items(usize),
    /// A list of ids, of at most so many.
    Ids(usize),
    /// Capabilities, or words like them.
    Capabilities,
    /// Words with a text each.
    Reasons,
    /// Texts without NUL.
    Arguments,
    /// Variables.
    Environment,
    /// Labels; `true` where there must be one if they are given.
    Labels(bool),
    /// An RFC 3339 time.
    Time,
}

fn all<T: Copy>(all: &[T], text: impl Fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().map(|word| text(*word)).collect()
}

const KIND: &str = r"^\s*[a-z0-9._-]{1,64}\s*$";
/// Not one that begins as ids do.
const SCHEDULE_NAME: &str = r"^\s*(?!sched_)[A-Za-z0-9._:-]{1,128}\s*$";
/// A name, whatever stands in it.
const WHO: &str = r"^\s*[\s\S]{0,256}\s*$";
/// A base URL.
const HTTP: &str = r"^\s*[hH][tT][tT][pP][sS]?:[^?#@]+$";
/// From the root.
const ABSOLUTE: &str = r"^\s*/[^\x00]*$";

/// Every rule: of which schema, of which field, what. A field may have several.
#[must_use]
pub fn rules() -> Vec<(&'static str, &'static str, Rule)> {
    [jobs(), payloads(), runs(), hosts(), services(), operators(), schedules()].concat()
}

type Rules = Vec<(&'static str, &'static str, Rule)>;

fn jobs() -> Rules {
    use Rule::{Between, Ids, Items, Labels, OptionalId, OptionalText, Plain, Required, Time, Words};
    let of = |field, rule| ("EnqueueJobBody", field, rule);
    let retry = |field, rule| ("RetryBody", field, rule);
    vec![
        of("payload", Required),
        of("submittedBy", OptionalText(MAX_NAME_LEN)),
        of("priority", Between(0, MAX_PRIORITY.into())),
        of("labels", Labels(false)),
        of("onLost", Words(all(OnLost::ALL, OnLost::as_str))),
        of("isolation", Words(all(Isolation::ALL, Isolation::as_str))),
        of("image", Plain(MAX_IMAGE_LEN)),
        of("network", Plain(MAX_NETWORK_LEN)),
        of("agentId", OptionalId),
        of("mounts", Items(MAX_MOUNTS)),
        of("graceMs", Between(0, MAX_GRACE_MS)),
        of("dependsOn", Ids(MAX_DEPENDENCIES)),
        of("onDependencyFailure", Words(all(OnDependencyFailure::ALL, OnDependencyFailure::as_str))),
        of("concurrencyKey", OptionalText(MAX_KEY_LEN)),
        of("concurrencyLimit", Between(1, MAX_CONCURRENCY.into())),
        of("uniqueKey", OptionalText(MAX_KEY_LEN)),
        of("ttlMs", Between(1, MAX_TTL_MS)),
        of("notBefore", Time),
        of("retainMs", Between(0, MAX_RETAIN_MS)),
        retry("maxAttempts", Between(1, MAX_ATTEMPTS.into())),
        retry("backoffMs", Between(0, MAX_BACKOFF_MS)),
        retry("maxBackoffMs", Between(0, MAX_BACKOFF_MS)),
    ]
}

fn payloads() -> Rules {
    use Rule::{Arguments, Between, Capabilities, Environment, Exactly, OptionalText, Pattern, Required};
    let of = |field, rule| ("PayloadBody", field, rule);
    let resources = |field, rule| ("Resources", field, rule);
    vec![
        of("kind", Required),
        of("kind", Exactly(vec!["shell", "openclaw-run"])),
        of("args", Arguments),
        of("cwd", OptionalText(MAX_TEXT_LEN)),
        of("openclawDir", OptionalText(MAX_TEXT_LEN)),
        of("env", Environment),
        of("timeoutMs", Between(1, MAX_TIMEOUT_MS)),
        ("RequirementBody", "requiredCapabilities", Capabilities),
        resources("cpuMillis", Between(1, MAX_CPU_MILLIS.into())),
        resources("memoryBytes", Between(MIN_MEMORY_BYTES, MAX_MEMORY_BYTES)),
        resources("pids", Between(1, MAX_PIDS.into())),
        resources("tmpfsBytes", Between(1, MAX_MEMORY_BYTES)),
        ("MountBody", "source", Required),
        ("MountBody", "source", Pattern(ABSOLUTE)),
        ("MountBody", "source", Rule::Bytes(MAX_TEXT_LEN)),
        ("MountBody", "target", Pattern(ABSOLUTE)),
        ("MountBody", "target", Rule::Bytes(MAX_TEXT_LEN)),
    ]
}

/// What hosts tell of runs, and what is decided about them.
fn runs() -> Rules {
    use Rule::{Between, Bytes, Exactly, Id, Items, OptionalText, Pattern, Required, Words};
    let complete = |field, rule| ("CompleteJobBody", field, rule);
    let event = |field, rule| ("EventBody", field, rule);
    let logs = |field, rule| ("PushLogsBody", field, rule);
    let resolve = |field, rule| ("ResolveJobBody", field, rule);
    let told = |field, rule| ("JobEventsBody", field, rule);
    vec![
        complete("hostId", Required),
        complete("hostId", Id),
        complete("success", Required),
        complete("durationMs", Required),
        complete("exitCode", Required),
        complete("stdout", Required),
        complete("stderr", Required),
        complete("stopped", Words(all(Stopped::ALL, Stopped::as_str))),
        complete("events", Items(MAX_EVENTS_AT_ONCE)),
        event("at", Required),
        event("kind", Required),
        event("kind", Pattern(KIND)),
        event("detail", OptionalText(MAX_EVENT_DETAIL_LEN)),
        told("hostId", Required),
        told("hostId", Id),
        told("fence", Required),
        told("events", Required),
        told("events", Items(MAX_EVENTS_AT_ONCE)),
        logs("hostId", Required),
        logs("hostId", Id),
        logs("fence", Required),
        logs("stream", Required),
        logs("stream", Exactly(all(LogStream::ALL, LogStream::as_str))),
        logs("offset", Required),
        logs("offset", Between(0, MAX_LOG_OFFSET)),
        logs("data", Bytes(MAX_LOG_PIECE_BYTES)),
        resolve("action", Required),
        resolve("action", Words(all(Resolution::ALL, Resolution::as_str))),
        resolve("reason", OptionalText(MAX_REASON_LEN)),
        resolve("by", OptionalText(MAX_NAME_LEN)),
        ("RetryJobBody", "reason", OptionalText(MAX_REASON_LEN)),
        ("RetryJobBody", "by", OptionalText(MAX_NAME_LEN)),
    ]
}

fn hosts() -> Rules {
    use Rule::{Between, Capabilities, Items, OptionalId, OptionalText, Reasons, Required, Text};
    let of = |field, rule| ("RegisterHostBody", field, rule);
    let enforces = |field, rule| ("Enforces", field, rule);
    let drain = |field, rule| ("DrainHostBody", field, rule);
    let beat = |field, rule| ("HeartbeatBody", field, rule);
    let parallel = usize::try_from(MAX_PARALLEL).unwrap_or(usize::MAX);
    vec![
        of("hostId", OptionalId),
        of("name", Required),
        of("name", Text(MAX_NAME_LEN)),
        of("capabilities", Capabilities),
        of("maxParallel", Between(0, MAX_PARALLEL.into())),
        enforces("can", Capabilities),
        enforces("bestEffort", Capabilities),
        enforces("unavailable", Reasons),
        enforces("inForce", Reasons),
        drain("deadlineMs", Between(0, MAX_DRAIN_MS)),
        drain("reason", OptionalText(MAX_REASON_LEN)),
        drain("by", OptionalText(MAX_NAME_LEN)),
        beat("running", Items(parallel)),
        beat("waitMs", Between(0, MAX_WAIT_MS)),
        beat("logs", Items(2 * parallel)),
        ("HostSwitch", "thawedBy", OptionalText(MAX_NAME_LEN)),
        ("HostFreeze", "reason", OptionalText(MAX_REASON_LEN)),
        ("HostFreeze", "by", OptionalText(MAX_NAME_LEN)),
        ("ClaimBody", "waitMs", Between(0, MAX_WAIT_MS)),
        ("ClaimBody", "max", Between(1, MAX_CLAIM.into())),
    ]
}

fn services() -> Rules {
    use Rule::{
        Arguments, Between, Capabilities, Environment, Exactly, Id, Labels, OptionalId, OptionalText,
        Required, Text,
    };
    let of = |field, rule| ("DeployServiceBody", field, rule);
    let report = |field, rule| ("ReportServiceBody", field, rule);
    vec![
        of("serviceId", OptionalId),
        of("name", Required),
        of("name", Text(MAX_NAME_LEN)),
        of("command", Required),
        of("command", Text(MAX_TEXT_LEN)),
        of("args", Arguments),
        of("cwd", OptionalText(MAX_TEXT_LEN)),
        of("env", Environment),
        of("replicas", Between(0, MAX_REPLICAS.into())),
        of("requiredCapabilities", Capabilities),
        of("labels", Labels(false)),
        of("agentId", OptionalId),
        report("hostId", Required),
        report("hostId", Id),
        report("status", Required),
        report("status", Exactly(all(AssignmentStatus::ALL, AssignmentStatus::as_str))),
        report("endpoint", OptionalText(MAX_TEXT_LEN)),
    ]
}

/// What operators ask for.
fn operators() -> Rules {
    use Rule::{Between, Id, Labels, OptionalText, Required};
    vec![
        ("FreezeRequest", "labels", Labels(true)),
        ("FreezeRequest", "agentId", Id),
        ("FreezeRequest", "reason", OptionalText(MAX_REASON_LEN)),
        ("FreezeRequest", "by", OptionalText(MAX_NAME_LEN)),
        ("ThawBody", "by", OptionalText(MAX_NAME_LEN)),
        ("CommitRestoreBody", "waitMs", Between(0, MAX_WAIT_MS)),
        ("CommitRestoreBody", "requestedBy", Rule::Pattern(WHO)),
        ("JoinBody", "url", Required),
        ("JoinBody", "url", Rule::Pattern(HTTP)),
    ]
}

fn schedules() -> Rules {
    use Rule::{Between, OptionalText, Pattern, Required, Text, Words};
    let of = |field, rule| ("CreateScheduleBody", field, rule);
    vec![
        of("name", Required),
        of("name", Pattern(SCHEDULE_NAME)),
        of("cron", Required),
        of("cron", Text(MAX_CRON_LEN)),
        of("timeZone", OptionalText(MAX_TIME_ZONE_LEN)),
        of("overlap", Words(all(Overlap::ALL, Overlap::as_str))),
        of("catchUpMs", Between(MIN_CATCH_UP_MS, MAX_CATCH_UP_MS)),
        of("job", Required),
        of("by", OptionalText(MAX_NAME_LEN)),
        ("PauseScheduleBody", "reason", OptionalText(MAX_REASON_LEN)),
        ("PauseScheduleBody", "by", OptionalText(MAX_NAME_LEN)),
        ("ActOnScheduleBody", "by", OptionalText(MAX_NAME_LEN)),
    ]
}

const _: () = assert!(MAX_NAME_LEN == 256, "it stands in a pattern");
const _: () = assert!(MAX_ENFORCES == crate::limits::MAX_CAPABILITIES, "one rule for both");

#[cfg(test)]
mod tests;
