//! A process without a run, of which each shim is a copy.
//!
//! ```text
//! daemon ── socket ──> nursery ── fork ──> shim ── ready ──> daemon ── plan ──> shim
//!           a connection for each run        └ spare: listens, waits for a call, says once more that it is ready
//! ```
//! It has what every shim has and none of what one has: no plan ever comes here. It ends with its daemon, whose end
//! of the socket is the only one; the shims that came from it do not. It waits for nothing but orders, so that it
//! is killed or frozen is nothing to any run: a shim that is not there in time is started in another way, and one
//! that comes after that finds nobody, and ends.

use std::ffi::OsStr;
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, fork, setsid};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::nest::Nest;
use super::rehearsal;

/// The last argument of a program that is to be one.
pub(crate) const NURSERY: &str = "nursery";
/// What a shim says when it is there.
pub(crate) const READY: u8 = b'+';
/// What a daemon says to a spare shim when there is a run for it.
pub(crate) const CALL: u8 = b'?';

/// Longest path the kernel takes.
const MAX_PATH: usize = 4096;

/// A shim that was just forked.
pub(super) struct Newborn {
    pub(super) daemon: UnixStream,
    /// Where it is to listen, if it is a spare one.
    pub(super) place: Option<PathBuf>,
}

/// Forks a shim for each connection that comes. In a shim it returns with that; otherwise when the daemon is gone.
pub(super) fn run(daemon: OwnedFd) -> io::Result<Option<Newborn>> {
    let _ = setsid();
    prctl::set_name(c"skyclaw-nursery")?;
    // So that one that is frozen ends with its daemon as well. The kernel takes the thread that started it for its
    // parent; if only that ends, another is started when one is needed.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // Nobody waits for them here.
    take_children(SigHandler::SigIgn)?;
    while let Some(newborn) = receive(&daemon)? {
        #[expect(unsafe_code, reason = "there is no safe fork")]
        // SAFETY: this process has one thread, so the child may do whatever its parent may.
        let forked = unsafe { fork() };
        if let Ok(ForkResult::Child) = forked {
            drop(daemon);
            take_children(SigHandler::SigDfl)?;
            return Ok(Some(newborn));
        }
        // If there is no child, the daemon sees that by its end of what is dropped here.
    }
    Ok(None)
}

/// A shim that is about to get its plan.
pub(super) enum Called {
    Spare(Nest),
    Fresh(UnixStream),
}

impl Newborn {
    /// Says that it is there; a spare one once it listens and has a guard, and again when it is called. `None` when that
    /// never happens.
    pub(super) fn ready(mut self) -> io::Result<Option<Called>> {
        let Some(place) = self.place else {
            self.daemon.write_all(&[READY])?;
            return Ok(Some(Called::Fresh(self.daemon)));
        };
        prctl::set_name(c"skyclaw-spare")?;
        // As long as it has no run: so that one that is frozen ends with its daemon.
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        let mut nest = Nest::make(self.daemon, super::listen(&place)?, true)?;
        let _ = rehearsal::of_shim();
        nest.daemon().write_all(&[READY])?;
        if nest.daemon().read(&mut [0])? == 0 {
            return Ok(None);
        }
        prctl::set_pdeathsig(None)?;
        nest.ask_guard()?;
        nest.daemon().write_all(&[READY])?;
        prctl::set_name(c"skyclaw-shim")?;
        Ok(Some(Called::Spare(nest)))
    }
}

fn take_children(how: SigHandler) -> io::Result<()> {
    #[expect(unsafe_code, reason = "there is no safe form")]
    // SAFETY: no handler is installed.
    unsafe {
        signal(Signal::SIGCHLD, how)?;
    }
    Ok(())
}

/// What the next shim gets; `None` when there will be none.
fn receive(daemon: &OwnedFd) -> io::Result<Option<Newborn>> {
    let mut text = [0; MAX_PATH];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let n =
            match recvmsg(daemon, &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(told) if told.bytes == 0 => return Ok(None),
                Ok(told) => told.bytes,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut files) = message
                && let Some(connection) = files.next()
            {
                let place = Some(Path::new(OsStr::from_bytes(&text[..n]))).filter(|it| it.is_absolute());
                let place = place.map(Path::to_owned);
                return Ok(Some(Newborn { daemon: UnixStream::from(connection), place }));
            }
        }
    }
}
