//! The process that keeps one run, and outlives the daemon that started it.
//!
//! ```text
//! daemon ──socket── shim ──socket── guard ── first process of the run ── …
//!                    │ output files, deadline, record      │ both subreapers: whatever is started below
//!                    └───────── life pipe ─────────────────┘ stays below one of them
//! ```
//! A shim is small and has one thread: it is in memory as often as there are runs. It forks the guard, which
//! starts the run and is its parent. Why there are two, and what happens when which of all these
//! processes is killed or frozen, is in `docs/adr/0016-the-shim.md`.
//!
//! To start a large program takes longer than all the rest, so a daemon starts it once, as a [nursery], and has that
//! fork a shim for each run.

mod birth;
mod bond;
mod contained;
mod guard;
mod herd;
mod keeper;
mod leader;
mod nest;
mod nursery;
mod peers;
mod rehearsal;
mod streams;
mod thrift;
mod timer;
mod warden;

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;

use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{ForkResult, Pid, dup2_stdin, fork, getpid, pipe, setsid};
use serde::de::DeserializeOwned;

use crate::BootTime;
use crate::protocol::{self, Container, Inbox, Kept, Plan, Said};
use contained::Contained;
use herd::Herd;
use keeper::Prey;
use nest::Nest;
use nursery::Called;
use streams::Source;

pub(crate) use nursery::{CALL, NURSERY, READY};

/// The shim's socket in its directory.
pub(crate) const SOCKET: &str = "shim.sock";

/// Keeps one run, from the plan that comes on standard input to its end; or, with [`NURSERY`] as the last argument, is
/// where the shims of a daemon come from. The host daemon calls this before anything else when it is started as
/// either.
#[must_use]
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        // Who started it learns of it by the end of the connection; there is nobody else to tell.
        Err(_) => ExitCode::FAILURE,
    }
}

fn run() -> io::Result<()> {
    let daemon = prepare()?;
    if std::env::args_os().next_back().is_none_or(|last| last != NURSERY) {
        settle()?;
        return keep(UnixStream::from(daemon));
    }
    let Some(newborn) = nursery::run(daemon)? else { return Ok(()) };
    settle()?;
    match newborn.ready()? {
        Some(Called::Spare(nest)) => keep_in(nest),
        Some(Called::Fresh(daemon)) => keep(daemon),
        None => Ok(()),
    }
}

/// Cuts this process off from the daemon, and takes the connection to it.
fn prepare() -> io::Result<OwnedFd> {
    leader::close_from(3);
    // A run of the same user may neither read a plan here nor trace this.
    prctl::set_dumpable(false)?;
    umask(Mode::from_bits_truncate(0o077));
    let daemon = io::stdin().as_fd().try_clone_to_owned()?;
    dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(daemon)
}

/// What a shim has of its own, and does not get from who forked it.
fn settle() -> io::Result<()> {
    // An error means that it leads a session already.
    let _ = setsid();
    prctl::set_name(c"skyclaw-shim")?;
    prctl::set_child_subreaper(true)?;
    Ok(handled_signals().thread_block()?)
}

/// What is looked at in turn and interrupts nothing.
fn handled_signals() -> SigSet {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals
}

fn signal_file() -> io::Result<SignalFd> {
    Ok(SignalFd::with_flags(&handled_signals(), SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

fn keep(mut daemon: UnixStream) -> io::Result<()> {
    let Some(plan) = take_plan(&mut daemon)? else { return Ok(()) };
    let listener = listen(&plan.control)?;
    match &plan.kept {
        Kept::Process(_) => keep_process(&plan, Nest::make(daemon, listener, false)?),
        Kept::Container(container) => keep_container(&plan, container, daemon, listener),
    }
}

/// Keeps a run with what was made ahead.
fn keep_in(mut nest: Nest) -> io::Result<()> {
    match take_plan(nest.daemon())? {
        Some(plan) => keep_process(&plan, nest),
        None => Ok(()),
    }
}

fn keep_process(plan: &Plan, nest: Nest) -> io::Result<()> {
    nest.keep(plan, Prey::Tree(Herd::new(&plan.groups)))
}

/// The plan, unless it has come too late.
fn take_plan(daemon: &mut UnixStream) -> io::Result<Option<Plan>> {
    let plan: Plan = read_plan(daemon)?;
    if plan.deadline.is_none_or(|deadline| deadline > BootTime::now()) {
        return Ok(Some(plan));
    }
    let fault = "its deadline has passed".to_owned();
    let said = Said::NotStarted { errno: Some(libc::ETIME), fault };
    io::Write::write_all(daemon, &protocol::frame(&said)?)?;
    Ok(None)
}

/// Listens in a control directory, and stays there.
fn listen(control: &Path) -> io::Result<UnixListener> {
    // The socket is bound by its bare name: a path has room for 107 bytes only.
    std::env::set_current_dir(control)?;
    // Of a spare shim that was frozen and had to be replaced.
    let _ = std::fs::remove_file(SOCKET);
    UnixListener::bind(SOCKET)
}

fn keep_container(
    plan: &Plan,
    container: &Container,
    mut daemon: UnixStream,
    listener: UnixListener,
) -> io::Result<()> {
    let taken = Contained::take(container, &plan.groups).and_then(|held| Ok((held.attach()?, held)));
    let (output, held) = match taken {
        Ok(taken) => taken,
        Err(error) => {
            let said = Said::NotStarted { errno: error.raw_os_error(), fault: error.to_string() };
            return io::Write::write_all(&mut daemon, &protocol::frame(&said)?);
        }
    };
    let (to_guard, to_shim) = UnixDatagram::pair()?;
    let (life, life_end) = pipe_pair()?;
    let shim = getpid();
    #[expect(unsafe_code, reason = "there is no safe fork")]
    // SAFETY: this process has one thread, so the child may do whatever its parent may.
    let forked = unsafe { fork() }?;
    match forked {
        ForkResult::Child => {
            drop((daemon, listener, to_guard, output, life_end));
            warden::run(plan, container, &held, shim, to_shim, life)
        }
        ForkResult::Parent { child } => {
            drop((to_shim, life));
            let ends = keeper::Ends { daemon, listener, guard: to_guard, output: Source::Monitor(output) };
            let kept = keeper::run(plan, Prey::Container(&held), child, ends);
            drop(life_end);
            kept
        }
    }
}

fn pipe_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe()?;
    leader::set_close_on_exec(&read)?;
    leader::set_close_on_exec(&write)?;
    Ok((read, write))
}

fn read_plan(daemon: &mut UnixStream) -> io::Result<Plan> {
    let mut inbox = Inbox::new(protocol::MAX_FRAME);
    // Small: a page that was never touched takes as long as a small plan.
    let mut buffer = [0; 4 * 1024];
    loop {
        match inbox.next() {
            Ok(Some(plan)) => return Ok(plan),
            Ok(None) => {}
            Err(error) => {
                // A daemon that is younger: it learns that this shim cannot do it.
                let fault = format!("the shim does not understand its plan: {error}");
                let said = Said::NotStarted { errno: None, fault };
                io::Write::write_all(daemon, &protocol::frame(&said)?)?;
                return Err(error);
            }
        }
        match daemon.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => inbox.push(&buffer[..n]),
        }
    }
}

/// Says something to the other of the two processes. An error means that it is gone.
fn tell(other: &UnixDatagram, what: &impl serde::Serialize) -> io::Result<()> {
    other.send(&serde_json::to_vec(what)?).map(drop)
}

/// What the other of the two processes said, if there is anything.
fn hear<T: DeserializeOwned>(other: &UnixDatagram) -> Option<T> {
    let mut buffer = [0; 4096];
    let n = other.recv(&mut buffer).ok()?;
    serde_json::from_slice(&buffer[..n]).ok()
}

/// Why the control directory cannot be left behind half-made: it names the processes of a run to whoever
/// finds the shim dead.
fn note(control: &Path, status: &protocol::Status) -> io::Result<()> {
    let beside = control.join("processes.new");
    std::fs::write(&beside, serde_json::to_vec(status)?)?;
    std::fs::rename(beside, control.join(crate::running::PROCESSES))
}

/// The id as the kernel's calls want it.
fn raw(pid: Pid) -> libc::pid_t {
    pid.as_raw()
}
