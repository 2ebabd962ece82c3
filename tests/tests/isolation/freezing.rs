//! Everything is frozen while twenty jobs and two services run on real hosts of a cluster, whose leader dies
//! in between: what runs is stopped at once, and nothing begins until the thaw.

use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use skyclaw_tests::ctl::skyctl;
use skyclaw_tests::mesh::id;
use skyclaw_tests::podman::{IMAGE, Service};
use skyclaw_tests::{Cluster, Host, LONG, Value, json, process, wait_until};

use super::witness::{self, Kind};

const JOBS: usize = 20;
const HOSTS: [&str; 2] = ["h0", "h1"];
/// Longer than any of this takes: what runs ends because it is stopped.
const FOR_EVER: Duration = Duration::from_secs(600);

/// When the leader is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// Not before everything has stopped.
    Later,
    /// As soon as the freeze is acknowledged.
    AtOnce,
    /// Before any host could hear of it: only the next leader can tell them.
    Unheard,
}

struct Scene {
    hosts: [Host; 2],
    /// How many of the jobs run in containers.
    contained: usize,
    cluster: Cluster,
    dir: tempfile::TempDir,
    jobs: Vec<String>,
    mark: String,
}

/// How long it took from the command that freezes until nothing ran any more; from when hosts could ask, where
/// they could not before. With a Podman service every other job runs in a container.
///
/// # Panics
/// When something goes on, or begins before the thaw.
pub(crate) fn freeze(death: Death, heartbeat: Duration, podman: Option<&Service>) -> Duration {
    let mut scene = Scene::set(heartbeat, podman);
    let leader = scene.cluster.leader();
    if death == Death::Unheard {
        scene.signal_hosts(Signal::SIGSTOP);
        // Not to wait for anything: no heartbeat of theirs waits any more after this.
        thread::sleep(heartbeat + Duration::from_secs(1));
    }
    let mut before = now();
    let gone = scene.watch_containers();
    let froze = skyctl(&scene.cluster.urls()[(leader + 1) % 3], &["freeze", "--reason", "a trial"]);
    let acknowledged = now() - before;
    let mut led = Duration::ZERO;
    if death != Death::Later {
        scene.cluster.kill9(leader);
        if death == Death::Unheard {
            scene.signal_hosts(Signal::SIGCONT);
            before = now();
        }
        let _ = scene.cluster.leader();
        led = now() - before;
    }
    let _ = froze.ok();
    let took = scene.stopped(gone) - before;
    println!(
        "leader killed {death:?}: acknowledged after {} ms, the next leader there after {} ms, the last of {JOBS} jobs \
         ({} in containers) and {} services there after {} ms",
        acknowledged.as_millis(),
        led.as_millis(),
        scene.contained,
        HOSTS.len(),
        took.as_millis()
    );
    if death != Death::Later {
        scene.cluster.restart(leader);
        scene.cluster.wait_whole();
    }
    scene.assert_nothing_begins();
    scene.thaw();
    took
}

impl Scene {
    fn set(heartbeat: Duration, podman: Option<&Service>) -> Self {
        let cluster = Cluster::start_with(3, |options| options.env("SKYCLAW_LEASE_MS", "60000"));
        let (urls, program) = (cluster.urls(), witness::program());
        let heartbeat = heartbeat.as_millis().to_string();
        let parallel = (JOBS / HOSTS.len()).to_string();
        let host = |at: usize| {
            let mut urls = urls.clone();
            urls.rotate_left(at);
            let urls = urls.join(",");
            let port = (24_000 + 100 * at).to_string();
            let podman = podman.map(|service| service.settings(HOSTS[at]));
            let podman = podman.iter().flatten().map(|(name, value)| (*name, value.as_str()));
            let usual = [
                ("SKYCLAW_COORDINATOR_URLS", urls.as_str()),
                ("SKYCLAW_ALLOWED_COMMANDS", program.as_str()),
                ("SKYCLAW_MAX_PARALLEL", parallel.as_str()),
                ("SKYCLAW_HEARTBEAT_MS", heartbeat.as_str()),
                ("SKYCLAW_SERVICE_HOST_ENABLED", "1"),
                ("SKYCLAW_SERVICE_BASE_PORT", port.as_str()),
            ];
            Host::start(&cluster.urls()[at], HOSTS[at], &podman.chain(usual).collect::<Vec<_>>())
        };
        let hosts = [host(0), host(1)];
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mark = dir.path().display().to_string();
        let contained = if podman.is_some() { JOBS / 2 } else { 0 };
        let mut this = Self { hosts, contained, cluster, dir, jobs: Vec::new(), mark };
        for at in 0..JOBS {
            this.submit(at);
        }
        let args = |at: usize| {
            json!(["beat", this.service(at), FOR_EVER.as_millis().to_string(), "plain", this.mark])
        };
        for at in 0..HOSTS.len() {
            let body = json!({"name": format!("service-{at}"), "command": program, "args": args(at)});
            this.cluster.wire(0).post("/v1/services", &body).ok();
        }
        this.wait_for("all have begun", 1);
        this
    }

    fn submit(&mut self, at: usize) {
        let mut body = if at < self.contained {
            let script = format!("while :; do sleep 0.05; done # {}", self.in_container(at));
            let payload = json!({"kind": "shell", "command": "sh", "args": ["-c", script]});
            json!({"payload": payload, "isolation": "podman", "image": IMAGE})
        } else {
            json!({"payload": witness::payload(&self.job(at), FOR_EVER, Kind::Plain, &self.mark)})
        };
        body["payload"]["timeoutMs"] = json!(FOR_EVER.as_secs() * 1000);
        self.jobs.push(id(&self.cluster.wire(0).enqueue_with(&body)));
    }

    fn job(&self, at: usize) -> PathBuf {
        self.dir.path().join(format!("job-{at}"))
    }

    fn service(&self, at: usize) -> PathBuf {
        self.dir.path().join(format!("service-{at}"))
    }

    /// What the command line of a job in a container has that no other has.
    fn in_container(&self, at: usize) -> String {
        format!("{}-in-container-{at}-", self.mark)
    }

    /// How many jobs in containers are there.
    fn contained(&self) -> usize {
        let marks: Vec<_> = (0..self.contained).map(|at| self.in_container(at)).collect();
        there(&marks)
    }

    /// Looks, from now on, for the moment at which none of the jobs in containers is there; later than it was by
    /// as long as it takes to look.
    fn watch_containers(&self) -> JoinHandle<Option<Duration>> {
        let marks: Vec<_> = (0..self.contained).map(|at| self.in_container(at)).collect();
        thread::spawn(move || {
            wait_until("nothing runs in a container", LONG, || {
                let seen = now();
                (there(&marks) == 0).then_some((!marks.is_empty()).then_some(seen))
            })
        })
    }

    /// How often each of the jobs and services that were there first has begun, but for those in containers.
    fn begun(&self) -> Vec<usize> {
        let jobs = (self.contained..JOBS).map(|at| self.job(at));
        jobs.chain((0..HOSTS.len()).map(|at| self.service(at))).map(|file| witness::starts(&file)).collect()
    }

    fn wait_for(&self, what: &str, times: usize) {
        wait_until(what, LONG, || {
            let begun = self.begun().iter().all(|begun| *begun == times);
            (begun && self.contained() == self.contained).then_some(())
        });
    }

    fn signal_hosts(&mut self, signal: Signal) {
        self.hosts.iter_mut().for_each(|host| host.process().signal(signal));
    }

    /// Waits until nothing runs, and gives the last moment at which something did.
    fn stopped(&self, gone: JoinHandle<Option<Duration>>) -> Duration {
        for host in &self.hosts {
            wait_until("nothing of any run is left", LONG, || {
                host.left(&[&self.mark]).is_empty().then_some(())
            });
        }
        let jobs = (self.contained..JOBS).map(|at| self.job(at));
        let files = jobs.chain((0..HOSTS.len()).map(|at| self.service(at)));
        let wrote = files.filter_map(|file| witness::last(&file)).max().expect("something ran");
        let gone = gone.join().expect("nothing runs in a container");
        gone.map_or(wrote, |gone| gone.max(wrote))
    }

    /// Also not what is submitted now, and not under the next leader, of which hosts are heard.
    fn assert_nothing_begins(&mut self) {
        for at in JOBS..JOBS + 4 {
            self.submit(at);
        }
        let leader = self.cluster.leader();
        self.cluster.kill9(leader);
        let mut before = self.seen();
        // Twice: what had waited with the old leader may have been the first.
        for _ in 0..2 {
            before = wait_until("the next leader hears of both hosts", LONG, || {
                let seen = self.seen();
                let news = before.iter().zip(&seen).all(|(before, seen)| before != seen);
                (news && seen.len() == HOSTS.len()).then_some(seen)
            });
        }
        self.cluster.restart(leader);
        self.cluster.wait_whole();
        for job in &self.jobs {
            // What was stopped is given back; its host may have to tell it to the next leader.
            wait_until("the job is queued", LONG, || {
                let record = self.cluster.wire(self.cluster.leader()).job(job);
                let (status, host) = (&record["status"], &record["assignedHostId"]);
                (*status == "queued" && host.is_null()).then_some(())
            });
        }
        assert!(self.begun().iter().all(|begun| *begun == 1), "{:?}", self.begun());
        assert_eq!(self.contained(), 0, "in containers");
        let later = (JOBS..JOBS + 4).map(|at| witness::starts(&self.job(at))).sum::<usize>();
        assert_eq!(later, 0, "what was submitted while all was frozen has begun");
    }

    /// When the leader last heard of each host.
    fn seen(&self) -> Vec<Value> {
        let wire = self.cluster.wire(self.cluster.leader());
        wait_until("the leader answers", LONG, || {
            let reply = wire.get("/v1/state").try_send().ok().filter(|reply| reply.status == 200)?;
            let state = reply.json();
            let hosts = state["hosts"].as_array().into_iter().flatten();
            Some(hosts.map(|host| host["lastSeenAt"].clone()).collect())
        })
    }

    fn thaw(&mut self) {
        let _ = skyctl(&self.cluster.urls()[0], &["thaw"]).ok();
        self.wait_for("all begin anew", 2);
        for at in self.contained..JOBS {
            let runs = witness::runs(&self.job(at)).unwrap_or_else(|fault| panic!("{fault}"));
            assert_eq!(runs.len(), 2);
        }
        let (before, gone) = (now(), self.watch_containers());
        let _ = skyctl(&self.cluster.urls()[0], &["freeze"]).ok();
        println!("frozen once more: the last there after {} ms", (self.stopped(gone) - before).as_millis());
        // They give back what they had made ahead.
        self.hosts.iter_mut().for_each(Host::terminate);
    }
}

/// How many of the marks a process carries in its command line.
fn there(marks: &[String]) -> usize {
    let lines = process::command_lines();
    marks.iter().filter(|mark| lines.iter().any(|line| line.contains(*mark))).count()
}

fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).expect("a clock").into()
}
