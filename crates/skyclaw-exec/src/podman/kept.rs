//! A run in a container that a shim keeps, as it keeps a process.
//!
//! ```text
//! Prepared ── launch written ──> shim and guard hold it ── start ──> runs ──> record ──> cleared away
//!                                        │ nobody starts it: ended at its deadline
//! ```
//!
//! The daemon makes and starts the container, as only it speaks to the engine; from the moment it is started
//! until its record is on disk nothing is needed but its keepers. What is left then, the container and its
//! folder, is the daemon's to clear away.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::libc;

use super::driver::{Plan as Judged, Podman, blocking};
use super::enforcement::Holder;
use super::prepared::Prepared;
use super::{Error, Spec};
use crate::cgroup::{Group, Spent};
use crate::environment::RUN_ID;
use crate::protocol::{Container, Kept, Plan};
use crate::record::{Event, What};
use crate::rundir::RunDir;
use crate::running::Label;
use crate::{Capture, Deadline, Driver, Running, StopSignal};

/// What the keepers of a run are told of it.
#[derive(Debug, Clone)]
pub struct Keep {
    /// Until when it may go on unless it is extended; `None` for as long as it takes.
    pub deadline: Option<Deadline>,
    /// What tells of later deadlines, for as long as the container is being made.
    pub extended: Option<StopSignal>,
    /// After how long it is stopped; `None` for never.
    pub timeout: Option<Duration>,
    /// How long it may take to end after it was asked to, before it is killed.
    pub grace: Duration,
    /// Which part of its output is kept.
    pub capture: Capture,
    /// What to add to the error when it ends by itself without success.
    pub hint: Option<String>,
    /// What whoever finds it again needs to know of it; kept on disk as long as the run.
    pub label: serde_json::Value,
}

/// What a shim needs of a container that was prepared.
struct Place {
    exit_file: PathBuf,
    bundle: PathBuf,
    groups: Vec<Group>,
    cpu_before: Duration,
}

impl Podman {
    /// Starts a run that a shim of `driver` keeps, in a container that was made ahead if there is one that
    /// fits. The driver finds it again like a process of its own; when it is over and was forgotten, what is
    /// left of it is to be [cleared](Podman::clear) away.
    ///
    /// # Errors
    /// When it is not allowed, cannot be bound as it must be, or cannot be started. Nothing of it is left
    /// then.
    pub async fn start_kept(&self, spec: Spec, keep: Keep, driver: &Driver) -> Result<Running, Error> {
        if let Some(halt) = driver.config().halt.as_ref().filter(|halt| halt.is_set()) {
            return Err(Error::Halted { why: halt.why.clone() });
        }
        let judged = self.inner.plan(&spec).await?;
        let (prepared, ahead) = match self.pool.take(&judged.shape).await {
            Some(prepared) => (prepared, true),
            None => (Prepared::make(&self.inner, &judged.shape, Some(&spec.identity)).await?, false),
        };
        let made = What::Image { name: spec.image.clone(), id: judged.image.id.clone(), ahead };
        // From here on it is somebody's until it is cleared away, whatever becomes of this call.
        let name = prepared.claim.run().to_owned();
        let (container, groups) = (prepared.container.clone(), prepared.groups.clone());
        self.inner.own(&name);
        let started = self.keep(prepared, spec, keep, &judged, made, driver).await;
        if started.is_err() {
            let removed = self.inner.remove(&container, &name, groups).await;
            self.inner.disown(&name);
            if let Err(left) = removed {
                tracing::warn!(
                    run = name,
                    error = left.describe(),
                    "a run that did not start could not be removed; the next sweep does"
                );
            }
        }
        started
    }

    async fn keep(
        &self,
        prepared: Prepared,
        mut spec: Spec,
        keep: Keep,
        judged: &Judged,
        made: What,
        driver: &Driver,
    ) -> Result<Running, Error> {
        let name = prepared.claim.run().to_owned();
        let runs = driver.config().runs_dir.clone();
        let id = RunDir::fresh_id();
        let keeper = |source| Error::Keeper { source };
        let shim = driver.shims().ask().map_err(keeper)?;
        let dir = blocking("make a folder", move || {
            RunDir::create_bare(&runs, id).map_err(|source| Error::Folder { path: runs, source })
        })
        .await?;
        spec.env.insert(RUN_ID.to_owned(), dir.id().to_owned());
        let kept = async {
            let place = self.place(&prepared, spec, judged).await?;
            let label = Label::new(keep.label.clone(), keep.capture, keep.hint.clone(), place.groups.clone());
            let mut plan = self.shims_plan(&prepared, &dir, keep, place, judged, made);
            plan.halt = driver.config().halt.clone();
            let label = label.in_container(&name);
            label.write(&dir).map_err(keeper)?;
            let shim = driver.shims().ready(shim, dir.id()).await.map_err(keeper)?;
            let started = Running::start(shim, &plan, dir.clone(), label);
            started.await.map_err(|source| match source.raw_os_error() {
                Some(libc::ETIME) => Error::TooLate,
                _ => Error::Keeper { source },
            })
        };
        let mut running = match kept.await {
            Ok(running) => running,
            Err(error) => {
                let _ = tokio::task::spawn_blocking(move || dir.remove()).await;
                return Err(error);
            }
        };
        match self.begin(&name, &prepared).await {
            Ok(()) => {
                running.began();
                Ok(running)
            }
            Err(error) => {
                // It may have started although the answer was lost.
                running.end().await.forget().await;
                Err(error)
            }
        }
    }

    /// Writes down what is to be run, and bounds the run.
    async fn place(&self, prepared: &Prepared, spec: Spec, judged: &Judged) -> Result<Place, Error> {
        let readable = |path: &Option<PathBuf>| {
            path.clone().ok_or_else(|| {
                let fault = "this daemon cannot read what their monitors write: run it as root, or as the user \
                             whose service it is";
                Error::refused("isolation", format!("containers cannot be kept here: {fault}"))
            })
        };
        let (exit_file, bundle) = (readable(&prepared.exit_file)?, readable(&prepared.bundle)?);
        let (inner, image, limits) = (Arc::clone(&self.inner), judged.image.clone(), judged.limits);
        let (name, groups, pid) =
            (prepared.claim.run().to_owned(), prepared.groups.clone(), prepared.main.id().pid);
        blocking("write down a run", move || {
            inner.folders.write_launch(&name, &spec, &image, true)?;
            if matches!(inner.holder, Holder::Own(_)) {
                super::run::limit(pid, &groups, limits).map_err(Error::from_groups)?;
            }
            let cpu_before = Spent::of(&groups).cpu.unwrap_or_default();
            Ok(Place { exit_file, bundle, groups, cpu_before })
        })
        .await
    }

    fn shims_plan(
        &self,
        prepared: &Prepared,
        dir: &RunDir,
        keep: Keep,
        place: Place,
        judged: &Judged,
        made: What,
    ) -> Plan {
        let Keep { mut deadline, timeout, grace, capture, extended, .. } = keep;
        // Making a container can take longer than a lease that is renewed meanwhile.
        if let (Some(deadline), Some(later)) = (&mut deadline, extended.and_then(|it| it.deadline())) {
            deadline.at = deadline.at.max(later);
        }
        let container = Container {
            main: prepared.main.id(),
            monitor: prepared.conmon.id(),
            exit_file: place.exit_file,
            bundle: place.bundle,
            life: self.inner.folders.life(prepared.claim.run()),
            cpu_before: place.cpu_before,
        };
        Plan {
            run: dir.id().to_owned(),
            control: dir.control(),
            kept: Kept::Container(Box::new(container)),
            slack: deadline.as_ref().map(|it| it.slack).unwrap_or_default(),
            why: deadline.as_ref().map(|it| it.why.clone()).unwrap_or_default(),
            deadline: deadline.map(|it| it.at),
            timeout,
            grace,
            capture,
            groups: place.groups,
            in_force: judged.in_force.clone(),
            events: vec![Event::now(made)],
            halt: None,
        }
    }

    /// Starts a container that its keepers have.
    async fn begin(&self, name: &str, prepared: &Prepared) -> Result<(), Error> {
        let what = "start a container";
        self.inner.http.post(what, &format!("/containers/{name}/start"), None).await?;
        if prepared.bound { Ok(()) } else { super::prepared::see_it_bound(&prepared.main).await }
    }

    /// Takes up again what an earlier daemon started, or was about to.
    ///
    /// # Errors
    /// When it was not started yet and cannot be now.
    pub async fn take_up(&self, running: &mut Running) -> Result<(), Error> {
        let Some(name) = running.container().map(str::to_owned) else { return Ok(()) };
        self.inner.own(&name);
        if running.has_begun() {
            return Ok(());
        }
        // "Already so" is as good.
        self.inner.http.post("start a container", &format!("/containers/{name}/start"), None).await?;
        running.began();
        Ok(())
    }

    /// Clears away what is left of a run that is over: its container, folder and control groups.
    ///
    /// # Errors
    /// When Podman does not answer, or something cannot be removed: it may be tried again by a sweep.
    pub async fn clear(&self, name: &str) -> Result<(), Error> {
        if !super::sweep::is_run(name) {
            return Err(Error::Gone { run: name.to_owned(), why: "no run has such a name".to_owned() });
        }
        // Its groups are found by its name.
        let cleared = self.inner.remove(name, name, Vec::new()).await;
        self.inner.disown(name);
        cleared
    }

    /// Whether anything could run here: nothing does without a filter of system calls.
    ///
    /// # Errors
    /// Why nothing can.
    pub fn check_filter(&self) -> Result<(), Error> {
        match self.enforcement().is_in_force("seccomp") {
            true => Ok(()),
            false => Err(Error::refused(
                "isolation",
                "this Podman was built without seccomp, and nothing runs without a filter of system calls",
            )),
        }
    }

    /// Whether the service answers.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn ping(&self) -> Result<(), Error> {
        self.inner.http.get_bytes("say that it is there", "/_ping").await.map(drop)
    }

    /// Which of the networks that the policy allows are not there.
    ///
    /// # Errors
    /// When the service does not answer.
    pub async fn missing_networks(&self) -> Result<BTreeSet<String>, Error> {
        let mut missing = BTreeSet::new();
        for name in self.inner.config.policy.networks.iter().filter(|name| *name != "host") {
            let path = format!("/networks/{}/exists", super::http::escaped(name));
            match self.inner.http.get_bytes("look for a network", &path).await {
                Ok(_) => {}
                Err(error) if error.is_not_found() => drop(missing.insert(name.clone())),
                Err(error) => return Err(error),
            }
        }
        Ok(missing)
    }
}

/// The directory in which a monitor has its sockets, if this daemon can look into it.
pub(crate) fn bundle(conmon: u32) -> Option<PathBuf> {
    let dir = PathBuf::from(super::proc::argument(conmon, "-b")?);
    can_enter(&dir).then_some(dir)
}

fn can_enter(dir: &std::path::Path) -> bool {
    let entered: io::Result<std::fs::ReadDir> = std::fs::read_dir(dir);
    entered.is_ok()
}
