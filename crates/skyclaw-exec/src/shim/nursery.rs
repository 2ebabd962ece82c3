//! A process without a run, of which each shim is a copy.
//!
//! ```text
//! daemon ── socket ──> nursery ── fork ──> shim ── ready ──> daemon ── plan ──> shim
//!           a connection for each run
//! ```
//! It has what every shim has and none of what one has: no plan ever comes here. It ends with its daemon, whose end
//! of the socket is the only one; the shims that came from it do not. It waits for nothing but orders, so that it
//! is killed or frozen is nothing to any run: a shim that is not there in time is started in another way, and one
//! that comes after that finds nobody, and ends.

use std::io::{self, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, fork, setsid};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// The last argument of a program that is to be one.
pub(crate) const NURSERY: &str = "nursery";
/// What a shim says when it is there.
pub(crate) const READY: u8 = b'+';

/// Forks a shim for each connection that comes. In a shim it returns with the connection; otherwise when the daemon is
/// gone.
pub(super) fn run(daemon: OwnedFd) -> io::Result<Option<UnixStream>> {
    let _ = setsid();
    prctl::set_name(c"skyclaw-nursery")?;
    // So that one that is frozen ends with its daemon as well. The kernel takes the thread that started it for its
    // parent; if only that ends, another is started when one is needed.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // Nobody waits for them here.
    take_children(SigHandler::SigIgn)?;
    while let Some(connection) = receive(&daemon)? {
        #[expect(unsafe_code, reason = "there is no safe fork")]
        // SAFETY: this process has one thread, so the child may do whatever its parent may.
        let forked = unsafe { fork() };
        if let Ok(ForkResult::Child) = forked {
            drop(daemon);
            take_children(SigHandler::SigDfl)?;
            let mut connection = UnixStream::from(connection);
            connection.write_all(&[READY])?;
            return Ok(Some(connection));
        }
        // If there is no child, the daemon sees that by its end of what is dropped here.
    }
    Ok(None)
}

fn take_children(how: SigHandler) -> io::Result<()> {
    #[expect(unsafe_code, reason = "there is no safe form")]
    // SAFETY: no handler is installed.
    unsafe {
        signal(Signal::SIGCHLD, how)?;
    }
    Ok(())
}

/// The next connection; `None` when there will be none.
fn receive(daemon: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        match recvmsg(daemon, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(told) if told.bytes == 0 => return Ok(None),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut files) = message
                && let Some(connection) = files.next()
            {
                return Ok(Some(connection));
            }
        }
    }
}
