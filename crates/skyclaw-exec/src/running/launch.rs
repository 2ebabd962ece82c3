//! How a run begins: a shim, and what it is to keep.
//!
//! A shim takes a while to be there, in which what it needs can be made, so it is asked for first. It does nothing
//! before it has its plan, and ends when whoever was to give it one is gone.
//!
//! Shims come from a [nursery](crate::shim), which is started once: to start the program anew for each run would
//! take most of a run's beginning. The daemon is not kept from anything by one that is killed or frozen.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socketpair,
};
use tokio::net::UnixStream;

use super::Running;
use super::label::{Label, read_status};
use crate::driver::Shim;
use crate::protocol::{self, Plan, Said};
use crate::rundir::RunDir;
use crate::{shim, sweep};

/// How long a shim from the nursery may take to be there. No plan is given before, so one that comes later is nothing
/// but late.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where shims come from.
#[derive(Debug)]
pub(crate) struct Shims {
    shim: Shim,
    /// The way to the nursery, when there is one. It ends when this is dropped.
    nursery: Mutex<Option<OwnedFd>>,
}

/// A shim without a run. Dropped, it ends by itself.
#[derive(Debug)]
pub(crate) struct Waiting {
    stream: UnixStream,
}

impl Shims {
    pub(crate) fn new(shim: Shim) -> Self {
        Self { shim, nursery: Mutex::new(None) }
    }

    /// Asks for a shim that is to have its plan as soon as it is there.
    ///
    /// # Errors
    /// When there can be none.
    pub(crate) fn ask(&self) -> io::Result<Waiting> {
        self.fork(b"-")
    }

    /// Asks for a spare one: it listens in a control directory, and waits there to be [called](Waiting::call).
    ///
    /// # Errors
    /// When there can be none.
    pub(super) fn ask_ahead(&self, control: &Path) -> io::Result<Waiting> {
        self.fork(control.as_os_str().as_bytes())
    }

    fn fork(&self, place: &[u8]) -> io::Result<Waiting> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let mut nursery = self.nursery.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was killed is noticed by that nothing can be sent to it.
        let sent = nursery.as_ref().is_some_and(|nursery| send(nursery, &theirs, place).is_ok());
        if !sent {
            let fresh = self.start_nursery()?;
            send(&fresh, &theirs, place)?;
            *nursery = Some(fresh);
        }
        drop(nursery);
        Waiting::of(ours)
    }

    /// The shim that was asked for, when it is there; another one, when it is not in time.
    ///
    /// # Errors
    /// When there can be none.
    pub(crate) async fn ready(&self, asked: Waiting, run: &str) -> io::Result<Waiting> {
        if asked.is_there_in_time().await {
            return Ok(asked);
        }
        tracing::warn!(run, "the nursery of shims is dead or frozen; the run gets a shim without it");
        self.distrust();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        self.spawn(theirs.into(), run)?;
        Waiting::of(ours)
    }

    /// Does without this nursery from now on. It ends, and with it those from it that have no run, frozen ones too.
    pub(super) fn distrust(&self) {
        *self.nursery.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn start_nursery(&self) -> io::Result<OwnedFd> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        self.spawn(theirs, shim::NURSERY)?;
        Ok(ours)
    }

    fn spawn(&self, connection: OwnedFd, last: &str) -> io::Result<()> {
        let mut command = tokio::process::Command::new(&self.shim.program);
        command
            .arg0("skyclaw-hostd")
            .args(&self.shim.args)
            .arg(last)
            .env_clear()
            .current_dir("/")
            .stdin(connection)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Not waited for here: it may well outlive this process. The runtime reaps it.
        command.spawn().map(drop)
    }
}

impl Waiting {
    fn of(ours: std::os::unix::net::UnixStream) -> io::Result<Self> {
        ours.set_nonblocking(true)?;
        Ok(Self { stream: UnixStream::from_std(ours)? })
    }

    /// Asks a spare one for its word once more. Only one that runs gives it, so no plan is given to one that is frozen.
    ///
    /// # Errors
    /// When it is gone.
    pub(super) fn call(&self) -> io::Result<()> {
        rustix::net::send(&self.stream, &[shim::CALL], SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        Ok(())
    }

    pub(super) async fn is_there_in_time(&self) -> bool {
        tokio::time::timeout(PATIENCE, self.is_there()).await == Ok(true)
    }

    /// Waits for its word; `false` when it is gone instead.
    async fn is_there(&self) -> bool {
        let mut word = [0];
        while self.stream.readable().await.is_ok() {
            match self.stream.try_read(&mut word) {
                Ok(n) => return n == 1 && word[0] == shim::READY,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        false
    }
}

/// Gives a connection away, and says where a spare shim is to listen.
fn send(nursery: &OwnedFd, connection: &impl AsFd, place: &[u8]) -> io::Result<()> {
    let files = [connection.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&files));
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(nursery, &[IoSlice::new(place)], &mut control, flags)?;
    Ok(())
}

impl Running {
    /// Starts a run by a shim that waits for it. Its label is written already.
    ///
    /// # Errors
    /// Why there is none now.
    pub(crate) async fn start(shim: Waiting, plan: &Plan, dir: RunDir, label: Label) -> io::Result<Self> {
        let mut this = Self::new(shim.stream, dir, label);
        this.outbox = protocol::frame(plan)?;
        match this.next().await? {
            Some(Said::Status(status)) => {
                tracing::debug!(
                    shim = status.shim.pid,
                    pid = status.leader.pid,
                    run = this.dir.id(),
                    "started"
                );
                this.status = Some(status);
                this.beginning = plan.beginning();
                this.has_started();
                Ok(this)
            }
            Some(Said::NotStarted { errno, fault }) => {
                this.over = true;
                Err(errno.map_or_else(|| io::Error::other(fault), io::Error::from_raw_os_error))
            }
            // So quick that the end was heard first cannot be: the status comes before.
            Some(Said::Ended { .. }) | None => {
                this.over = true;
                let (id, groups) = (this.dir.id().to_owned(), this.label.groups.clone());
                let status = read_status(&this.dir);
                let end = move || sweep::end(&id, status.as_ref(), &groups);
                let _ = tokio::task::spawn_blocking(end).await;
                Err(io::Error::other("its shim ended before it had started anything"))
            }
        }
    }
}
