//! A driver over a service of its own, and what a run of it came to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use skyclaw_exec::podman::{
    Config, Exit, IdRange, Output, Podman, Policy, PoolConfig, Report, Run, Spec, Stream,
};
use skyclaw_tests::podman::{IMAGE, Service, Who};
use skyclaw_tests::{LONG, wait_until};
use tokio_util::task::TaskTracker;

/// How much of a stream a test keeps.
const KEPT: usize = 1 << 20;

pub(crate) struct Kit {
    pub(crate) service: Service,
    pub(crate) podman: Podman,
    tracker: TaskTracker,
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) report: Report,
}

impl Ended {
    pub(crate) fn code(&self) -> i32 {
        match &self.report.exit {
            Exit::Code(code) => *code,
            Exit::Lost(why) => panic!("lost: {why}; {self:?}"),
        }
    }
}

impl Kit {
    async fn new(who: Who) -> Self {
        let service = Service::start(who);
        let tracker = TaskTracker::new();
        let podman =
            Podman::connect(config(&service, "host-of-the-test"), &tracker).await.expect("it answers");
        Self { service, podman, tracker }
    }

    /// A second driver over the same service, as another daemon would have it.
    pub(crate) async fn beside(&self, config: Config) -> Podman {
        Podman::connect(config, &self.tracker).await.expect("it answers")
    }

    /// Runs a shell script to its end.
    pub(crate) async fn sh(&self, script: &str) -> Ended {
        self.run(sh(script)).await
    }

    pub(crate) async fn run(&self, spec: Spec) -> Ended {
        let run = self.podman.start(spec).await.expect("it starts");
        end(run).await
    }

    /// Whether limits can be enforced here.
    pub(crate) fn is_bounded(&self) -> bool {
        self.podman.enforcement().memory.is_in_force()
    }
}

pub(crate) fn config(service: &Service, owner: &str) -> Config {
    // Groups of control are the machine's, so a host of a test is named by its service.
    let owner = format!("{owner}.{}", service.dir().display());
    let images = [IMAGE.to_owned()].into();
    Config {
        socket: service.socket(),
        owner,
        runs_dir: service.dir().join("runs"),
        state_dir: service.dir().join("state"),
        policy: Policy { images, ..Policy::default() },
        ids: IdRange::default(),
        log_bytes: 256 << 10,
        pool: PoolConfig { max: 0, ..PoolConfig::default() },
    }
}

pub(crate) fn sh(script: &str) -> Spec {
    Spec {
        image: IMAGE.to_owned(),
        command: Some("sh".to_owned()),
        args: vec!["-c".to_owned(), script.to_owned()],
        env: BTreeMap::from([("GIVEN".to_owned(), "by the job".to_owned())]),
        ..Spec::default()
    }
}

/// Reads the output to its end, waits, and clears away.
pub(crate) async fn end(mut run: Run) -> Ended {
    let output = run.take_output().expect("output");
    let ((stdout, stderr), exit) = tokio::join!(read(output), run.wait());
    let (report, cleared) = run.finish(exit).await;
    cleared.expect("it is cleared away");
    Ended { stdout, stderr, report }
}

pub(crate) async fn read(mut output: Output) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some((stream, bytes)) = output.next().await {
        let kept: &mut Vec<u8> = if stream == Stream::Stdout { &mut out } else { &mut err };
        kept.extend(&bytes[..bytes.len().min(KEPT - kept.len())]);
    }
    (String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned())
}

/// Waits until a run has written `line`, and gives back the rest of its output.
pub(crate) async fn until(mut output: Output, line: &str) -> Output {
    let mut seen = String::new();
    while !seen.contains(line) {
        let (_, bytes) = output.next().await.unwrap_or_else(|| panic!("no {line:?} in {seen:?}"));
        seen.push_str(&String::from_utf8_lossy(&bytes));
    }
    output
}

/// Runs a test, and then looks whether anything is left of it.
pub(crate) fn check(who: Who, test: impl AsyncFnOnce(&mut Kit)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut kit = Kit::new(who).await;
        test(&mut kit).await;
        kit.podman.drain().await;
        let Kit { service, podman, tracker } = kit;
        let owner = podman.config().owner.clone();
        drop(podman);
        tracker.close();
        tracker.wait().await;
        nothing_is_left(&service, &owner);
    });
}

fn nothing_is_left(service: &Service, owner: &str) {
    assert_eq!(service.containers(), Vec::<String>::new(), "containers");
    let runs: Vec<_> = std::fs::read_dir(service.dir().join("runs")).expect("folder").flatten().collect();
    assert!(runs.is_empty(), "folders: {runs:?}");
    let of_host = |path: &PathBuf| path.to_string_lossy().contains(&name_of(owner));
    let groups: Vec<_> = groups().into_iter().filter(of_host).collect();
    assert!(groups.is_empty(), "control groups: {groups:?}");
    wait_until("nothing of a container is mounted", LONG, || {
        let left = service.mounts().into_iter().filter(|at| at.to_string_lossy().contains("/merged")).count();
        (left == 0).then_some(())
    });
    let inside = format!("{}/", service.dir().display());
    wait_until("no monitor is left", LONG, || monitors(&inside).is_empty().then_some(()));
}

/// Processes of conmon whose command line names this place.
fn monitors(inside: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    let lines = all.filter_map(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let first = line.split('\0').next()?.to_owned();
        (first.ends_with("conmon") && line.contains(inside)).then_some(line)
    });
    lines.collect()
}

/// Every control group of runs, in all trees.
pub(crate) fn groups() -> Vec<PathBuf> {
    fn below(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                below(&entry.path(), found);
                found.push(entry.path());
            }
        }
    }
    let mut found = Vec::new();
    for tree in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        below(&tree.path().join("skyclaw"), &mut found);
    }
    below(Path::new("/sys/fs/cgroup/skyclaw"), &mut found);
    found
}

/// What of a host's name is in the names of its groups: all but what needs to be written otherwise.
fn name_of(owner: &str) -> String {
    owner.rsplit('-').next().unwrap_or(owner).to_owned()
}

/// A grace that a test never waits out in vain.
pub(crate) const GRACE: Duration = Duration::from_secs(30);
