//! Damage, strangers, full disks and wrong settings: a daemon refuses to start with a sentence that
//! says what to do and touches nothing, or it stands by everything it ever acknowledged.

mod damaged;
mod full_disk;
mod start;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use skyclaw_tests::mesh::{id, shell_job};
use skyclaw_tests::outside::files;
use skyclaw_tests::{Coordinator, Options, Value, json};

/// All jobs of a coordinator.
fn jobs(node: &Coordinator) -> Value {
    node.wire().get("/v1/state").ok()["jobs"].take()
}

/// The data of a daemon that was stopped well, and the jobs it acknowledged.
struct Stopped {
    dir: tempfile::TempDir,
    jobs: Value,
}

fn stopped() -> Stopped {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut node = Options::default().start_in(dir.path());
    let wire = node.wire();
    wire.host("h1", &[], 100);
    for i in 0..60 {
        let body = shell_job(&json!({"submittedBy": format!("submitter-{i}-{}", "x".repeat(200))}));
        wire.post("/v1/jobs", &body).key(&i.to_string()).ok();
        if i % 2 == 0 {
            let job = id(&wire.claim("h1"));
            wire.completion(&job, "h1").ok();
        }
    }
    let jobs = jobs(&node);
    node.terminate();
    Stopped { dir, jobs }
}

/// The files below `dir` but for locks, which say nothing, by their paths within it.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let within = |path: PathBuf| path.strip_prefix(dir).expect("a path below").to_owned();
    let all = files(dir).into_iter().map(|(path, content)| (within(path), content));
    all.filter(|(path, _)| path.extension().is_none_or(|end| end != "lock")).collect()
}

/// A directory with these files.
fn laid_out(contents: &BTreeMap<PathBuf, Vec<u8>>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (path, content) in contents {
        let target = dir.path().join(path);
        fs::create_dir_all(target.parent().expect("a parent")).expect("a directory");
        fs::write(target, content).expect("a file");
    }
    dir
}

/// Asserts that every file in `dir` is as `before`, and that there is no other but what SQLite makes
/// beside a database when it is looked at: an index of its journal, and the journal when it is empty.
#[track_caller]
fn assert_untouched(dir: &Path, before: &BTreeMap<PathBuf, Vec<u8>>, what: &str) {
    let after = contents(dir);
    for (path, content) in before {
        assert!(after.get(path) == Some(content), "{what}: it touched {}", path.display());
    }
    for (path, content) in after.iter().filter(|(path, _)| !before.contains_key(*path)) {
        let name = path.display().to_string();
        let harmless = name.ends_with("-shm") || (name.ends_with("-wal") && content.is_empty());
        assert!(harmless, "{what}: it made {name}");
    }
}
