//! What most tests do first: hosts that register, jobs that are enqueued, claimed and completed.

use serde_json::{Value, json};

use crate::wire::{Call, Wire};

impl Wire {
    /// Registers a host under `id` and returns the id.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn host(&self, id: &str, capabilities: &[&str], max_parallel: u32) -> String {
        let body =
            json!({"hostId": id, "name": id, "capabilities": capabilities, "maxParallel": max_parallel});
        let host = self.post("/v1/hosts/register", &body).ok();
        host["host"]["id"].as_str().unwrap_or_default().to_owned()
    }

    /// Enqueues a job that any host may take.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn enqueue(&self) -> Value {
        self.enqueue_with(&json!({}))
    }

    /// Enqueues a job with further fields.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn enqueue_with(&self, extra: &Value) -> Value {
        self.post("/v1/jobs", &shell_job(extra)).ok()["job"].take()
    }

    /// Claims a job, or `null`.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn claim(&self, host: &str) -> Value {
        self.post(&format!("/v1/hosts/{host}/claim"), &json!({})).ok()["job"].take()
    }

    /// The request that completes a job.
    pub fn completion(&self, job: &str, host: &str) -> Call {
        self.post(&format!("/v1/jobs/{job}/complete"), &success_of(host))
    }

    /// A job as it is now.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn job(&self, id: &str) -> Value {
        self.get(&format!("/v1/jobs/{id}")).ok()["job"].take()
    }

    /// A host as `/v1/state` shows it.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn host_record(&self, id: &str) -> Value {
        let state = self.get("/v1/state").ok();
        let hosts = state["hosts"].as_array().cloned().unwrap_or_default();
        hosts.into_iter().find(|host| host["id"] == id).unwrap_or_else(|| panic!("no host {id}"))
    }
}

/// The body of an enqueue: a shell job that does nothing, with `extra` fields.
#[must_use]
pub fn shell_job(extra: &Value) -> Value {
    let mut body = json!({"payload": {"kind": "shell", "command": "true"}});
    merge(&mut body, extra);
    body
}

/// The body of a completion of a run that went well.
#[must_use]
pub fn success_of(host: &str) -> Value {
    json!({"hostId": host, "success": true, "durationMs": 7, "exitCode": 0, "stdout": "out", "stderr": ""})
}

/// The same object with the fields of `extra` in place of its own.
#[must_use]
pub fn with(body: &Value, extra: &Value) -> Value {
    let mut body = body.clone();
    merge(&mut body, extra);
    body
}

/// The same object without one field.
#[must_use]
pub fn without(body: &Value, field: &str) -> Value {
    let mut body = body.clone();
    if let Some(fields) = body.as_object_mut() {
        fields.remove(field);
    }
    body
}

fn merge(body: &mut Value, extra: &Value) {
    if let (Some(fields), Some(extra)) = (body.as_object_mut(), extra.as_object()) {
        fields.extend(extra.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
}

/// The id of a record.
///
/// # Panics
/// When it has none.
#[must_use]
#[track_caller]
pub fn id(record: &Value) -> String {
    record["id"].as_str().unwrap_or_else(|| panic!("no id in {record}")).to_owned()
}
