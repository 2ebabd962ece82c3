//! A shim's guard, and what is between the two, made before there is a plan.
//!
//! ```text
//! shim ── "there?" ──> guard ── "there" ──> shim ── plan ──> guard ── starts the run
//! ```
//! A guard that was forked long ago may be frozen, so it is asked whether it is there before anything is promised.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid, fork, getpid};

use super::streams::Source;
use super::{guard, keeper, leader, pipe_pair, read_plan, rehearsal};
use crate::protocol::{self, Kept, Plan};

/// How long a guard that was forked long ago may take to say that it is there, and to take its plan.
const PATIENCE: Duration = Duration::from_millis(1500);

/// What a shim has of it.
pub(super) struct Nest {
    daemon: UnixStream,
    listener: UnixListener,
    guard: Pid,
    /// Where the guard gets its plan from.
    way: UnixStream,
    to_guard: UnixDatagram,
    output: [OwnedFd; 2],
    /// Its end is what tells the guard, and the kernel, that the shim is gone.
    life: OwnedFd,
}

impl Nest {
    /// Forks a guard. There it does not return. One that is made ahead is [asked](Self::ask_guard) before it gets its plan.
    pub(super) fn make(daemon: UnixStream, listener: UnixListener, ahead: bool) -> io::Result<Self> {
        let (way, plan) = UnixStream::pair()?;
        let (to_guard, to_shim) = UnixDatagram::pair()?;
        let (stdout, stdout_end) = pipe_pair()?;
        let (stderr, stderr_end) = pipe_pair()?;
        let (life, life_end) = pipe_pair()?;
        let shim = getpid();
        #[expect(unsafe_code, reason = "there is no safe fork")]
        // SAFETY: this process has one thread, so the child may do whatever its parent may.
        let forked = unsafe { fork() }?;
        match forked {
            ForkResult::Child => {
                // What only the shim has: the run must not be able to speak in its place, and the daemon must
                // see at once when the shim is gone.
                drop((daemon, listener, way, to_guard, stdout, stderr, life_end));
                let output = [stdout_end, stderr_end];
                std::process::exit(i32::from(guard(shim, ahead, plan, to_shim, output, life).is_err()))
            }
            ForkResult::Parent { child } => {
                drop((plan, to_shim, stdout_end, stderr_end, life));
                let output = [stdout, stderr];
                Ok(Self { daemon, listener, guard: child, way, to_guard, output, life: life_end })
            }
        }
    }

    pub(super) fn daemon(&mut self) -> &mut UnixStream {
        &mut self.daemon
    }

    /// Asks a guard that may be frozen by now whether it is there.
    ///
    /// # Errors
    /// When it does not say so in time.
    pub(super) fn ask_guard(&mut self) -> io::Result<()> {
        self.way.set_read_timeout(Some(PATIENCE))?;
        self.way.set_write_timeout(Some(PATIENCE))?;
        self.way.write_all(&[0])?;
        self.way.read_exact(&mut [0])
    }

    /// Has the guard start the run, and keeps it to its end.
    pub(super) fn keep(mut self, plan: &Plan, prey: keeper::Prey<'_>) -> io::Result<()> {
        self.way.write_all(&protocol::frame(plan)?)?;
        let Self { daemon, listener, guard, way, to_guard, output, life } = self;
        drop(way);
        let ends = keeper::Ends { daemon, listener, guard: to_guard, output: Source::Pipes(output) };
        let kept = keeper::run(plan, prey, guard, ends);
        drop(life);
        kept
    }
}

/// The guard, from its beginning on.
fn guard(
    shim: Pid,
    ahead: bool,
    mut way: UnixStream,
    to_shim: UnixDatagram,
    [stdout, stderr]: [OwnedFd; 2],
    life: OwnedFd,
) -> io::Result<()> {
    // As long as it guards nothing: so that one that is frozen ends with its shim.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if ahead {
        let _ = rehearsal::of_guard(&stdout, &stderr);
        way.read_exact(&mut [0])?;
        way.write_all(&[0])?;
    }
    let plan: Plan = read_plan(&mut way)?;
    drop(way);
    prctl::set_pdeathsig(None)?;
    let Kept::Process(program) = &plan.kept else { return Err(io::ErrorKind::InvalidData.into()) };
    let groups = &plan.groups;
    // Its ends of the pipes are the run's alone from then on.
    let start = move || leader::start(program, groups, &stdout, &stderr);
    guard::run(&plan, shim, to_shim, life, start)
}
