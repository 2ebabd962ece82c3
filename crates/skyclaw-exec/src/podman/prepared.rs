//! A container that waits to be told what to run: made, initialised, bound, and with nothing of a job in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat2};
use serde::Deserialize;

use super::container::Shape;
use super::driver::{Inner, PREFIX, blocking};
use super::enforcement::Holder;
use super::proc::{Proc, argument, can_gain_privileges};
use super::{Error, Identity, Mount};
use crate::Resources;
use crate::cgroup::{Cgroups, Group, Member, Wanted, Watch};

/// How long a runtime may take to bind a process between its start and its first program.
const BIND_PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked at.
const STEP: Duration = Duration::from_millis(1);

/// Keeps a run from being swept for as long as this daemon has something to do with it.
#[derive(Debug)]
pub(crate) struct Claim {
    inner: Arc<Inner>,
    run: String,
}

impl Claim {
    pub(crate) fn new(inner: &Arc<Inner>, run: String) -> Self {
        inner.claim(&run);
        Self { inner: Arc::clone(inner), run }
    }

    pub(crate) fn run(&self) -> &str {
        &self.run
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.inner.release(&self.run);
    }
}

/// A container that is ready to become a run.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) claim: Claim,
    pub(crate) container: String,
    pub(crate) main: Proc,
    pub(crate) conmon: Proc,
    pub(crate) exit_file: Option<PathBuf>,
    /// Where its monitor has the socket for its output.
    pub(crate) bundle: Option<PathBuf>,
    pub(crate) groups: Vec<Group>,
    pub(crate) watch: Option<Watch>,
    /// Whether its process is known to be unable to gain privileges.
    pub(crate) bound: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Made {
    id: String,
    #[serde(default)]
    warnings: Option<Vec<String>>,
}

/// What Podman says of a container.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Inspected {
    pub(crate) state: State,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct State {
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) pid: u32,
    #[serde(default)]
    pub(crate) conmon_pid: u32,
    #[serde(default)]
    pub(crate) exit_code: i32,
}

impl Prepared {
    /// Makes one. If this fails, nothing of it is left; if it is given up half-way, a sweep clears it away.
    pub(crate) async fn make(
        inner: &Arc<Inner>,
        shape: &Shape,
        identity: Option<&Identity>,
    ) -> Result<Self, Error> {
        let claim = Claim::new(inner, format!("{PREFIX}{}", uuid::Uuid::new_v4().simple()));
        let run = claim.run().to_owned();
        let groups = {
            let (inner, run, agent) = (Arc::clone(inner), run.clone(), shape.agent.clone());
            blocking("make a folder", move || {
                inner.folders.create(&run)?;
                let Holder::Own(cgroups) = &inner.holder else { return Ok(Vec::new()) };
                let agent = agent.as_ref().map(|agent| (agent.id.as_str(), agent.limits));
                let (member, resources) = (Member::Container, Resources::default());
                cgroups.make(&Wanted { run: &run, member, resources, agent }).map_err(Error::from_groups)
            })
            .await
        };
        let mut container = String::new();
        let made = match groups.as_ref() {
            Ok(groups) => {
                Self::make_container(inner, shape, identity, claim, groups.clone(), &mut container).await
            }
            Err(_) => Err(Error::Unbound { missing: "its control group".to_owned() }),
        };
        match (made, groups) {
            (Ok(made), _) => Ok(made),
            (Err(error), groups) => {
                let (error, groups) = match groups {
                    Ok(groups) => (error, groups),
                    Err(first) => (first, Vec::new()),
                };
                // By its name: the call that made it may have been the one whose answer was lost.
                let known = if container.is_empty() { &run } else { &container };
                if let Err(left) = inner.remove(known, &run, groups).await {
                    tracing::warn!(
                        run,
                        error = left.describe(),
                        "what was half made could not be removed; the next sweep does"
                    );
                }
                Err(error)
            }
        }
    }

    async fn make_container(
        inner: &Arc<Inner>,
        shape: &Shape,
        identity: Option<&Identity>,
        claim: Claim,
        groups: Vec<Group>,
        container: &mut String,
    ) -> Result<Self, Error> {
        let what = "make a container";
        let body = inner.body(shape, claim.run(), &groups, identity);
        let answer = inner.http.post(what, "/containers/create", Some(&body)).await?;
        let made: Made = serde_json::from_slice(&answer)
            .map_err(|error| Error::Answer { what: what.to_owned(), fault: error.to_string() })?;
        container.clone_from(&made.id);
        for warning in made.warnings.unwrap_or_default() {
            tracing::debug!(run = claim.run(), warning, "Podman warns");
        }
        inner.http.post("initialise a container", &format!("/containers/{container}/init"), None).await?;
        let state = inner.inspect(container).await?.state;
        let opened = |pid, whose: &str| {
            Proc::open(pid)
                .map_err(|_| Error::Unbound { missing: format!("its {whose} ended before it began") })
        };
        let (main, conmon) = (opened(state.pid, "process")?, opened(state.conmon_pid, "monitor")?);
        if !main.is_child_of(&conmon) {
            return Err(Error::Unbound { missing: "its process is not its monitor's".to_owned() });
        }
        let bound = can_gain_privileges(state.pid) == Some(false);
        let exit_file = exit_file(state.conmon_pid, container);
        let bundle = super::kept::bundle(state.conmon_pid);
        let main_id = main.id().pid;
        let (watching, mounts) = (Arc::clone(inner), shape.mounts.clone());
        let (groups, watch) = blocking("watch a container", move || {
            mounts.iter().try_for_each(|mount| verify(mount, state.pid))?;
            match &watching.holder {
                Holder::Own(_) => {
                    let watch = Watch::new(&groups).map_err(Error::from_groups)?;
                    Ok((groups, Some(watch)))
                }
                // The container's own, whose counters are read as it ends.
                Holder::Podman => Ok((Cgroups::of_process(main_id), None)),
                Holder::Nobody => Ok((Vec::new(), None)),
            }
        })
        .await?;
        Ok(Self { claim, container: made.id, main, conmon, exit_file, bundle, groups, watch, bound })
    }

    /// Whether it can still become a run.
    pub(crate) fn is_alive(&self) -> bool {
        self.main.is_alive() && self.conmon.is_alive()
    }

    /// Removes it.
    pub(crate) async fn discard(self, inner: &Arc<Inner>) {
        let run = self.claim.run();
        if let Err(error) = inner.remove(&self.container, run, self.groups).await {
            tracing::warn!(
                run,
                error = error.describe(),
                "a container made ahead could not be removed; the next sweep does"
            );
        }
    }
}

/// Where the monitor writes the exit code, as it was told by Podman, if this daemon can read there.
pub(crate) fn exit_file(conmon: u32, container: &str) -> Option<PathBuf> {
    let dir = PathBuf::from(argument(conmon, "--exit-dir")?);
    fs::read_dir(&dir).is_ok().then(|| dir.join(container))
}

/// Some runtimes bind a process only just before its first program, which is the launcher: that looks as well,
/// and starts nothing that is not bound.
pub(crate) async fn see_it_bound(main: &Proc) -> Result<(), Error> {
    let seen = async {
        while can_gain_privileges(main.id().pid.unsigned_abs()) == Some(true) && main.is_alive() {
            tokio::time::sleep(STEP).await;
        }
    };
    let late = tokio::time::timeout(BIND_PATIENCE, seen).await;
    late.map_err(|_| Error::Unbound { missing: "it could gain privileges".to_owned() })
}

/// Whether what is mounted is what was judged: a part of its path could have been made a link meanwhile.
fn verify(mount: &Mount, pid: u32) -> Result<(), Error> {
    let judged =
        openat2(CWD, &mount.source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_SYMLINKS)
            .and_then(fstat);
    let target = mount.target.strip_prefix("/").unwrap_or(&mount.target);
    let inside = Path::new("/proc").join(pid.to_string()).join("root").join(target);
    let found = openat2(CWD, &inside, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::empty())
        .and_then(fstat);
    match (judged, found) {
        (Ok(judged), Ok(found)) if (judged.st_dev, judged.st_ino) == (found.st_dev, found.st_ino) => Ok(()),
        (_, Err(error)) => Err(Error::refused(
            "mounts",
            format!("{} cannot be verified in the container: {error}", mount.target.display()),
        )),
        _ => Err(Error::refused(
            "mounts",
            format!("{} was changed while the container was made", mount.source.display()),
        )),
    }
}
