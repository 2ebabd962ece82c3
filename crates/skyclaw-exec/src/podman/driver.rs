//! The driver of containers.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{Gid, Uid, geteuid};
use tokio::sync::watch;

use super::container::{self, Image, Place, Shape};
use super::enforcement::{Found, Holder, Service, probe};
use super::folder::Folders;
use super::http::Http;
use super::pool::{Pool, PoolConfig};
use super::prepared::{Inspected, Prepared};
use super::{Error, Policy, Run, Spec};
use crate::cgroup::Group;
use crate::enforce::Enforcement;

/// What names of runs begin with.
pub(crate) const PREFIX: &str = "skyclaw-";

/// How runs in Podman are run on this host.
#[derive(Debug, Clone)]
pub struct Config {
    /// The socket of the service.
    pub socket: PathBuf,
    /// Who owns what is made, and sweeps nothing else: a name that no other daemon of this machine has, the same
    /// as for plain processes ([`crate::Config::owner`]).
    pub owner: String,
    /// Where each run has its folder. Absolute; nobody else's; in memory (`/run/…`), as secrets lie there.
    pub runs_dir: PathBuf,
    /// Where the launcher is kept. Absolute; nobody else's; where programs may be executed.
    pub state_dir: PathBuf,
    /// What is allowed.
    pub policy: Policy,
    /// The ids that containers of the system's own service get, which must be nobody else's.
    pub ids: IdRange,
    /// How much of a run's output Podman keeps, in bytes.
    pub log_bytes: u64,
    /// What is made ahead.
    pub pool: PoolConfig,
}

/// A range of user and group ids of the host, for user namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// What a container's root is outside.
    pub first: u32,
    /// How many there are.
    pub count: u32,
}

impl Default for IdRange {
    /// Far above what `useradd` gives to users.
    fn default() -> Self {
        Self { first: 0x7000_0000, count: 65_536 }
    }
}

/// Runs containers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Podman {
    pub(crate) inner: Arc<Inner>,
    pub(crate) pool: Pool,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) http: Http,
    pub(crate) folders: Folders,
    pub(crate) enforcement: Enforcement,
    pub(crate) service: Service,
    pub(crate) holder: Holder,
    /// Runs that this daemon has something to do with: no sweep may touch them.
    claimed: watch::Sender<BTreeSet<String>>,
    /// The same of runs that shims keep, until they are cleared away.
    owned: watch::Sender<BTreeSet<String>>,
}

impl Podman {
    /// Finds out what this machine can do, and makes the folders. `tracker` has the task that makes
    /// containers ahead; it ends with the last clone of what is returned.
    ///
    /// # Errors
    /// When the service does not answer, or a folder cannot be made.
    pub async fn connect(config: Config, tracker: &tokio_util::task::TaskTracker) -> Result<Self, Error> {
        let http = Http::new(&config.socket);
        let Found { enforcement, holder, service: told } =
            probe(&http, &config.owner, config.policy.best_effort).await?;
        let (runs, state, service) =
            (config.runs_dir.clone(), config.state_dir.clone(), service(&config.socket));
        let folders = blocking("make its folders", move || Folders::make(&runs, &state, service)).await?;
        let inner = Arc::new(Inner {
            config,
            http,
            folders,
            enforcement,
            service: told,
            holder,
            claimed: watch::Sender::default(),
            owned: watch::Sender::default(),
        });
        let pool = Pool::start(Arc::clone(&inner), tracker);
        Ok(Self { inner, pool })
    }

    /// How runs are run.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// What this machine can enforce.
    #[must_use]
    pub fn enforcement(&self) -> &Enforcement {
        &self.inner.enforcement
    }

    /// The service that runs them.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.inner.service
    }

    /// Whether a run would be allowed here, without starting it.
    ///
    /// # Errors
    /// Names the field and the fault, or that Podman does not answer.
    pub async fn check(&self, spec: &Spec) -> Result<(), Error> {
        self.inner.plan(spec).await.map(drop)
    }

    /// Starts a run, in a container that was made ahead if there is one that fits.
    ///
    /// # Errors
    /// When it is not allowed, cannot be bound as it must be, or Podman cannot start it. Nothing of it is
    /// left then.
    pub async fn start(&self, spec: Spec) -> Result<Run, Error> {
        let plan = self.inner.plan(&spec).await?;
        let prepared = match self.pool.take(&plan.shape).await {
            Some(prepared) => prepared,
            None => Prepared::make(&self.inner, &plan.shape, Some(&spec.identity)).await?,
        };
        Run::start(&self.inner, prepared, spec, &plan).await
    }

    /// Takes up a run again that an earlier daemon has started.
    ///
    /// # Errors
    /// When there is no such run any more. [`Podman::sweep`] clears away what is left of it.
    pub async fn adopt(&self, run: &str) -> Result<Run, Error> {
        Run::adopt(&self.inner, run).await
    }

    /// The runs of this host of which there is a record, running or ended.
    ///
    /// # Errors
    /// When their folder cannot be read.
    pub async fn recorded(&self) -> Result<Vec<super::Found>, Error> {
        let inner = Arc::clone(&self.inner);
        blocking("read its records", move || {
            let runs = inner.folders.found(PREFIX)?;
            let known = runs.into_iter().filter_map(|run| {
                let record = inner.folders.read_record(&run).ok()?;
                Some(super::Found {
                    run,
                    container: record.container,
                    identity: record.identity,
                    agent: record.agent,
                })
            });
            Ok(known.collect())
        })
        .await
    }

    /// Kills and removes every container, folder and control group of this host whose run is not in
    /// `known`, and what was made ahead by an earlier daemon. What is others' is not touched.
    ///
    /// # Errors
    /// When Podman does not answer, or something cannot be removed.
    pub async fn sweep(&self, known: &BTreeSet<String>) -> Result<super::Swept, Error> {
        super::sweep::sweep(&self.inner, known).await
    }

    /// Gives back all that was made ahead, and makes nothing ahead any more.
    pub async fn drain(&self) {
        self.pool.drain().await;
    }

    /// How many containers are ready at this moment.
    pub async fn ready(&self) -> usize {
        self.pool.ready().await
    }
}

/// What a run comes to after it was judged.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) image: Image,
    pub(crate) shape: Shape,
    /// All limits, those included that can be set when it starts.
    pub(crate) limits: super::Limits,
    /// What holds for it, in words.
    pub(crate) in_force: Vec<String>,
}

impl Inner {
    pub(crate) async fn plan(self: &Arc<Self>, spec: &Spec) -> Result<Plan, Error> {
        spec.validate()?;
        let policy = &self.config.policy;
        if let Some((field, most)) = spec.limits.beyond(policy.ceiling) {
            return Err(Error::refused(field, format!("must be at most {most} on this host")));
        }
        let limits = spec.limits.within(policy.ceiling);
        let in_force = self.enforcement.promise(&limits, spec.agent.as_ref().map(|agent| &agent.limits))?;
        let mounts = if spec.mounts.is_empty() && matches!(spec.network, super::Network::None) {
            Vec::new()
        } else {
            let (inner, spec) = (Arc::clone(self), spec.clone());
            blocking("judge mounts", move || inner.config.policy.check(&spec)).await?
        };
        let image = container::find_image(&self.http, &spec.image, policy).await?;
        let shape = Shape {
            image: image.id.clone(),
            limits: match &self.holder {
                Holder::Podman => limits,
                // Set on the run's own group when it starts, if at all.
                Holder::Own(_) | Holder::Nobody => {
                    super::Limits { tmpfs_bytes: limits.tmpfs_bytes, ..super::Limits::default() }
                }
            },
            agent: spec.agent.clone(),
            mounts,
            network: spec.network.clone(),
            user: spec.user.unwrap_or(policy.user),
        };
        Ok(Plan { image, shape, limits, in_force })
    }

    pub(crate) fn claim(&self, run: &str) {
        self.claimed.send_if_modified(|runs| runs.insert(run.to_owned()));
    }

    pub(crate) fn release(&self, run: &str) {
        self.claimed.send_if_modified(|runs| runs.remove(run));
    }

    pub(crate) fn own(&self, run: &str) {
        self.owned.send_if_modified(|runs| runs.insert(run.to_owned()));
    }

    pub(crate) fn disown(&self, run: &str) {
        self.owned.send_if_modified(|runs| runs.remove(run));
    }

    pub(crate) fn is_claimed(&self, run: &str) -> bool {
        self.claimed.borrow().contains(run) || self.owned.borrow().contains(run)
    }

    pub(crate) async fn inspect(&self, container: &str) -> Result<Inspected, Error> {
        self.http.get("look at a container", &format!("/containers/{container}/json")).await
    }

    /// The body of the call that makes a container.
    pub(crate) fn body(
        &self,
        shape: &Shape,
        run: &str,
        groups: &[Group],
        identity: Option<&super::Identity>,
    ) -> serde_json::Value {
        let folder = self.folders.mounted(run);
        let place = Place {
            run,
            owner: &self.config.owner,
            launcher: self.folders.launcher(),
            folder: &folder,
            parent: match &self.holder {
                Holder::Own(cgroups) => cgroups.parent(groups),
                Holder::Podman | Holder::Nobody => None,
            },
            held_by_podman: matches!(self.holder, Holder::Podman),
            ids: (!self.service.rootless).then_some(self.config.ids),
            log_bytes: self.config.log_bytes,
            identity,
        };
        container::body(shape, &place)
    }

    /// Removes a container, its folder and its groups. One that is gone is removed.
    pub(crate) async fn remove(
        self: &Arc<Self>,
        container: &str,
        run: &str,
        groups: Vec<Group>,
    ) -> Result<(), Error> {
        if !container.is_empty() {
            self.remove_container(container).await?;
        }
        let (inner, run) = (Arc::clone(self), run.to_owned());
        blocking("clear a run away", move || {
            if let Holder::Own(cgroups) = &inner.holder {
                cgroups.remove_container(&groups);
                cgroups.remove_run(&run);
            }
            inner.folders.remove(&run)
        })
        .await
    }

    /// The end of a container is cleared up by a process of Podman's own, which may be at it just now.
    async fn remove_container(&self, container: &str) -> Result<(), Error> {
        let path = format!("/containers/{container}?force=true&timeout=0&v=true");
        let mut pause = std::time::Duration::from_millis(10);
        for _ in 0..12 {
            match self.http.delete("remove a container", &path).await {
                Err(error) if error.is_not_found() => return Ok(()),
                Err(Error::Podman { status: 409 | 500, .. }) => {}
                done => return done,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(std::time::Duration::from_secs(2));
        }
        self.http.delete("remove a container", &path).await
    }
}

/// The user whose the service is, if that is another than the daemon's.
fn service(socket: &Path) -> Option<(Uid, Gid)> {
    let owner = socket.metadata().ok()?;
    let (uid, gid) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    (geteuid().is_root() && !uid.is_root()).then_some((uid, gid))
}

/// What touches files is done off the runtime.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Answer { what: what.to_owned(), fault: error.to_string() }))
}
