//! A run in a container, from its start to its end.
//!
//! ```text
//! Prepared ──launch written──> attached ──start──> runs ──┬─ its process ends ──> code from the monitor
//!                                                         └─ its monitor ends ──> killed, lost
//! ```
//!
//! Neither the Podman service nor this daemon need be there while it runs: the monitor (conmon) writes its
//! exit code down. A [`Run`] that is dropped runs on; [`crate::podman::Podman::adopt`] takes it up again.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::driver::{Inner, Plan, blocking};
use super::enforcement::Holder;
use super::folder::{FORM, Record};
use super::prepared::{Claim, Prepared, see_it_bound};
use super::proc::Proc;
use super::{Error, Identity, Limits, Output, Spec};
use crate::cgroup::{Cgroups, Group, Spent, Watch};

/// How long the exit code is waited for after the process is gone. The monitor writes it within
/// milliseconds, unless it hangs or was stopped.
const CODE_PATIENCE: Duration = Duration::from_secs(10);
/// How long it is asked for where only the service can tell, and the service is away.
const SERVICE_PATIENCE: Duration = Duration::from_secs(60);
/// How often a service may say that a container runs whose process and monitor are gone, before it is not
/// believed any more.
const BELIEVED: u32 = 8;
/// How often it is looked for.
const STEP: Duration = Duration::from_millis(1);
/// How much more a container's own group may have on version 1 than its run's: so it is the run's that runs
/// out first, which is where that is told after the container is gone.
const SLACK_BYTES: u64 = 64 << 10;
/// As shells give it after SIGKILL.
const KILLED: i32 = 137;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// With a code; 128 and the number of the signal after a signal.
    Code(i32),
    /// It is gone for sure, but its code is not known, and why.
    Lost(String),
}

/// What a run used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Time of CPUs.
    pub cpu: Option<Duration>,
    /// The most memory it had at once, in bytes.
    pub peak_memory_bytes: Option<u64>,
}

/// All there is to say about a run that is over and cleared away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How it ended.
    pub exit: Exit,
    /// What it used, as far as this machine can tell.
    pub usage: Usage,
    /// Whether memory ran out within its bound, or its agent's. Never said where limits are not held.
    pub out_of_memory: bool,
}

/// A run that was started.
#[derive(Debug)]
pub struct Run {
    inner: Arc<Inner>,
    claim: Claim,
    container: String,
    identity: Identity,
    limits: Limits,
    in_force: Vec<String>,
    main: Option<Proc>,
    conmon: Option<Proc>,
    exit_file: Option<PathBuf>,
    groups: Vec<Group>,
    watch: Option<Watch>,
    cpu_before: Duration,
    output: Option<Output>,
    killed: AtomicBool,
    /// Read as the process ends, where the counters go with it.
    counted: OnceLock<(Usage, u64)>,
}

impl Run {
    pub(crate) async fn start(
        inner: &Arc<Inner>,
        prepared: Prepared,
        spec: Spec,
        plan: &Plan,
    ) -> Result<Self, Error> {
        let Prepared { claim, container, main, conmon, exit_file, bundle: _, groups, watch, bound } =
            prepared;
        let mut run = Self {
            inner: Arc::clone(inner),
            claim,
            container,
            identity: spec.identity.clone(),
            limits: plan.limits,
            in_force: plan.in_force.clone(),
            main: Some(main),
            conmon: Some(conmon),
            exit_file,
            groups,
            watch,
            cpu_before: Duration::ZERO,
            output: None,
            killed: AtomicBool::new(false),
            counted: OnceLock::new(),
        };
        match run.begin(spec, plan, bound).await {
            Ok(()) => Ok(run),
            Err(error) => {
                // It may have started although the answer was lost.
                run.signal_directly(Signal::SIGKILL);
                if let Err(left) = inner.remove(&run.container, run.claim.run(), run.groups.clone()).await {
                    tracing::warn!(
                        run = run.id(),
                        error = left.describe(),
                        "a run that did not start could not be removed; the next sweep does"
                    );
                }
                Err(error)
            }
        }
    }

    async fn begin(&mut self, spec: Spec, plan: &Plan, bound: bool) -> Result<(), Error> {
        let pid = self.main.as_ref().map_or(0, |main| main.id().pid.unsigned_abs());
        let (inner, image, limits) = (Arc::clone(&self.inner), plan.image.clone(), self.limits);
        let mut record = self.record(&spec)?;
        let run = self.id().to_owned();
        let written = blocking("write down a run", move || {
            inner.folders.write_launch(&run, &spec, &image, false)?;
            if matches!(inner.holder, Holder::Own(_)) {
                limit(pid.cast_signed(), &record.groups, limits).map_err(Error::from_groups)?;
                let before = Spent::of(&record.groups).cpu.unwrap_or_default();
                record.cpu_before_ns = u64::try_from(before.as_nanos()).unwrap_or_default();
            }
            inner.folders.write_record(&run, &record)?;
            Ok(record)
        });
        let attach =
            format!("/containers/{}/attach?stream=true&stdin=false&stdout=true&stderr=true", self.container);
        let (written, stream) =
            tokio::try_join!(written, self.inner.http.upgrade("attach to a container", &attach))?;
        self.cpu_before = Duration::from_nanos(written.cpu_before_ns);
        self.output = Some(Output::new(stream));
        self.inner
            .http
            .post("start a container", &format!("/containers/{}/start", self.container), None)
            .await?;
        match &self.main {
            Some(main) if !bound => see_it_bound(main).await,
            _ => Ok(()),
        }
    }

    fn record(&self, spec: &Spec) -> Result<Record, Error> {
        let missing = || Error::Unbound { missing: "its process".to_owned() };
        Ok(Record {
            form: FORM,
            container: self.container.clone(),
            identity: self.identity.clone(),
            agent: spec.agent.as_ref().map(|agent| agent.id.clone()),
            limits: self.limits,
            in_force: self.in_force.clone(),
            main: self.main.as_ref().ok_or_else(missing)?.id(),
            conmon: self.conmon.as_ref().ok_or_else(missing)?.id(),
            exit_file: self.exit_file.clone(),
            groups: self.groups.clone(),
            cpu_before_ns: 0,
        })
    }

    pub(crate) async fn adopt(inner: &Arc<Inner>, run: &str) -> Result<Self, Error> {
        // Its name becomes a path: only what this driver could have made.
        if !run.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(Error::Gone { run: run.to_owned(), why: "no run has such a name".to_owned() });
        }
        let claim = Claim::new(inner, run.to_owned());
        let (reader, name) = (Arc::clone(inner), run.to_owned());
        let record = blocking("read a record", move || reader.folders.read_record(&name)).await?;
        let state = inner.inspect(&record.container).await.map_err(|error| match error {
            error if error.is_not_found() => {
                Error::Gone { run: run.to_owned(), why: "Podman no longer has its container".to_owned() }
            }
            error => error,
        })?;
        if matches!(state.state.status.as_str(), "created" | "configured" | "initialized") {
            return Err(Error::Gone { run: run.to_owned(), why: "it was never started".to_owned() });
        }
        let watch = match &inner.holder {
            // What happened before is seen in the counters of the group.
            Holder::Own(_) => Watch::new(&record.groups).ok(),
            Holder::Podman | Holder::Nobody => None,
        };
        Ok(Self {
            inner: Arc::clone(inner),
            claim,
            container: record.container,
            identity: record.identity,
            limits: record.limits,
            in_force: record.in_force,
            main: Proc::reopen(record.main),
            conmon: Proc::reopen(record.conmon),
            exit_file: record.exit_file,
            groups: record.groups,
            watch,
            cpu_before: Duration::from_nanos(record.cpu_before_ns),
            output: None,
            killed: AtomicBool::new(false),
            counted: OnceLock::new(),
        })
    }

    /// Its name on this host, by which it is adopted; also the name of its container.
    #[must_use]
    pub fn id(&self) -> &str {
        self.claim.run()
    }

    /// The container's id.
    #[must_use]
    pub fn container(&self) -> &str {
        &self.container
    }

    /// Whose it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What it may use.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// What holds for it, in words.
    #[must_use]
    pub fn in_force(&self) -> &[String] {
        &self.in_force
    }

    /// The id, on the host, of the first process in the container; `None` when that had ended before this
    /// daemon took the run up.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.main.as_ref().map(|main| main.id().pid.unsigned_abs())
    }

    /// The id of the process that watches it (conmon).
    #[must_use]
    pub fn conmon_pid(&self) -> Option<u32> {
        self.conmon.as_ref().map(|conmon| conmon.id().pid.unsigned_abs())
    }

    /// Where the monitor writes the exit code, which is all the file holds; `None` where it cannot be read.
    #[must_use]
    pub fn exit_file(&self) -> Option<&std::path::Path> {
        self.exit_file.as_deref()
    }

    /// Its output from the start on. There is none for a run that was taken up again: see
    /// [`Run::logged`].
    pub fn take_output(&mut self) -> Option<Output> {
        self.output.take()
    }

    /// What Podman kept of its output, which is the end of it, within the host's bound.
    ///
    /// # Errors
    /// When Podman does not answer.
    pub async fn logged(&self) -> Result<Output, Error> {
        let path = format!("/containers/{}/logs?stdout=true&stderr=true", self.container);
        let bytes = self.inner.http.get_bytes("give what a container wrote", &path).await?;
        Ok(Output::new(std::io::Cursor::new(bytes)))
    }

    /// Waits for the end, whatever becomes of the service. Then no process of it is left. Cancel-safe; may
    /// be called again.
    ///
    /// A run whose monitor ends is killed: nobody would hear of its end.
    pub async fn wait(&self) -> Exit {
        if let Some(main) = &self.main {
            let lost = tokio::select! {
                biased;
                () = main.ended() => false,
                () = monitor_ended(self.conmon.as_ref()) => main.is_alive(),
            };
            if lost {
                self.kill_and_wait(main).await;
                self.count();
                return Exit::Lost(
                    "the process that watched the container (conmon) ended, so the container was killed"
                        .to_owned(),
                );
            }
        }
        self.count();
        if self.exit_file.is_some()
            && let Some(code) = self.written_code().await
        {
            return Exit::Code(code);
        }
        self.asked_code().await
    }

    async fn kill_and_wait(&self, main: &Proc) {
        self.kill().await;
        main.ended().await;
    }

    /// The code that the monitor wrote down.
    async fn written_code(&self) -> Option<i32> {
        let path = self.exit_file.as_ref()?;
        let read = || std::fs::read_to_string(path).ok()?.trim().parse::<i32>().ok();
        let found = async {
            loop {
                // Asked for first, so that what it wrote last is found.
                let over = !self.conmon.as_ref().is_some_and(Proc::is_alive);
                match read() {
                    None if !over => tokio::time::sleep(STEP).await,
                    found => return found,
                }
            }
        };
        tokio::time::timeout(CODE_PATIENCE, found).await.ok().flatten()
    }

    /// The code that the service knows, when it is there again.
    async fn asked_code(&self) -> Exit {
        let mut away = "the Podman service does not say how it ended".to_owned();
        let asked = async {
            let (mut pause, mut believed) = (Duration::from_millis(5), 0);
            loop {
                match self.inner.inspect(&self.container).await {
                    Ok(found) if matches!(found.state.status.as_str(), "exited" | "stopped") => {
                        return Exit::Code(found.state.exit_code);
                    }
                    Ok(_) if self.conmon.as_ref().is_some_and(Proc::is_alive) => {}
                    Ok(_) => believed += 1,
                    Err(error) if error.is_passing() => away = error.describe(),
                    Err(error) => return Exit::Lost(error.describe()),
                }
                if believed == BELIEVED {
                    return Exit::Lost(
                        "its monitor (conmon) ended without writing its exit code down".to_owned(),
                    );
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        };
        match tokio::time::timeout(SERVICE_PATIENCE, asked).await {
            Ok(exit) => exit,
            Err(_) => Exit::Lost(away),
        }
    }

    /// Asks it to end (SIGTERM), waits at most for `grace`, and kills what is left of it.
    pub async fn stop(&self, grace: Duration) -> Exit {
        self.terminate().await;
        if let Ok(exit) = tokio::time::timeout(grace, self.wait()).await {
            return exit;
        }
        self.kill().await;
        self.wait().await
    }

    /// Asks it to end, and returns at once.
    pub async fn terminate(&self) {
        self.signal(Signal::SIGTERM).await;
    }

    /// Kills every process in it: they end with the first. Needs no service.
    pub async fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
        self.signal(Signal::SIGKILL).await;
    }

    /// Directly if possible, which takes no time and nobody's help; through the service if not.
    async fn signal(&self, signal: Signal) {
        if self.signal_directly(signal) {
            return;
        }
        let path = format!("/containers/{}/kill?signal={}", self.container, signal.as_str());
        if let Err(error) = self.inner.http.post("signal a container", &path, None).await {
            tracing::warn!(run = self.id(), error = error.describe(), "a run could not be signalled");
        }
    }

    fn signal_directly(&self, signal: Signal) -> bool {
        // One that is not there any more needs no signal.
        self.main.as_ref().is_none_or(|main| !main.is_alive() || main.signal(signal).is_ok())
    }

    fn count(&self) {
        self.counted.get_or_init(|| {
            let spent = Spent::of(&self.groups);
            (Usage { cpu: spent.cpu, peak_memory_bytes: spent.peak_memory_bytes }, spent.oom_kills)
        });
    }

    /// Says what the run came to, and clears all of it away. To be called when [`Run::wait`] has ended; one
    /// that still runs is killed.
    ///
    /// # Errors
    /// With the report, when something could not be cleared away: it may be tried again by a sweep.
    pub async fn finish(self, exit: Exit) -> (Report, Result<(), Error>) {
        if let Some(main) = self.main.as_ref().filter(|main| main.is_alive()) {
            self.kill_and_wait(main).await;
        }
        self.count();
        let (mut usage, kills) = self.counted.get().copied().unwrap_or_default();
        usage.cpu = usage.cpu.map(|cpu| cpu.saturating_sub(self.cpu_before));
        let told = self.watch.as_ref().is_some_and(|watch| watch.times() > 0);
        let by_the_kernel = exit == Exit::Code(KILLED) && !self.killed.load(Ordering::Relaxed);
        let full = matches!(self.inner.holder, Holder::Own(_)) && self.groups.iter().any(Group::was_full);
        let report = Report { exit, usage, out_of_memory: kills > 0 || told || (full && by_the_kernel) };
        let cleared = self.inner.remove(&self.container, self.claim.run(), self.groups.clone()).await;
        (report, cleared)
    }
}

/// Bounds a run, and the container's own group as well, where what runs in it can read it.
pub(super) fn limit(pid: i32, groups: &[Group], limits: Limits) -> std::io::Result<()> {
    for group in groups {
        group.limit(&limits, 0)?;
        group.reset_peak();
    }
    let shown = Limits { pids: None, ..limits };
    Cgroups::of_process(pid).iter().try_for_each(|group| group.limit(&shown, SLACK_BYTES))
}

async fn monitor_ended(conmon: Option<&Proc>) {
    if let Some(conmon) = conmon {
        conmon.ended().await;
    }
}
