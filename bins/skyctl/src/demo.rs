//! `skyctl demo`: a coordinator and a host on this machine, one job, and nothing left behind.
//!
//! Everything lives in a temporary directory; both daemons are stopped, and the directory removed,
//! however the demo ends.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use skyclaw_client::{Client, Config};
use skyclaw_config::{Secret, Shutdown};
use skyclaw_proto::record::Job;
use skyclaw_proto::request::{EnqueueJobBody, PayloadBody, RequirementBody};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::context::Context;
use crate::error::Error;
use crate::exit::Exit;
use crate::job::details;
use crate::output;

/// How long the coordinator may take to listen.
const START: Duration = Duration::from_secs(20);
/// How long the job may take, from its submission on.
const RUN: Duration = Duration::from_secs(60);
/// How long a daemon may take to stop before it is killed.
const STOP: Duration = Duration::from_secs(10);
/// What the coordinator says on stdout once it can be reached.
const LISTENING: &str = "listening on ";
/// How much of a daemon's log is shown when it fails, in lines.
const LOG_TAIL: usize = 10;

pub(crate) async fn run(context: &Context<'_>) -> Result<Exit, Error> {
    let signals = Shutdown::install(STOP).map_err(failure("listen for signals"))?;
    let mut mesh = Mesh::new(context)?;
    // Dropping the play at any point is safe: the mesh owns what it started.
    let played = tokio::select! {
        played = play(&mut mesh, context) => played,
        () = signals.soft.cancelled() => Ok(Exit::Interrupted),
    };
    mesh.stop().await;
    signals.finish().await;
    if played.is_err() {
        mesh.show_logs();
    }
    played
}

async fn play(mesh: &mut Mesh, context: &Context<'_>) -> Result<Exit, Error> {
    let url = mesh.start_coordinator().await?;
    output::say(&format!("coordinator: {url}"));
    mesh.start_host(&url)?;
    output::say("host: may run echo and nothing else");
    let client = mesh.client(&url)?;
    let job = client.enqueue(&hello(), None).await?;
    output::say(&format!("job: {}", job.id));
    let late = || failure("see the job end in time")(io::ErrorKind::TimedOut.into());
    let mut watch = client.watch_job(job.id);
    // Both are cancel safe.
    let job: Job = tokio::select! {
        job = timeout(RUN, watch.end()) => job.map_err(|_| late())??,
        ended = mesh.any_end() => return Err(ended),
    };
    context.out.show(&job, || details(&job, &[]))?;
    Ok(Exit::of_job(&job))
}

fn hello() -> EnqueueJobBody {
    let words = ["hello", "from", "skyclaw"];
    EnqueueJobBody {
        payload: Some(PayloadBody {
            kind: Some("shell".to_owned()),
            command: Some("echo".to_owned()),
            args: Some(words.map(str::to_owned).to_vec()),
            ..PayloadBody::default()
        }),
        requirement: Some(RequirementBody { required_capabilities: Some(vec!["shell".to_owned()]) }),
        ..EnqueueJobBody::default()
    }
}

fn failure(step: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Demo { step: step.into(), source }
}

/// A daemon of the demo.
struct Daemon {
    name: &'static str,
    child: Child,
}

/// The directory, the token and the daemons.
struct Mesh {
    directory: TempDir,
    /// For finding the programs, ours and those of jobs.
    path: String,
    token: Secret,
    daemons: Vec<Daemon>,
}

impl Mesh {
    fn new(context: &Context<'_>) -> Result<Self, Error> {
        let directory = tempfile::Builder::new().prefix("skyclaw-demo-").tempdir();
        let directory = directory.map_err(failure("make a temporary directory"))?;
        let token =
            Secret::new(format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()));
        let path = context.env.get("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin").to_owned();
        let mesh = Self { directory, path, token, daemons: vec![] };
        mesh.write_token().map_err(failure("write a token file"))?;
        Ok(mesh)
    }

    fn write_token(&self) -> io::Result<()> {
        use std::io::Write;
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.file("token"))?;
        file.write_all(self.token.expose().as_bytes())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn client(&self, url: &str) -> Result<Client, Error> {
        Ok(Client::new(Config::new([url], Some(self.token.clone().into_inner())))?)
    }

    /// Starts the coordinator; its URL once it listens.
    async fn start_coordinator(&mut self) -> Result<String, Error> {
        let settings = [
            ("SKYCLAW_COORDINATOR_HOST", "127.0.0.1"),
            ("SKYCLAW_COORDINATOR_PORT", "0"),
            ("SKYCLAW_MIN_REPLICATIONS", "1"),
            ("SKYCLAW_PEER_DISCOVERY", "0"),
        ];
        let database = self.file("coordinator.db");
        let mut command = self.command("skyclawd")?;
        command.envs(settings).env("SKYCLAW_DB_PATH", database).stdout(Stdio::piped());
        let mut child = self.spawn("skyclawd", &mut command)?;
        let stdout = child.stdout.take();
        self.daemons.push(Daemon { name: "skyclawd", child });
        let failed = || failure("see skyclawd listen");
        let stdout = stdout.ok_or_else(|| failed()(io::ErrorKind::BrokenPipe.into()))?;
        let url = timeout(START, announced(stdout)).await;
        url.map_err(|_| failed()(io::ErrorKind::TimedOut.into()))?.map_err(failed())
    }

    fn start_host(&mut self, url: &str) -> Result<(), Error> {
        let settings = [
            ("SKYCLAW_COORDINATOR_URLS", url),
            ("SKYCLAW_CAPABILITIES", "shell"),
            ("SKYCLAW_ALLOWED_COMMANDS", "echo"),
            ("SKYCLAW_HOST_NAME", "demo"),
        ];
        let mut command = self.command("skyclaw-hostd")?;
        command.envs(settings).stdout(Stdio::null());
        let child = self.spawn("skyclaw-hostd", &mut command)?;
        self.daemons.push(Daemon { name: "skyclaw-hostd", child });
        Ok(())
    }

    /// A daemon in the directory, told nothing but what the demo tells it.
    fn command(&self, name: &'static str) -> Result<Command, Error> {
        let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned()));
        let program = find_program(name, beside.as_deref(), &self.path).ok_or_else(|| {
            let why = format!("it is neither beside skyctl nor in PATH ({})", self.path);
            failure(format!("find the program {name}"))(io::Error::new(io::ErrorKind::NotFound, why))
        })?;
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", self.directory.path())
            .env("SKYCLAW_TOKEN_FILE", self.file("token"))
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        Ok(command)
    }

    /// Starts a daemon with its log in the directory.
    fn spawn(&self, name: &'static str, command: &mut Command) -> Result<Child, Error> {
        let log = std::fs::File::create(self.file(name)).map_err(failure("make a log file"))?;
        command.stderr(log).spawn().map_err(failure(format!("start {name}")))
    }

    /// Waits until a daemon ends, which none should.
    async fn any_end(&mut self) -> Error {
        let ends = self.daemons.iter_mut().map(|daemon| {
            Box::pin(async {
                let status = daemon.child.wait().await.map_or_else(|e| e.to_string(), |s| s.to_string());
                (daemon.name, status)
            })
        });
        let ((name, status), ..) = futures_util::future::select_all(ends).await;
        failure(format!("keep {name} running"))(io::Error::other(status))
    }

    /// Stops the daemons, the last one first: SIGTERM, then SIGKILL for what does not listen.
    async fn stop(&mut self) {
        for daemon in self.daemons.iter_mut().rev() {
            let pid = daemon.child.id().and_then(|id| i32::try_from(id).ok());
            if let Some(pid) = pid {
                // It may have ended by itself in the meantime.
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            if timeout(STOP, daemon.child.wait()).await.is_err() {
                let _ = daemon.child.kill().await;
            }
        }
    }

    /// What the daemons said last.
    fn show_logs(&self) {
        for Daemon { name, .. } in &self.daemons {
            let log = std::fs::read_to_string(self.file(name)).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            for line in lines.iter().skip(lines.len().saturating_sub(LOG_TAIL)) {
                output::say(&format!("{name}: {line}"));
            }
        }
    }
}

/// The URL in the line that says where a coordinator listens.
async fn announced(stdout: impl tokio::io::AsyncRead + Unpin) -> io::Result<String> {
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines.next_line().await? {
        if let Some(url) = line.trim().strip_prefix(LISTENING) {
            return Ok(url.to_owned());
        }
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended before it listened"))
}

/// A program beside our own, or else in `path`.
fn find_program(name: &str, beside: Option<&Path>, path: &str) -> Option<PathBuf> {
    beside
        .map(Path::to_owned)
        .into_iter()
        .chain(std::env::split_paths(path))
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_address_is_read_from_the_line_that_announces_it() {
        let said = b"hello\nlistening on http://127.0.0.1:4711\nmore\n";
        assert_eq!(announced(&said[..]).await.expect("url"), "http://127.0.0.1:4711");
        assert!(announced(&b"hello\n"[..]).await.is_err());
    }

    #[test]
    fn a_program_beside_ours_is_taken_before_one_in_the_path() {
        let (near, far) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        let path = far.path().display().to_string();
        let find = || find_program("p", Some(near.path()), &path);
        assert_eq!(find(), None);
        std::fs::write(far.path().join("p"), "").expect("write");
        assert_eq!(find(), Some(far.path().join("p")));
        std::fs::write(near.path().join("p"), "").expect("write");
        assert_eq!(find(), Some(near.path().join("p")));
    }
}
