//! The shapes of records: which fields there are, which may be absent, what texts look like.

use serde_json::Value;

/// Asserts what holds of every good answer: no field is `null` but the `job` or `service` of a claim
/// that found nothing, a field named `…At` is a time, one named `…Ms` an integer.
///
/// # Panics
/// When it does not hold.
#[track_caller]
pub fn assert_conventions(body: &Value) {
    let Value::Object(fields) = body else { panic!("{body} is no object") };
    for (name, value) in fields {
        if !(value.is_null() && matches!(name.as_str(), "job" | "service")) {
            check(name, value, body);
        }
    }
}

#[track_caller]
fn check(name: &str, value: &Value, body: &Value) {
    match value {
        Value::Null => panic!("{name} is null in {body}"),
        Value::Array(items) => {
            for item in items {
                check(name, item, body);
            }
        }
        // The names of variables and labels are their owner's.
        Value::Object(_) if matches!(name, "env" | "labels" | "unavailable") => {}
        Value::Object(fields) => {
            for (name, value) in fields {
                check(name, value, body);
            }
        }
        _ if name.ends_with("At") => {
            assert!(value.as_str().is_some_and(is_time), "{name} is no time in {body}");
        }
        _ if name.ends_with("Ms") => {
            assert!(value.as_u64().is_some(), "{name} is no integer in {body}");
        }
        _ => {}
    }
}

/// Whether `text` looks like `2026-01-01T00:00:00.000Z`.
#[must_use]
pub fn is_time(text: &str) -> bool {
    let pattern = "dddd-dd-ddTdd:dd:dd.dddZ";
    text.len() == pattern.len()
        && text.bytes().zip(pattern.bytes()).all(|(byte, want)| match want {
            b'd' => byte.is_ascii_digit(),
            _ => byte == want,
        })
}

/// Whether `text` is `prefix` and a UUID.
#[must_use]
pub fn is_id(text: &str, prefix: &str) -> bool {
    let groups: Vec<&str> = text.strip_prefix(prefix).unwrap_or_default().split('-').collect();
    let hex = |group: &&str| group.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]) && groups.iter().all(hex)
}

/// The fields of a host. (From `state` on: ours.)
pub const HOST: Fields = Fields {
    always: &[
        "id",
        "name",
        "capabilities",
        "maxParallel",
        "activeLeases",
        "lastSeenAt",
        "registeredAt",
        "updatedBy",
        "version",
    ],
    sometimes: &["state", "stateSince", "stateReason", "drain", "enforces"],
};

/// The fields of a job. (From `priority` on: ours.)
pub const JOB: Fields = Fields {
    always: &[
        "id",
        "createdAt",
        "updatedAt",
        "updatedBy",
        "version",
        "status",
        "attempts",
        "requirement",
        "payload",
    ],
    sometimes: &[
        "leaseExpiresAt",
        "assignedHostId",
        "submittedBy",
        "result",
        "error",
        "priority",
        "labels",
        "fence",
        "cancelRequestedAt",
        "lostAt",
        "onLost",
        "isolation",
        "image",
        "resources",
        "agentId",
        "dependsOn",
        "onDependencyFailure",
        "waitsFor",
        "concurrencyKey",
        "concurrencyLimit",
        "uniqueKey",
        "network",
        "mounts",
        "graceMs",
        "ttlMs",
        "notBefore",
        "retry",
        "retainMs",
        "claimableAt",
        "expiresAt",
        "failedAttempts",
        "attemptResults",
    ],
};

/// The fields of a service.
pub const SERVICE: Fields = Fields {
    always: &[
        "id",
        "name",
        "command",
        "args",
        "replicas",
        "requiredCapabilities",
        "status",
        "createdAt",
        "updatedAt",
        "updatedBy",
        "version",
        "assignments",
    ],
    sometimes: &["cwd", "env", "labels", "agentId"],
};

/// Which fields a record has.
#[derive(Debug, Clone, Copy)]
pub struct Fields {
    always: &'static [&'static str],
    sometimes: &'static [&'static str],
}

impl Fields {
    /// Asserts that `record` has every field it must have and none that is not known.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn assert(&self, record: &Value) {
        let Value::Object(fields) = record else { panic!("{record} is no record") };
        for name in self.always {
            assert!(fields.contains_key(*name), "{name} is missing in {record}");
        }
        for name in fields.keys() {
            let known = self.always.iter().chain(self.sometimes).any(|known| known == name);
            assert!(known, "{name} is not known in {record}");
        }
    }
}
