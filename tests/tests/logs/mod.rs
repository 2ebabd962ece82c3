//! What jobs write, followed while they run: through real coordinators and hosts.

mod early;
mod following;
mod protocol;
mod upheavals;

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use skyclaw_tests::mesh::id;
use skyclaw_tests::{LONG, Value, Wire, json, wait_until};

/// Holds jobs back until they are let go, each at its own place.
struct Gates(tempfile::TempDir);

impl Gates {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    /// What a script says to wait at a gate. There is one for each name.
    fn wait_at(&self, name: &str) -> String {
        let path = self.path(name);
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).expect("a fifo");
        format!("cat {} > /dev/null", path.display())
    }

    /// Lets whoever waits there go on, as soon as somebody does.
    fn open(&self, name: &str) {
        drop(OpenOptions::new().write(true).open(self.path(name)).expect("the gate opens"));
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::join(self.0.path(), name)
    }
}

fn script(text: &str) -> Value {
    json!({"payload": {"kind": "shell", "command": "sh", "args": ["-c", text], "timeoutMs": 120_000}})
}

fn submit(wire: &Wire, text: &str) -> String {
    id(&wire.post("/v1/jobs", &script(text)).ok()["job"])
}

fn status(wire: &Wire, job: &str) -> Value {
    wire.get(&format!("/v1/jobs/{job}?consistent=true")).ok()["job"]["status"].take()
}

#[track_caller]
fn runs(wire: &Wire, job: &str) {
    wait_until("the job runs", LONG, || (status(wire, job) == "leased").then_some(()));
}

fn logs(job: &str, query: &str) -> String {
    format!("/v1/jobs/{job}/logs?{query}")
}
