//! How a run begins: a shim, and what it is to keep.
//!
//! A shim takes about as long to be there as what it needs takes to be made, so it is started first. It does
//! nothing before it has its plan, and ends when whoever was to give it one is gone.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use tokio::net::UnixStream;

use super::Running;
use super::label::{Label, read_status};
use crate::driver::Shim;
use crate::protocol::{self, Plan, Said};
use crate::rundir::RunDir;
use crate::sweep;

/// A shim without a run. Dropped, it ends by itself.
#[derive(Debug)]
pub(crate) struct Waiting {
    stream: UnixStream,
}

impl Waiting {
    /// Starts a shim for the run `id`.
    ///
    /// # Errors
    /// When there can be no process.
    pub(crate) fn spawn(shim: &Shim, id: &str) -> io::Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let mut command = tokio::process::Command::new(&shim.program);
        command
            .arg0("skyclaw-hostd")
            .args(&shim.args)
            .arg(id)
            .env_clear()
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Not waited for here: it may well outlive this process. The runtime reaps it.
        drop(command.spawn()?);
        ours.set_nonblocking(true)?;
        Ok(Self { stream: UnixStream::from_std(ours)? })
    }
}

impl Running {
    /// Starts a run by a shim that waits for it.
    ///
    /// # Errors
    /// Why there is none now.
    pub(crate) async fn start(shim: Waiting, plan: &Plan, dir: RunDir, label: Label) -> io::Result<Self> {
        label.write(&dir)?;
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
