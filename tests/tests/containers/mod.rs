//! Jobs in real Podman, through real coordinators and hosts: with the system's service and with a user's.
//! Every test ends with nothing of it left.

mod followed;
mod half_made;
mod lives;
mod networks;
mod pulling;
mod refusals;
mod results;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use skyclaw_tests::mesh::id;
use skyclaw_tests::podman::{IMAGE, Service, Who};
use skyclaw_tests::{Coordinator, Host, LONG, Options, Value, json, wait_until};

/// Makes of each a test with the system's service and one with a user's.
macro_rules! with_both {
    ($($name:ident),* $(,)?) => {
        mod root {
            $(#[test] fn $name() { super::super::check(skyclaw_tests::podman::Who::Root, super::$name); })*
        }
        mod rootless {
            $(#[test] fn $name() { super::super::check(skyclaw_tests::podman::Who::Rootless, super::$name); })*
        }
    };
}
pub(crate) use with_both;

/// A coordinator, and a Podman service that hosts of it can use.
pub(crate) struct Place {
    pub(crate) service: Service,
    /// Whether the machine lets limits be held.
    pub(crate) is_bounded: bool,
}

impl Place {
    /// A coordinator whose leases last so long.
    pub(crate) fn node(lease_ms: u32) -> Coordinator {
        Options::default().env("SKYCLAW_LEASE_MS", lease_ms.to_string()).start()
    }

    /// A host that runs jobs in Podman.
    pub(crate) fn host(&self, node: &Coordinator, name: &str, extra: &[(&str, &str)]) -> Host {
        let podman = self.service.settings(name);
        let shared = format!("{}:rw", self.shared().display());
        let usual = [
            ("SKYCLAW_PODMAN_MOUNTS", shared.as_str()),
            ("SKYCLAW_PODMAN_PREPARED", "0"),
            ("SKYCLAW_MAX_PARALLEL", "4"),
        ];
        let podman = podman.iter().map(|(name, value)| (*name, value.as_str()));
        let all: Vec<_> = podman.chain(usual).chain(extra.iter().copied()).collect();
        let host = Host::start(&node.url(), name, &all);
        wait_until("the host has registered", LONG, || {
            (node.wire().get(&format!("/v1/hosts/{name}")).send().status == 200).then_some(())
        });
        host
    }

    /// Waits until a host has cleared away what a daemon that was killed had left half done.
    #[track_caller]
    pub(crate) fn is_cleared(&self) {
        wait_until("all of earlier daemons is cleared away", LONG, || {
            (self.service.containers().is_empty() && folders(&self.service).is_empty()).then_some(())
        });
    }

    /// A folder of this machine that jobs may mount and write to.
    pub(crate) fn shared(&self) -> PathBuf {
        self.service.dir().join("shared")
    }

    /// The same as a job's mount.
    pub(crate) fn mount(&self) -> Value {
        json!([{"source": self.shared(), "target": "/shared", "readOnly": false}])
    }

    /// A script to be run in Podman, which finds the shared folder at `/shared`.
    pub(crate) fn script(&self, text: &str) -> Value {
        json!({
            "payload": {"kind": "shell", "command": "sh", "args": ["-c", text], "timeoutMs": 60_000},
            "isolation": "podman", "image": IMAGE, "mounts": self.mount(),
        })
    }

    pub(crate) fn submit(&self, node: &Coordinator, text: &str) -> String {
        id(&node.wire().enqueue_with(&self.script(text)))
    }
}

#[track_caller]
pub(crate) fn ended(node: &Coordinator, job: &str) -> Value {
    wait_until("the job has ended", LONG, || {
        Some(node.wire().job(job)).filter(|job| !matches!(job["status"].as_str(), Some("queued" | "leased")))
    })
}

/// The kinds of a job's events, in order.
pub(crate) fn kinds(node: &Coordinator, job: &str) -> Vec<String> {
    let told = node.wire().get(&format!("/v1/jobs/{job}/events")).ok();
    let events = told["events"].as_array().into_iter().flatten();
    events.filter_map(|event| Some(event["kind"].as_str()?.to_owned())).collect()
}

#[track_caller]
pub(crate) fn exists(path: &Path) {
    wait_until(&format!("{} is there", path.display()), LONG, || path.exists().then_some(()));
}

/// Runs a test, and then looks whether anything is left of it.
pub(crate) fn check(who: Who, test: impl FnOnce(&mut Place)) {
    let service = Service::start(who);
    let mut place = Place { service, is_bounded: false };
    let shared = place.shared();
    fs::create_dir(&shared).expect("a folder");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).expect("its mode");
    let told = place.service.podman_ok(&["info", "--format", "{{.Host.CgroupsVersion}}"]);
    place.is_bounded = who == Who::Root || told != "v1";
    test(&mut place);
    nothing_is_left(&place.service);
}

/// What lies on this machine for runs in Podman.
fn folders(service: &Service) -> Vec<PathBuf> {
    let of_hosts = fs::read_dir(service.dir()).expect("a folder").flatten().map(|entry| entry.path());
    let runs = of_hosts
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("runs-")));
    let own = runs.flat_map(|runs| fs::read_dir(runs).into_iter().flatten().flatten());
    own.flat_map(|own| fs::read_dir(own.path()).into_iter().flatten().flatten())
        .map(|left| left.path())
        .collect()
}

/// Hosts of a test are gone by now; what they had, their daemons cleared away.
fn nothing_is_left(service: &Service) {
    assert_eq!(service.containers(), Vec::<String>::new(), "containers");
    assert_eq!(folders(service), Vec::<PathBuf>::new(), "folders");
    wait_until("nothing of a container is mounted", LONG, || {
        let left = service.mounts().into_iter().filter(|at| at.to_string_lossy().contains("/merged")).count();
        (left == 0).then_some(())
    });
    let inside = format!("{}/", service.dir().display());
    wait_until("no monitor is left", LONG, || {
        let lines = skyclaw_tests::process::command_lines();
        let mut monitors = lines.iter().filter(|line| line.contains("conmon") && line.contains(&inside));
        monitors.next().is_none().then_some(())
    });
}

/// The control groups of runs in containers that are there, in all trees.
pub(crate) fn groups() -> Vec<PathBuf> {
    fn below(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                below(&entry.path(), found);
                found.push(entry.path());
            }
        }
    }
    let mut found = Vec::new();
    below(Path::new("/sys/fs/cgroup"), &mut found);
    found
}
