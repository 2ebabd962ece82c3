//! A run as the daemon sees it: a connection to its shim, and in the end the record on disk.

mod berth;
mod ended;
mod found;
mod label;
mod launch;

use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::protocol::{self, Inbox, Order, Said, Status};
use crate::record::{Event, Exit, What};
use crate::rundir::RunDir;
use crate::stop::Told;
use crate::{BootTime, Capture, LiveOutput, Stop, StopSignal, sweep};

pub(crate) use berth::{Berth, Berths, Place};
pub use ended::Ended;
pub(crate) use found::Found;
pub use label::is_running;
pub(crate) use label::{Label, PROCESSES};
pub(crate) use launch::{Shims, Waiting};

/// How long after the last moment at which something of the run may be there the shim may take to say so.
const LATE: Duration = Duration::from_secs(5);

/// A run. Dropped before its end it is killed, unless it was [left](Running::leave).
#[derive(Debug)]
pub struct Running {
    stream: UnixStream,
    inbox: Inbox,
    /// What is still to be sent. Whole frames are put here, so that nothing is cut where a wait is given up.
    outbox: Vec<u8>,
    status: Option<Status>,
    dir: RunDir,
    label: Label,
    /// Whether the shim was told to stop it, and by when that must have been done.
    gone_by: Option<BootTime>,
    /// Whether its processes were killed from here, as nobody else had done it in time.
    struck: bool,
    /// What happened to it when it began, if this daemon has started it.
    beginning: Vec<Event>,
    /// The record, if the disk did not take it.
    unwritten: Option<Box<Exit>>,
    over: bool,
}

/// What is done about a run that should be over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Overdue {
    /// Its processes are killed.
    Processes,
    /// Its shim is taken for dead.
    Shim,
}

impl Running {
    fn new(stream: UnixStream, dir: RunDir, label: Label) -> Self {
        let inbox = Inbox::new(protocol::MAX_ORDER);
        let outbox = Vec::new();
        Self {
            stream,
            inbox,
            outbox,
            status: None,
            dir,
            label,
            gone_by: None,
            struck: false,
            beginning: Vec::new(),
            unwritten: None,
            over: false,
        }
    }

    /// The id of the first process, which is that of its group and session too.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.status.as_ref().map_or(0, |status| status.leader.pid.unsigned_abs())
    }

    /// What whoever started it wrote on it.
    #[must_use]
    pub fn label(&self) -> &serde_json::Value {
        &self.label.label
    }

    /// The name of the container it is in, if it is in one.
    #[must_use]
    pub fn container(&self) -> Option<&str> {
        self.label.container.as_deref()
    }

    /// Whether its container was started, as far as its shim knows.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.began)
    }

    /// How it began, if this daemon has started it; in the words of its record, which tells all of it in the end.
    #[must_use]
    pub fn beginning(&self) -> &[Event] {
        &self.beginning
    }

    /// Its container was started.
    pub(crate) fn began(&mut self) {
        self.outbox.extend(protocol::frame(&Order::Started).unwrap_or_default());
        // At once: a daemon that dies now should not leave it in doubt. What is not taken is sent later.
        if let Ok(n) = self.stream.try_write(&self.outbox) {
            self.outbox.drain(..n);
        }
        if let Some(status) = &mut self.status {
            status.began = true;
        }
        self.has_started();
    }

    fn has_started(&mut self) {
        if let Some(status) = self.status.as_ref().filter(|status| status.began) {
            self.beginning.push(Event::now(What::Started { pid: status.leader.pid }));
        }
    }

    /// What it writes, to be read while it runs; `None` of one whose beginning is not kept.
    #[must_use]
    pub fn output(&self) -> Option<LiveOutput> {
        match self.label.capture {
            Capture::Head(max) => Some(LiveOutput::new(self.dir.control(), max)),
            Capture::Tail(_) => None,
        }
    }

    /// Until when it may go on, unless it is extended.
    #[must_use]
    pub fn deadline(&self) -> Option<BootTime> {
        self.status.as_ref().and_then(|status| status.deadline)
    }

    /// Lets it go on without this daemon: the next one finds it.
    pub fn leave(mut self) {
        self.over = true;
    }

    /// Waits for the end: by itself, by timeout or deadline, or because of `stop`. Then nothing of it runs.
    pub async fn wait(mut self, mut stop: StopSignal) -> Ended {
        stop.rewind();
        self.watch(&mut stop).await;
        self.end().await
    }

    /// Passes on what it is told, until it is over. Cancel-safe, as long as it is watched again or
    /// [left](Self::leave).
    pub async fn watch(&mut self, stop: &mut StopSignal) {
        while !self.over {
            let overdue = self.overdue();
            let mut late = pin!(async {
                match overdue {
                    Some((moment, _)) => tokio::time::sleep(moment.left()).await,
                    None => std::future::pending().await,
                }
            });
            tokio::select! {
                biased;
                said = self.next() => match said {
                    Ok(Some(Said::Status(status))) => self.status = Some(status),
                    Ok(Some(Said::Ended { unwritten: record })) => {
                        self.unwritten = record;
                        break;
                    }
                    // It was killed: what is left is ended here.
                    Ok(Some(Said::NotStarted { .. }) | None) | Err(_) => break,
                },
                told = stop.told() => self.pass_on(told),
                // The timer's clock stands still while the machine sleeps, and may be early by that.
                () = &mut late => match overdue.filter(|(moment, _)| *moment <= BootTime::now()) {
                    Some((_, Overdue::Processes)) => self.strike().await,
                    Some((_, Overdue::Shim)) => {
                        tracing::error!(run = self.dir.id(), "its shim does not do what it should; the run is ended");
                        break;
                    }
                    None => {}
                }
            }
        }
        self.over = true;
    }

    /// What must be done next if the shim does not do what it should, and when.
    fn overdue(&self) -> Option<(BootTime, Overdue)> {
        let status = self.status.as_ref()?;
        let killed = |at: BootTime| at.after(status.grace + status.slack / 4 * 3);
        if let Some(at) = status.deadline.filter(|_| !self.struck) {
            // Before another host may have the job; the shim may still write its record then.
            let stopped = self.gone_by.map(|at| (at.after(LATE), Overdue::Shim));
            return [Some((killed(at), Overdue::Processes)), stopped].into_iter().flatten().min();
        }
        let by_deadline = status.deadline.map(|at| at.after(status.grace + status.slack));
        let moment = [by_deadline, self.gone_by].into_iter().flatten().min()?;
        Some((moment.after(LATE), Overdue::Shim))
    }

    /// Kills the processes of a run that goes on although it must not, and leaves its keepers to tell of it.
    async fn strike(&mut self) {
        tracing::error!(
            run = self.dir.id(),
            "neither its shim nor its guard has ended it in time; it is killed"
        );
        self.struck = true;
        let (status, groups) = (self.status.clone(), self.label.groups.clone());
        let strike = move || sweep::strike(status.as_ref(), &groups);
        let _ = tokio::task::spawn_blocking(strike).await;
    }

    fn pass_on(&mut self, told: Told) {
        let mut orders = Vec::new();
        if let Some(deadline) = told.deadline {
            orders.push(Order::Extend { deadline });
        }
        if let Some(why) = told.stop.filter(|_| self.gone_by.is_none()) {
            let grace = self.status.as_ref().map(|status| status.grace).unwrap_or_default();
            self.gone_by = Some(BootTime::now().after(grace));
            orders.push(Order::Stop { why, grace: None });
        }
        for frame in orders.iter().filter_map(|order| protocol::frame(order).ok()) {
            // A shim that is frozen takes nothing, and is noticed by that in time.
            if self.outbox.len() < protocol::MAX_ORDER {
                self.outbox.extend(frame);
            }
        }
    }

    /// Sends what is to be sent, and takes what the shim says next; `None` when it is gone. Cancel-safe.
    async fn next(&mut self) -> io::Result<Option<Said>> {
        loop {
            if let Some(said) = self.inbox.next()? {
                return Ok(Some(said));
            }
            let writable = if self.outbox.is_empty() { None } else { Some(Interest::WRITABLE) };
            let ready =
                self.stream.ready(writable.map_or(Interest::READABLE, |it| it | Interest::READABLE)).await?;
            if ready.is_writable() && !self.outbox.is_empty() {
                match self.stream.try_write(&self.outbox) {
                    Ok(n) => drop(self.outbox.drain(..n)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // Gone; what it said before is still to be read.
                    Err(_) => self.outbox.clear(),
                }
            }
            let mut buffer = [0; 4096];
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(n) => self.inbox.push(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let why = Stop::Because("nobody waits for it any more".to_owned());
        if let Ok(frame) = protocol::frame(&Order::Stop { why, grace: Some(Duration::ZERO) }) {
            self.outbox.extend(frame);
            let _ = self.stream.try_write(&self.outbox);
        }
    }
}
