//! A run from its start to its outcome.

use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::AsyncRead;
use tokio::time::Instant;

use crate::driver::Error;
use crate::output::Sink;
use crate::process::{Process, Spawner};
use crate::rundir::RunDir;
use crate::{RunSpec, Stop, StopSignal};

/// How long output is still read after all of a run is gone. Only a process that hid holds it open.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// By itself, with an exit code.
    Exited(i32),
    /// By a signal that was not the driver's.
    Killed(i32),
    /// It took too long.
    TimedOut(Duration),
    /// It was stopped.
    Stopped(Stop),
    /// It was not started, or lost sight of.
    Failed,
}

/// All there is to say about a run that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it ended by itself with exit code 0.
    pub success: bool,
    /// As shells give it: 128 and the signal's number after a signal, 126 when it was not started, 127
    /// when there is no such program.
    pub exit_code: i32,
    /// From start to end.
    pub duration: Duration,
    /// What it wrote, bounded.
    pub stdout: String,
    /// What it wrote, bounded.
    pub stderr: String,
    /// Why it did not succeed.
    pub error: Option<String>,
    /// How it ended.
    pub ending: Ending,
}

impl Outcome {
    /// A run that was not started.
    pub(crate) fn not_started(error: &Error) -> Self {
        Self {
            success: false,
            exit_code: error.exit_code(),
            duration: Duration::ZERO,
            stdout: String::new(),
            stderr: String::new(),
            error: Some(error.describe()),
            ending: Ending::Failed,
        }
    }
}

/// A run that was started. Dropped, it is killed.
pub struct Running {
    pub(crate) process: Process,
    pub(crate) dir: RunDir,
    pub(crate) spec: RunSpec,
    pub(crate) started: Instant,
    /// Keeps the thread alive that started the process: it would die with it.
    pub(crate) spawner: Spawner,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("pid", &self.process.id()).field("run", &self.dir.id()).finish()
    }
}

impl Running {
    /// The id of the first process, which is that of its group and session too.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits for the end: by itself, by the timeout, or because of `stop`. Then nothing of it is left.
    pub async fn wait(mut self, stop: StopSignal) -> Outcome {
        let (mut out, mut err) = (Sink::new(self.spec.capture), Sink::new(self.spec.capture));
        let (stdout, stderr) = self.process.take_output();
        let (started, hint, dir) = (self.started, self.spec.hint.take(), self.dir);
        let (ending, status) = {
            let stdout = stdout.and_then(|pipe| tokio::process::ChildStdout::from_std(pipe).ok());
            let stderr = stderr.and_then(|pipe| tokio::process::ChildStderr::from_std(pipe).ok());
            let mut output = pin!(async { tokio::join!(read(&mut out, stdout), read(&mut err, stderr)) });
            let mut end = pin!(end(self.process, self.spec.timeout, self.spec.grace, started, stop));
            tokio::select! {
                ended = &mut end => {
                    let _ = tokio::time::timeout(LAST_OUTPUT, output).await;
                    ended
                }
                _ = &mut output => end.await,
            }
        };
        let duration = started.elapsed();
        drop(self.spawner);
        // Its removal is on the file system, so it is done off the runtime; the outcome waits for it.
        let _ = tokio::task::spawn_blocking(move || drop(dir)).await;
        outcome(ending, status, duration, hint.as_deref(), out.into_text(), err.into_text())
    }
}

async fn read(sink: &mut Sink, pipe: Option<impl AsyncRead + Unpin>) {
    if let Some(pipe) = pipe {
        sink.drain(pipe).await;
    }
}

/// What the driver did to end the run, if anything, and the status of its first process.
async fn end(
    process: Process,
    timeout: Option<Duration>,
    grace: Duration,
    started: Instant,
    mut stop: StopSignal,
) -> (Option<Ending>, Option<ExitStatus>) {
    let deadline = async {
        match timeout {
            Some(timeout) => {
                tokio::time::sleep_until(started + timeout).await;
                timeout
            }
            None => std::future::pending().await,
        }
    };
    let ending = tokio::select! {
        // A process that ended has ended, however late it is looked at.
        biased;
        _ = process.ended() => None,
        why = stop.stopped() => Some(Ending::Stopped(why)),
        timeout = deadline => Some(Ending::TimedOut(timeout)),
    };
    if ending.is_some() {
        process.terminate(grace).await;
    }
    let status = process.finish().await;
    let seen = status.inspect_err(|error| tracing::error!(%error, "could not wait for a process"));
    (ending, seen.ok())
}

fn outcome(
    by_driver: Option<Ending>,
    status: Option<ExitStatus>,
    duration: Duration,
    hint: Option<&str>,
    stdout: String,
    stderr: String,
) -> Outcome {
    let (exit_code, by_itself) = match status.map(|status| (status.code(), status.signal())) {
        Some((Some(code), _)) => (code, Ending::Exited(code)),
        Some((None, signal)) => {
            let signal = signal.unwrap_or_default();
            (128 + signal, Ending::Killed(signal))
        }
        None => (126, Ending::Failed),
    };
    let ending = by_driver.unwrap_or(by_itself);
    let error = match &ending {
        Ending::Exited(0) => None,
        Ending::Exited(code) => Some(format!("exited with code {code}")),
        Ending::Killed(number) => Some(format!("killed by signal {number} ({})", signal_name(*number))),
        Ending::TimedOut(after) => Some(format!("timed out after {}ms", after.as_millis())),
        Ending::Stopped(why) => Some(why.to_string()),
        Ending::Failed => Some("the end of the process was not seen".to_owned()),
    };
    let error = match (error, hint, &ending) {
        (Some(error), Some(hint), Ending::Exited(_)) => Some(format!("{error}; {hint}")),
        (error, ..) => error,
    };
    Outcome { success: error.is_none(), exit_code, duration, stdout, stderr, error, ending }
}

fn signal_name(number: i32) -> &'static str {
    Signal::try_from(number).map_or("real-time", Signal::as_str)
}
