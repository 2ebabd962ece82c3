//! A process that leads its own session and group, and the thread that starts such processes.
//!
//! The kernel kills a run's first process when the *thread* that forked it ends, so all are forked by
//! one thread, which lives as long as the driver or any of its runs.
//!
//! A process is not reaped before all that is signalled through its group is signalled: until then its
//! id, and so its group's, cannot become another's.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus};
use std::time::Duration;

use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::{Signal, killpg};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, getpid, getppid, setsid};
use rustix::process::{PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use crate::sweep::Mark;

/// Starts that may wait for the thread.
const QUEUE: usize = 64;
/// How often it is looked whether what was asked to end did.
const GRACE_STEP: Duration = Duration::from_millis(20);

struct Request {
    command: Command,
    run_id: String,
    reply: oneshot::Sender<io::Result<Unwatched>>,
}

/// Starts processes. Cheap to clone; the thread ends with the last clone.
#[derive(Debug, Clone)]
pub(crate) struct Spawner(mpsc::Sender<Request>);

impl Spawner {
    pub(crate) fn new() -> io::Result<Self> {
        let (send, mut requests) = mpsc::channel::<Request>(QUEUE);
        std::thread::Builder::new().name("skyclaw-spawn".to_owned()).spawn(move || {
            while let Some(Request { mut command, run_id, reply }) = requests.blocking_recv() {
                // Nobody waits any more: what was started is killed as it is dropped.
                let _ = reply.send(Unwatched::start(&mut command, &run_id));
            }
        })?;
        Ok(Self(send))
    }

    /// Starts a process in a session of its own.
    pub(crate) async fn start(&self, command: Command, run_id: &str) -> io::Result<Process> {
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::other("the thread that starts processes is gone");
        let request = Request { command, run_id: run_id.to_owned(), reply };
        self.0.send(request).await.map_err(|_| gone())?;
        let started = answer.await.map_err(|_| gone())??;
        let handle = started.handle.try_clone()?;
        #[expect(unsafe_code, reason = "registering has no safe form")]
        // SAFETY: an owned descriptor is open, and stays the same, as long as its owner.
        let ended = unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) }?;
        Ok(Process { started, ended })
    }
}

/// A process nobody waits for yet. Dropped unreaped, its group is killed.
struct Unwatched {
    child: Child,
    handle: OwnedFd,
    mark: Mark,
    group: Pid,
    reaped: bool,
}

impl Unwatched {
    fn start(command: &mut Command, run_id: &str) -> io::Result<Self> {
        isolate(command, getpid());
        let mut child = command.spawn()?;
        let group = Pid::from_raw(child.id().cast_signed());
        let Some(handle) = rustix::process::Pid::from_raw(group.as_raw())
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        else {
            let _ = killpg(group, Signal::SIGKILL);
            let _ = child.wait();
            return Err(io::Error::other("this kernel cannot watch processes (pidfd_open, Linux 5.3)"));
        };
        Ok(Self { child, handle, mark: Mark::new(run_id, Some(group.as_raw())), group, reaped: false })
    }
}

impl Drop for Unwatched {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = killpg(self.group, Signal::SIGKILL);
            let _ = self.child.try_wait();
        }
    }
}

/// A running process. Dropped before [`Process::finish`], its group is killed.
pub(crate) struct Process {
    started: Unwatched,
    ended: AsyncFd<OwnedFd>,
}

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.started.child.id()
    }

    pub(crate) fn take_output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.started.child.stdout.take(), self.started.child.stderr.take())
    }

    /// Waits for the end of the process, without reaping it. Cancel-safe.
    pub(crate) async fn ended(&self) -> io::Result<()> {
        self.ended.readable().await.map(|mut guard| guard.retain_ready())
    }

    /// Asks all of the run to end and waits until it did, at most for `grace`.
    pub(crate) async fn terminate(&self, grace: Duration) {
        let _ = killpg(self.started.group, Signal::SIGTERM);
        // A stopped process would take note only when it is continued.
        let _ = killpg(self.started.group, Signal::SIGCONT);
        self.blocking(|mark, group| mark.terminate_outside(group.as_raw())).await;
        let gone = async {
            while self.ended().await.is_ok() && !self.blocking(|mark, _| mark.find().is_empty()).await {
                tokio::time::sleep(GRACE_STEP).await;
            }
        };
        let _ = tokio::time::timeout(grace, gone).await;
    }

    /// Kills what is left of the run, and reaps the process.
    pub(crate) async fn finish(mut self) -> io::Result<ExitStatus> {
        self.blocking(|mark, group| {
            let _ = killpg(group, Signal::SIGKILL);
            mark.kill_all();
        })
        .await;
        self.ended().await?;
        let status = self.started.child.wait();
        self.started.reaped = true;
        status
    }

    /// Looking through `/proc` takes milliseconds, so it is done off the runtime.
    async fn blocking<T, F>(&self, work: F) -> T
    where
        T: Send + Default + 'static,
        F: FnOnce(Mark, Pid) -> T + Send + 'static,
    {
        let (mark, group) = (self.started.mark.clone(), self.started.group);
        tokio::task::spawn_blocking(move || work(mark, group)).await.unwrap_or_default()
    }
}

/// Cuts the process off from the daemon between fork and exec.
fn isolate(command: &mut Command, daemon: Pid) {
    let prepare = move || {
        setsid()?;
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The daemon may have died before the kernel was told to watch it.
        if getppid() != daemon {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        umask(Mode::from_bits_truncate(0o022));
        reset_signals();
        close_on_exec();
        Ok(())
    };
    #[expect(unsafe_code, reason = "the closure only makes system calls and allocates nothing")]
    // SAFETY: runs in the forked child; everything called is async-signal-safe.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// What the daemon ignores would be ignored by the run as well.
fn reset_signals() {
    for number in 1..=libc::SIGRTMAX() {
        #[expect(unsafe_code, reason = "the safe form knows no real-time signals")]
        // SAFETY: no handler is installed. Those that cannot be set are left as they are.
        unsafe {
            libc::signal(number, libc::SIG_DFL);
        }
    }
}

/// What the daemon opens closes by itself; this is for what the daemon was given by its own parent.
fn close_on_exec() {
    #[expect(unsafe_code, reason = "there is no safe wrapper")]
    // SAFETY: marks file descriptors of this process, the forked child, and touches no memory. On a
    // kernel before 5.11 it fails and changes nothing.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}
