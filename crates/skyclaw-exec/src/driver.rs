//! The driver of plain processes.

mod ahead;

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::libc;
use nix::unistd::{AccessFlags, access};

use crate::cgroup::{Cgroups, Group, Member, Wanted};
use crate::enforce::{Enforcement, LANDLOCK, Unenforceable};
use crate::environment::{self, Surroundings};
use crate::protocol::{Kept, Plan, Program, User};
use crate::rundir::{self, RunDir};
use crate::running::{Berths, Found, Label, Shims, Waiting};
use crate::{Allowlist, Cwd, Ended, Halt, Openclaw, Outcome, RunSpec, Running, StopSignal, sweep};

pub use self::ahead::Reserved;

/// How runs are run on this host.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who owns what is made, and sweeps nothing else: a name that no other daemon of this machine has. Runs of
    /// an agent share a bound with those of every driver with the same owner.
    pub owner: String,
    /// What may be started.
    pub allowlist: Allowlist,
    /// How OpenClaw is run.
    pub openclaw: Openclaw,
    /// Where each run has its directory. Absolute; made when it is not there; nobody else's.
    pub runs_dir: PathBuf,
    /// What a working directory that is not absolute is relative to. Absolute.
    pub base_dir: PathBuf,
    /// The timeout of a job that names none. One that does gets what it names, however short.
    pub default_timeout: Duration,
    /// How long a run that says nothing else may take to end after it was asked to.
    pub stop_grace: Duration,
    /// How much is kept of each of a job's two streams, in bytes.
    pub max_output_bytes: usize,
    /// What is started to keep a run: a program and the arguments that have it call [`crate::shim`].
    pub shim: Shim,
    /// Whose runs are; the daemon's own user's when not given.
    pub user: Option<User>,
    /// Where runs may write besides their own directories; anywhere when not given.
    pub writable: Option<Vec<PathBuf>>,
    /// How large a file a run may make, in bytes; as large as it likes when not given.
    pub max_file_bytes: Option<u64>,
    /// Whether a run is run although what it asks for cannot be enforced here.
    pub best_effort: bool,
    /// What ends all runs as soon as it is there, and lets none begin.
    pub halt: Option<Halt>,
}

/// How a shim is started.
#[derive(Debug, Clone)]
pub struct Shim {
    /// The program.
    pub program: PathBuf,
    /// What makes it a shim.
    pub args: Vec<String>,
}

/// Why a run was not started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not on the allowlist.
    #[error("command not allowed: {command}")]
    NotAllowed {
        /// The command.
        command: String,
    },
    /// On the allowlist, but there is no such program.
    #[error(
        "command not found: {command}: install it on the host, in a directory of the daemon's PATH, \
         or allow it by its absolute path"
    )]
    NotFound {
        /// The command.
        command: String,
    },
    /// The working directory cannot be entered.
    #[error("cwd {} cannot be entered", path.display())]
    Cwd {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory of the driver's own could not be made or read.
    #[error("the directory for runs {} cannot be used", path.display())]
    RunsDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused to start it.
    #[error("could not start {}", path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no process to keep it.
    #[error("could not start what keeps the run")]
    Shim(#[source] io::Error),
    /// Its deadline had passed before anything of it was started.
    #[error("its deadline passed before it was started")]
    TooLate,
    /// All runs of this host are stopped, and none begins.
    #[error("stopped: {why}")]
    Halted {
        /// Why.
        why: String,
    },
    /// What it asks for cannot be enforced on this machine.
    #[error(
        "{what} cannot be enforced on this host ({why}): run it elsewhere, or have the host accept best effort \
         (SKYCLAW_BEST_EFFORT_LIMITS=1)"
    )]
    NotEnforceable {
        /// What.
        what: String,
        /// Why.
        why: String,
    },
    /// What bounds it could not be set up.
    #[error("the limits of the run could not be set")]
    Groups(#[source] io::Error),
}

impl From<Unenforceable> for Error {
    fn from(Unenforceable { what, why, .. }: Unenforceable) -> Self {
        Self::NotEnforceable { what, why }
    }
}

impl Error {
    /// The exit code a shell would give.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotAllowed { .. }
            | Self::Cwd { .. }
            | Self::RunsDir { .. }
            | Self::Start { .. }
            | Self::Shim(_)
            | Self::TooLate
            | Self::Halted { .. }
            | Self::NotEnforceable { .. }
            | Self::Groups(_) => 126,
        }
    }

    /// The error and what caused it, as one sentence.
    #[must_use]
    pub fn describe(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}

/// Runs processes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Driver {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    cgroups: Cgroups,
    enforcement: Enforcement,
    shims: Shims,
    berths: Berths,
}

/// What an earlier driver over the same directory left.
#[derive(Debug, Default)]
pub struct Left {
    /// Runs that go on.
    pub running: Vec<Running>,
    /// Runs that are over, and whose outcome nobody has taken yet.
    pub ended: Vec<Ended>,
    /// The labels of runs whose shim and guard are gone; nothing of them is left now.
    pub lost: Vec<serde_json::Value>,
}

impl Driver {
    /// A driver over its directory, which nobody else may use. Blocks.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new(config: Config) -> Result<Self, Error> {
        // Whoever has a user of their own must be able to pass through.
        let mode = if config.user.is_some() { 0o711 } else { 0o700 };
        let made = std::fs::create_dir_all(&config.runs_dir)
            .and_then(|()| std::fs::set_permissions(&config.runs_dir, PermissionsExt::from_mode(mode)));
        made.map_err(|source| Error::RunsDir { path: config.runs_dir.clone(), source })?;
        let cgroups = Cgroups::open(&config.owner, Some(&config.runs_dir));
        let enforcement = Enforcement::of_processes(&config, &cgroups);
        let shims = Shims::new(config.shim.clone());
        let berths = Berths::default();
        Ok(Self { inner: Arc::new(Inner { config, cgroups, enforcement, shims, berths }) })
    }

    /// Where shims come from.
    pub(crate) fn shims(&self) -> &Shims {
        &self.inner.shims
    }

    /// How runs are run.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// What is in force for runs on this host, and what is not available.
    #[must_use]
    pub fn enforcement(&self) -> &Enforcement {
        &self.inner.enforcement
    }

    /// Finds what an earlier driver over the same directory started: takes over the runs that go on, and
    /// ends and removes what is left of all others. To be called before anything is started.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn recover(&self) -> Result<Left, Error> {
        let runs_dir = &self.inner.config.runs_dir;
        let found = RunDir::left_behind(runs_dir)
            .map_err(|source| Error::RunsDir { path: runs_dir.clone(), source })?;
        let mut left = Left::default();
        let mut known = Vec::new();
        for dir in found {
            let id = dir.id().to_owned();
            match Running::find(dir).await {
                Found::Running(running) => {
                    known.push(id);
                    left.running.push(running);
                }
                Found::Ended(ended) => left.ended.push(ended),
                Found::Lost(label) => left.lost.push(label),
            }
        }
        let inner = self.inner.clone();
        let _ = tokio::task::spawn_blocking(move || inner.sweep_groups(&known)).await;
        Ok(left)
    }

    /// Runs to the end. A run that could not be started has an outcome too.
    pub async fn run(&self, spec: RunSpec, stop: StopSignal) -> Outcome {
        match self.start(spec).await {
            Ok(running) => running.wait(stop).await.forget().await,
            Err(error) => Outcome::not_started(&error),
        }
    }

    /// Starts a run.
    ///
    /// # Errors
    /// When it is not allowed, or cannot be started.
    pub async fn start(&self, spec: RunSpec) -> Result<Running, Error> {
        self.start_at(self.reserve(), spec).await
    }

    /// Has what was made ahead get ready for a run that is about to be [started](Self::start_at).
    #[must_use]
    pub fn reserve(&self) -> Reserved {
        Reserved::new(self.inner.clone())
    }

    /// Starts a run in what was reserved for it a moment ago.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_at(&self, place: Reserved, spec: RunSpec) -> Result<Running, Error> {
        if let Some(halt) = self.inner.config.halt.as_ref().filter(|halt| halt.is_set()) {
            return Err(Error::Halted { why: halt.why.clone() });
        }
        let program = self.inner.config.allowlist.resolve(&spec.command)?;
        let agent = spec.agent.as_ref().map(|_| &spec.resources);
        let in_force = self.inner.enforcement.promise(&spec.resources, agent)?;
        let config = &self.inner.config;
        let cwd = match &spec.cwd {
            Cwd::Own => None,
            Cwd::Base => Some(config.base_dir.clone()),
            Cwd::At(path) => Some(config.base_dir.join(path)),
        };
        if let Some(path) = &cwd {
            enterable(path).map_err(|source| Error::Cwd { path: path.clone(), source })?;
        }
        let (shim, dir, before) = place.redeem()?;
        let cwd = cwd.unwrap_or_else(|| dir.work());
        let started = self.start_in((shim, &dir, &before), spec, (program, cwd), in_force).await;
        self.inner.clone().make_next_berth();
        if started.is_err() {
            let _ = tokio::task::spawn_blocking(move || dir.remove()).await;
        }
        started
    }

    async fn start_in(
        &self,
        (shim, dir, before): (Waiting, &RunDir, &[Group]),
        spec: RunSpec,
        (path, cwd): (PathBuf, PathBuf),
        in_force: Vec<String>,
    ) -> Result<Running, Error> {
        let config = &self.inner.config;
        let wanted = Wanted {
            run: dir.id(),
            member: Member::Processes,
            resources: spec.resources,
            agent: spec.agent.as_deref().map(|agent| (agent, spec.resources)),
        };
        let made = self.inner.cgroups.make(&wanted);
        let used = made.as_deref().unwrap_or_default();
        before.iter().filter(|group| !used.iter().any(|it| it.dir == group.dir)).for_each(Group::remove);
        let groups = match made {
            Ok(groups) => groups,
            // A run of an agent must not get past what bounds the agent.
            Err(source)
                if config.best_effort || !(spec.resources.asks_for_groups() || spec.agent.is_some()) =>
            {
                tracing::debug!(error = %source, "a run has no control groups");
                Vec::new()
            }
            Err(source) => return Err(Error::Groups(source)),
        };
        let plan = Plan {
            run: dir.id().to_owned(),
            control: dir.control(),
            deadline: spec.deadline.as_ref().map(|it| it.at),
            slack: spec.deadline.as_ref().map(|it| it.slack).unwrap_or_default(),
            why: spec.deadline.as_ref().map(|it| it.why.clone()).unwrap_or_default(),
            timeout: spec.timeout,
            grace: spec.grace,
            capture: spec.capture,
            kept: Kept::Process(Box::new(self.program(path.clone(), &spec, dir, cwd))),
            groups: groups.clone(),
            in_force,
            events: Vec::new(),
            halt: config.halt.clone(),
        };
        let label = Label::new(spec.label, spec.capture, spec.hint, groups.clone());
        let started = async {
            label.write(dir).map_err(|source| Error::Start { path: path.clone(), source })?;
            let shim = self.inner.shims.ready(shim, dir.id()).await.map_err(Error::Shim)?;
            let started = Running::start(shim, &plan, dir.clone(), label).await;
            started.map_err(|source| match source.raw_os_error() {
                Some(libc::ETIME) => Error::TooLate,
                _ => Error::Start { path, source },
            })
        };
        let started = started.await;
        if started.is_err() {
            groups.iter().for_each(Group::remove);
        }
        started
    }

    fn program(&self, path: PathBuf, spec: &RunSpec, dir: &RunDir, cwd: PathBuf) -> Program {
        let config = &self.inner.config;
        let (home, tmp) = (dir.home(), dir.tmp());
        let at = Surroundings {
            search_path: config.allowlist.search_path(),
            home: &home,
            tmp: &tmp,
            run_id: dir.id(),
        };
        let own = [dir.home(), dir.work(), dir.tmp()];
        let writable = config.writable.as_ref().filter(|_| self.inner.enforcement.is_in_force(LANDLOCK));
        let in_group = self.inner.enforcement.pids.is_in_force();
        Program {
            path,
            name: spec.command.clone(),
            args: spec.args.clone(),
            env: environment::build(&at, &spec.env, &spec.reserved).into_iter().collect(),
            cwd,
            user: config.user.clone(),
            writable: writable.map(|more| own.into_iter().chain(more.iter().cloned()).collect()),
            max_processes: spec.resources.pids.filter(|_| !in_group),
            max_file_bytes: config.max_file_bytes,
        }
    }
}

impl Inner {
    /// Ends what is in groups of runs that have no directory.
    fn sweep_groups(&self, known: &[String]) {
        // Groups of containers are beside these; their own driver knows what becomes of them.
        let ours = |run: &String| run.starts_with(rundir::PREFIX) && !known.contains(run);
        for (run, groups) in self.cgroups.left().into_iter().filter(|(run, _)| ours(run)) {
            sweep::end(&run, None, &groups);
        }
    }
}

/// Asked before the start, because the kernel gives the same error for a missing program.
fn enterable(dir: &Path) -> io::Result<()> {
    if !dir.metadata()?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(access(dir, AccessFlags::X_OK)?)
}
