//! Trials: a host loses its way, its daemon or its keepers while it runs jobs, and another one is ready to take
//! them. Whatever befalls it, two runs of a job are never there at the same time, and each job ends as it says.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use skyclaw_tests::ctl::skyctl;
use skyclaw_tests::keepers::Keepers;
use skyclaw_tests::mesh::id;
use skyclaw_tests::net_ns::Network;
use skyclaw_tests::podman::Service;
use skyclaw_tests::{Coordinator, Host, LONG, Options, Value, Wire, json, wait_until};

use super::blows::{Blow, Blows, Work};
use super::witness::{self, Kind, Run};

/// After how long a blow falls, in milliseconds.
const WHEN: std::ops::Range<u64> = 0..1500;
const HOSTS: [&str; 2] = ["h0", "h1"];
/// How much longer runs take where some of them are in containers, which take a while to begin.
const CONTAINERS: Duration = Duration::from_secs(3);

/// The jobs of a trial. Each kind of run is there, and each thing that can be wanted of a lost one.
const JOBS: [(OnLost, Kind); 6] = [
    (OnLost::Retry, Kind::Plain),
    (OnLost::Retry, Kind::Stubborn),
    (OnLost::Retry, Kind::Daemon),
    (OnLost::Hold, Kind::Plain),
    (OnLost::Hold, Kind::Daemon),
    (OnLost::Fail, Kind::Stubborn),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnLost {
    Retry,
    Hold,
    Fail,
}

/// What came of the trials.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    trials: usize,
    pub(crate) jobs: usize,
    /// Jobs in containers.
    pub(crate) contained: usize,
    completed: usize,
    failed: usize,
    /// Jobs that were held until somebody decided.
    pub(crate) lost: usize,
    runs: usize,
    /// Runs that began after another of the same job was over.
    pub(crate) later_runs: usize,
    closest: Option<Duration>,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.trials += other.trials;
        self.jobs += other.jobs;
        self.contained += other.contained;
        self.completed += other.completed;
        self.failed += other.failed;
        self.lost += other.lost;
        self.runs += other.runs;
        self.later_runs += other.later_runs;
        self.closest = self.closest.into_iter().chain(other.closest).min();
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trials, jobs, contained, completed, failed, lost, runs, later_runs, closest } = self;
        write!(
            f,
            "{trials} trials with {jobs} jobs, {contained} of them in containers: {completed} completed, {failed} failed, {lost} held; {runs} runs, \
             {later_runs} of them after another of the same job"
        )?;
        closest.map_or(Ok(()), |gap| write!(f, ", the closest {} ms after it", gap.as_millis()))
    }
}

/// Does so many trials, in several places side by side, with leases of this length. A busy machine needs longer
/// ones: a host that gets no time to renew them loses its runs as well. With a Podman service, which must have the
/// witness, about half of the jobs run in containers.
///
/// # Panics
/// When a promise was broken.
pub(crate) fn trials(
    count: usize,
    worlds: usize,
    lease: Duration,
    podman: Option<&Service>,
    rng: &mut StdRng,
) -> Tally {
    let mut all = Tally::default();
    std::thread::scope(|scope| {
        let worlds: Vec<_> = (0..worlds)
            .map(|world| {
                let mut rng = StdRng::seed_from_u64(rng.random());
                let share = count / worlds + usize::from(world < count % worlds);
                scope.spawn(move || World::new(world, lease, podman).go_through(share, &mut rng))
            })
            .collect();
        for world in worlds {
            match world.join() {
                Ok(tally) => all.add(&tally),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    if let Some(podman) = podman {
        wait_until("no container is left", LONG, || podman.containers().is_empty().then_some(()));
    }
    println!("{all}");
    all
}

/// A coordinator and two hosts, each with a cable of its own.
struct World<'a> {
    number: usize,
    lease: Duration,
    podman: Option<&'a Service>,
    hosts: [Host; 2],
    node: Coordinator,
    network: Network,
    dir: tempfile::TempDir,
    trials: usize,
}

/// A job of a trial.
struct Job {
    id: String,
    on_lost: OnLost,
    work: Work,
    file: PathBuf,
    mark: String,
}

impl<'a> World<'a> {
    fn new(number: usize, lease: Duration, podman: Option<&'a Service>) -> Self {
        let dir = shared_dir(podman);
        let network = Network::new(3);
        let node = Options::default()
            .env("SKYCLAW_LEASE_MS", lease.as_millis().to_string())
            .env("SKYCLAW_COORDINATOR_HOST", network.address(0).to_string())
            .within(&network.namespace(0))
            .start();
        let program = witness::program();
        let mounts = format!("{}:rw", dir.path().display());
        let host = |at: usize| {
            let of_podman = podman.into_iter().flat_map(|podman| {
                let settings = podman.settings(&format!("{number}-{}", HOSTS[at]));
                settings
                    .into_iter()
                    .chain([Service::both_images(), ("SKYCLAW_PODMAN_MOUNTS", mounts.clone())])
            });
            let of_podman: Vec<_> = of_podman.collect();
            let of_podman = of_podman.iter().map(|(name, value)| (*name, value.as_str()));
            let usual = [
                ("SKYCLAW_ALLOWED_COMMANDS", program.as_str()),
                ("SKYCLAW_MAX_PARALLEL", "16"),
                ("SKYCLAW_CAPABILITIES", "shell"),
            ];
            let extra: Vec<_> = of_podman.chain(usual).collect();
            Host::start_within(&network.namespace(at + 1), &node.url(), HOSTS[at], &extra)
        };
        let hosts = [host(0), host(1)];
        let this = Self { number, lease, podman, hosts, node, network, dir, trials: 0 };
        let kind = if podman.is_some() { "podman" } else { "process" };
        for name in HOSTS {
            wait_until("the host has registered with all it can do", LONG, || {
                let told = this.wire().get(&format!("/v1/hosts/{name}")).send();
                let can = (told.status == 200).then(|| told.json()["host"]["enforces"]["can"].take())?;
                can.as_array()?.contains(&json!(kind)).then_some(())
            });
        }
        this
    }

    fn wire(&self) -> Wire {
        self.node.wire()
    }

    fn go_through(mut self, count: usize, rng: &mut StdRng) -> Tally {
        let (mut tally, mut files) = (Tally::default(), Vec::new());
        for _ in 0..count {
            let jobs = self.trial(rng, &mut tally);
            files.extend(jobs.into_iter().map(|job| (job.file.clone(), witness::runs(&job.file))));
        }
        for (file, runs) in files {
            assert_eq!(
                witness::runs(&file),
                runs,
                "a run went on after its job had ended: {}",
                file.display()
            );
        }
        // They give back what they had made ahead.
        self.hosts.iter_mut().for_each(Host::terminate);
        tally
    }

    fn trial(&mut self, rng: &mut StdRng, tally: &mut Tally) -> Vec<Job> {
        self.trials += 1;
        let victim = rng.random_range(0..HOSTS.len());
        let other = HOSTS[1 - victim];
        let work = JOBS.map(|(_, kind)| Work { kind, contained: self.podman.is_some() && rng.random() });
        let blows = Blows::draw(&work, rng);
        println!("{}.{}: {}: {work:?} {blows:?}", self.number, self.trials, HOSTS[victim]);
        // All of it begins on the one host, and then the other is ready to take it.
        self.wire().post(&format!("/v1/hosts/{other}/drain"), &json!({})).ok();
        let jobs: Vec<Job> = (0..JOBS.len()).map(|at| self.submit(at, work[at])).collect();
        let keepers: Vec<Keepers> = jobs.iter().map(|job| self.begun(job, victim)).collect();
        self.wire().post(&format!("/v1/hosts/{other}/undrain"), &json!({})).ok();
        let place = (&self.network, victim + 1);
        let how_long = u64::try_from((self.lease * 2).as_millis()).expect("a number");
        blows.fall(&mut self.hosts[victim], place, &keepers, (WHEN, 100..how_long), rng);
        let records = self.settled(&jobs);
        tally.trials += 1;
        for (at, (job, record)) in jobs.iter().zip(&records).enumerate() {
            let runs = witness::runs(&job.file).unwrap_or_else(|fault| panic!("{fault}; the job: {record}"));
            assert_promises(job, record, &runs, &blows, at);
            count(tally, record, &runs);
            tally.contained += usize::from(job.work.contained);
            if record["status"] == "lost" {
                let _ = skyctl(&self.node.url(), &["job", "resolve", &job.id, "--fail"]).ok();
            }
        }
        jobs
    }

    /// How long a run takes: longer than it is until another host may have what was lost at the last moment.
    fn run(&self) -> Duration {
        let begin = if self.podman.is_some() { CONTAINERS } else { Duration::ZERO };
        Duration::from_millis(WHEN.end) + self.lease + Duration::from_secs(2) + begin
    }

    fn submit(&self, at: usize, work: Work) -> Job {
        let on_lost = JOBS[at].0;
        // Nothing else on this machine is called so.
        let mark = format!("witness-{}-{}-{}-{at}", std::process::id(), self.number, self.trials);
        let file = self.dir.path().join(&mark);
        let mut body = if work.contained {
            witness::contained(&file, self.run(), work.kind, &mark)
        } else {
            json!({"payload": witness::payload(&file, self.run(), work.kind, &mark)})
        };
        body["onLost"] = json!(format!("{on_lost:?}").to_lowercase());
        let id = id(&self.wire().enqueue_with(&body));
        Job { id, on_lost, work, file, mark }
    }

    /// Waits until a job has begun, and says who keeps its run.
    fn begun(&self, job: &Job, host: usize) -> Keepers {
        wait_until("the job has begun", LONG, || {
            let runs = witness::runs(&job.file).unwrap_or_else(|fault| panic!("{fault}"));
            self.hosts[host].keepers(&runs.first()?.run)
        })
    }

    /// Waits until nothing of the jobs runs or is still to be told, and gives them as they are then.
    fn settled(&self, jobs: &[Job]) -> Vec<Value> {
        let record = |job: &Job| self.wire().job(&job.id);
        let is_over = |record: &Value| !matches!(record["status"].as_str(), Some("queued" | "leased"));
        for job in jobs {
            wait_until("the job has ended", LONG, || is_over(&record(job)).then_some(()));
        }
        let marks: Vec<&str> = jobs.iter().map(|job| job.mark.as_str()).collect();
        for host in &self.hosts {
            let mut left = Vec::new();
            let start = std::time::Instant::now();
            while start.elapsed() < LONG {
                left = host.left(&marks);
                if left.is_empty() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            assert!(left.is_empty(), "left of runs that are over: {left:#?}");
        }
        jobs.iter().map(record).collect()
    }
}

/// Where the jobs write, in containers too, whoever they are there.
fn shared_dir(podman: Option<&Service>) -> tempfile::TempDir {
    let builder = || tempfile::Builder::new();
    let dir = match podman {
        Some(podman) => builder().prefix("shared-").tempdir_in(podman.dir()),
        None => builder().tempdir(),
    };
    let dir = dir.expect("a temporary directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("its mode");
    dir
}

fn count(tally: &mut Tally, record: &Value, runs: &[Run]) {
    tally.jobs += 1;
    match record["status"].as_str() {
        Some("completed") => tally.completed += 1,
        Some("lost") => tally.lost += 1,
        _ => tally.failed += 1,
    }
    tally.runs += runs.len();
    tally.later_runs += runs.len().saturating_sub(1);
    tally.closest = tally.closest.into_iter().chain(witness::gaps(runs)).min();
}

/// What a job promises about how it ends. It was spared, or who kept it was hit, or neither.
fn assert_promises(job: &Job, record: &Value, runs: &[Run], blows: &Blows, at: usize) {
    let (spared, keepers_hit) = (blows.spares(at), blows.hits_keepers_of(at));
    let last = runs.last().unwrap_or_else(|| panic!("it never ran: {record}"));
    let status = record["status"].as_str().unwrap_or_default();
    if spared || status == "completed" {
        assert_eq!((status, &record["result"]["exitCode"]), ("completed", &json!(0)), "{record}");
        assert_eq!(record["result"]["stdout"], format!("done {}\n", last.fence), "{record}");
    }
    if spared || job.on_lost != OnLost::Retry {
        assert_eq!((runs.len(), &record["attempts"]), (1, &json!(1)), "it ran again: {record}");
    }
    let error = record["error"].as_str().unwrap_or_default();
    // Its first process was ended as by itself: nobody who is asked knows who killed it.
    let launcher_killed = blows.keeping[at].launcher == Blow::Killed && error == "exited with code 137";
    let lost_its_keepers =
        launcher_killed || keepers_hit && (error.contains("was killed") || error.contains("were killed"));
    let promised = match (status, job.on_lost) {
        ("completed", _) | ("lost", OnLost::Hold) => true,
        // Whoever kills what keeps a run has ended the run, which is the job's own misfortune.
        ("failed", OnLost::Retry | OnLost::Hold) => lost_its_keepers,
        ("failed", OnLost::Fail) => !error.is_empty(),
        _ => false,
    };
    assert!(promised, "no end that was promised: {record}");
}
