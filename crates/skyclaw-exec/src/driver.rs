//! The driver of plain processes.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{AccessFlags, access};
use tokio::time::Instant;

use crate::environment::{self, Surroundings};
use crate::process::Spawner;
use crate::rundir::RunDir;
use crate::sweep::Mark;
use crate::{Allowlist, Cwd, Openclaw, Outcome, RunSpec, Running, StopSignal};

/// How runs are run on this host.
#[derive(Debug, Clone)]
pub struct Config {
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
    /// The thread that starts processes could not be started.
    #[error("could not start the driver")]
    Thread(#[source] io::Error),
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
            | Self::Thread(_) => 126,
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
    config: Arc<Config>,
    spawner: Spawner,
}

impl Driver {
    /// A driver over its directory, which nobody else may use.
    ///
    /// # Errors
    /// When the directory cannot be made, or a thread not be started.
    pub fn new(config: Config) -> Result<Self, Error> {
        let made = std::fs::create_dir_all(&config.runs_dir)
            .and_then(|()| std::fs::set_permissions(&config.runs_dir, PermissionsExt::from_mode(0o700)));
        made.map_err(|source| Error::RunsDir { path: config.runs_dir.clone(), source })?;
        let spawner = Spawner::new().map_err(Error::Thread)?;
        Ok(Self { config: Arc::new(config), spawner })
    }

    /// How runs are run.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Kills what is left of runs of an earlier driver over the same directory, removes their
    /// directories, and says how many there were. To be called before anything is started. Blocks.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn recover(&self) -> Result<usize, Error> {
        let runs_dir = &self.config.runs_dir;
        let left = RunDir::left_behind(runs_dir)
            .map_err(|source| Error::RunsDir { path: runs_dir.clone(), source })?;
        for dir in &left {
            Mark::new(dir.id(), None).kill_all();
        }
        Ok(left.len())
    }

    /// Runs to the end. A run that could not be started has an outcome too.
    pub async fn run(&self, spec: RunSpec, stop: StopSignal) -> Outcome {
        match self.start(spec).await {
            Ok(running) => running.wait(stop).await,
            Err(error) => Outcome::not_started(&error),
        }
    }

    /// Starts a run.
    ///
    /// # Errors
    /// When it is not allowed, or cannot be started.
    pub async fn start(&self, spec: RunSpec) -> Result<Running, Error> {
        let program = self.config.allowlist.resolve(&spec.command)?;
        let dir = RunDir::create(&self.config.runs_dir, RunDir::fresh_id())
            .map_err(|source| Error::RunsDir { path: self.config.runs_dir.clone(), source })?;
        let cwd = match &spec.cwd {
            Cwd::Own => dir.work(),
            Cwd::Base => self.config.base_dir.clone(),
            Cwd::At(path) => self.config.base_dir.join(path),
        };
        enterable(&cwd).map_err(|source| Error::Cwd { path: cwd.clone(), source })?;
        let command = self.command(&program, &spec, &dir, &cwd);
        let started = Instant::now();
        let process = self
            .spawner
            .start(command, dir.id())
            .await
            .map_err(|source| Error::Start { path: program, source })?;
        tracing::debug!(pid = process.id(), run = dir.id(), command = spec.command, "run started");
        Ok(Running { process, dir, spec, started, spawner: self.spawner.clone() })
    }

    fn command(&self, program: &Path, spec: &RunSpec, dir: &RunDir, cwd: &Path) -> Command {
        let (home, tmp) = (dir.home(), dir.tmp());
        let at = Surroundings {
            search_path: self.config.allowlist.search_path(),
            home: &home,
            tmp: &tmp,
            run_id: dir.id(),
        };
        let mut command = Command::new(program);
        command
            .arg0(&spec.command)
            .args(&spec.args)
            .current_dir(cwd)
            .env_clear()
            .envs(environment::build(&at, &spec.env, &spec.reserved))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// Asked before the start, because the kernel gives the same error for a missing program.
fn enterable(dir: &Path) -> io::Result<()> {
    if !dir.metadata()?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(access(dir, AccessFlags::X_OK)?)
}
