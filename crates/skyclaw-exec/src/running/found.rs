//! Runs that an earlier daemon left.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use tokio::net::UnixStream;

use super::label::{Label, read_status};
use super::{Ended, Running};
use crate::boot::boot_id;
use crate::protocol::Said;
use crate::rundir::RunDir;
use crate::{shim, sweep};

/// How long a shim that is found may take to say how it is. One that is frozen does not.
const GREETING: Duration = Duration::from_secs(3);

/// What has become of a run whose directory is there.
pub(crate) enum Found {
    Running(Running),
    Ended(Ended),
    /// Nobody saw its end. Its directory is removed.
    Lost(serde_json::Value),
}

impl Running {
    /// Looks what has become of a run, takes it over when it goes on, and ends what is left of it when
    /// nobody keeps it any more.
    pub(crate) async fn find(dir: RunDir) -> Found {
        let Some(label) = Label::read(&dir) else {
            // Whoever made it died before it had said what it is for; nothing was started.
            let (id, path) = (dir.id().to_owned(), dir);
            let end = move || {
                sweep::end(&id, None, &[]);
                path.remove();
            };
            let _ = tokio::task::spawn_blocking(end).await;
            return Found::Lost(serde_json::Value::Null);
        };
        // Of an earlier start of the machine nothing runs, and no number means anything.
        if label.boot == boot_id() {
            if let Ok(stream) = connect(&dir) {
                let mut this = Self::new(stream, dir, label);
                if let Ok(Ok(Some(Said::Status(status)))) = tokio::time::timeout(GREETING, this.next()).await
                {
                    this.status = Some(status);
                    return Found::Running(this);
                }
                this.status = read_status(&this.dir);
                return this.find_end(true).await;
            }
            let status = read_status(&dir);
            return Self::read_end(dir, label, status, true, None).await;
        }
        Self::read_end(dir, label, None, false, None).await
    }

    async fn find_end(mut self, sweep: bool) -> Found {
        self.over = true;
        let (dir, label, status) = (self.dir.clone(), self.label.clone(), self.status.take());
        Self::read_end(dir, label, status, sweep, None).await
    }
}

/// Connects to the shim of a run. The way through an open directory has room for any path.
fn connect(dir: &RunDir) -> io::Result<UnixStream> {
    let control = fs::File::open(dir.control())?;
    let path = format!("/proc/self/fd/{}/{}", control.as_raw_fd(), shim::SOCKET);
    let stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}
