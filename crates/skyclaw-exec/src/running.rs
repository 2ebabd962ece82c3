//! A run as the daemon sees it: a connection to its shim, and in the end the record on disk.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::boot::boot_id;
use crate::cgroup::Group;
use crate::driver::Shim;
use crate::outcome::{self, Outcome};
use crate::protocol::{self, Inbox, Order, Plan, Process, Said, Status};
use crate::record::Exit;
use crate::rundir::RunDir;
use crate::stop::Told;
use crate::{BootTime, Capture, Stop, StopSignal, shim, sweep, tree};

/// In a control directory: which processes belong to the run, told by the shim.
pub(crate) const PROCESSES: &str = "processes.json";
/// In a control directory: what whoever finds the run needs to know, told by the daemon.
const LABEL: &str = "label.json";

/// How long a shim that is found may take to say how it is. One that is frozen does not.
const GREETING: Duration = Duration::from_secs(3);
/// How long after the last moment at which something of the run may be there the shim may take to say so.
const LATE: Duration = Duration::from_secs(5);

/// What whoever finds a run needs to know of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Label {
    /// Which start of the machine it is of.
    boot: String,
    label: serde_json::Value,
    capture: Capture,
    hint: Option<String>,
    groups: Vec<Group>,
    /// The container it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    container: Option<String>,
}

impl Label {
    pub(crate) fn new(
        label: serde_json::Value,
        capture: Capture,
        hint: Option<String>,
        groups: Vec<Group>,
    ) -> Self {
        Self { boot: boot_id(), label, capture, hint, groups, container: None }
    }

    /// The same of a run in a container.
    pub(crate) fn in_container(self, name: &str) -> Self {
        Self { container: Some(name.to_owned()), ..self }
    }
}

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
    /// The record, if the disk did not take it.
    unwritten: Option<Box<Exit>>,
    over: bool,
}

/// A run that is over. What it left on disk stays until it is forgotten.
#[derive(Debug)]
pub struct Ended {
    outcome: Outcome,
    label: serde_json::Value,
    container: Option<String>,
    dir: RunDir,
    /// Guard and shim, if they hold on to the record because the disk did not take it.
    held: Option<[Process; 2]>,
}

/// What is done about a run that should be over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Overdue {
    /// Its processes are killed.
    Processes,
    /// Its shim is taken for dead.
    Shim,
}

/// What has become of a run whose directory is there.
pub(crate) enum Found {
    Running(Running),
    Ended(Ended),
    /// Nobody saw its end. Its directory is removed.
    Lost(serde_json::Value),
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
            unwritten: None,
            over: false,
        }
    }

    /// Starts a shim, and the run by it.
    pub(crate) async fn start(shim: &Shim, plan: &Plan, dir: RunDir, label: Label) -> io::Result<Self> {
        fs::write(dir.control().join(LABEL), serde_json::to_vec(&label)?)?;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let mut command = tokio::process::Command::new(&shim.program);
        command
            .arg0("skyclaw-hostd")
            .args(&shim.args)
            .arg(dir.id())
            .env_clear()
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        // Not waited for here: it may well outlive this process. The runtime reaps it.
        drop(command.spawn()?);
        drop(command);
        ours.set_nonblocking(true)?;
        let stream = UnixStream::from_std(ours)?;
        let mut this = Self::new(stream, dir, label);
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

    /// Looks what has become of a run, takes it over when it goes on, and ends what is left of it when
    /// nobody keeps it any more.
    pub(crate) async fn find(dir: RunDir) -> Found {
        let Some(label) = read::<Label>(&dir.control().join(LABEL)) else {
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

    /// What it left, after the end of what is left of it. Of one that is not over, that is all of it.
    pub async fn end(mut self) -> Ended {
        self.over = true;
        let (dir, label, status) = (self.dir.clone(), self.label.clone(), self.status.take());
        let unwritten = self.unwritten.take();
        match Self::read_end(dir.clone(), label.clone(), status, true, unwritten).await {
            Found::Ended(ended) => ended,
            _ => {
                let Label { label, container, .. } = label;
                Ended { outcome: Outcome::lost(), label, container, dir, held: None }
            }
        }
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

    /// Reads how a run ended, after ending what is left of it where nobody keeps it.
    async fn read_end(
        dir: RunDir,
        label: Label,
        status: Option<Status>,
        sweep: bool,
        unwritten: Option<Box<Exit>>,
    ) -> Found {
        let read = move || {
            let control = dir.control();
            let recorded = |dir: &RunDir| {
                Exit::read(&dir.control()).unwrap_or_else(|error| {
                    tracing::error!(run = dir.id(), %error, "the record of a run cannot be read");
                    None
                })
            };
            let held = status.as_ref().filter(|_| unwritten.is_some()).map(|it| [it.guard, it.shim]);
            let mut exit = unwritten.map(|exit| *exit).or_else(|| recorded(&dir));
            if exit.is_none() && sweep {
                sweep::end(dir.id(), status.as_ref(), &label.groups);
                exit = recorded(&dir);
            }
            let Some(exit) = exit else {
                dir.remove();
                return Found::Lost(label.label);
            };
            // Written, the shim has nothing left to do but to end; a test that counts processes sees it.
            let shim =
                status.filter(|_| held.is_none()).and_then(|it| tree::hold(it.shim.pid, it.shim.start));
            if let Some(shim) = shim {
                sweep::is_gone_within(&shim, LATE);
            }
            let outcome = outcome::of(exit, &control, label.capture, label.hint.as_deref());
            let Label { label, container, .. } = label;
            Found::Ended(Ended { outcome, label, container, dir, held })
        };
        tokio::task::spawn_blocking(read).await.unwrap_or(Found::Lost(serde_json::Value::Null))
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

impl Ended {
    /// How it ended.
    #[must_use]
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// What whoever started it wrote on it.
    #[must_use]
    pub fn label(&self) -> &serde_json::Value {
        &self.label
    }

    /// The name of the container it was in, which is still to be cleared away.
    #[must_use]
    pub fn container(&self) -> Option<&str> {
        self.container.as_deref()
    }

    /// Removes what it left on disk, and gives the outcome. To be called when that is safe elsewhere.
    pub async fn forget(self) -> Outcome {
        let Self { outcome, dir, held, .. } = self;
        // Its removal is on the file system, so it is done off the runtime.
        let removed = tokio::task::spawn_blocking(move || {
            // They would write the record as soon as there is room again. In this order, as a guard does it when
            // its shim is gone.
            held.into_iter().flatten().for_each(sweep::kill);
            dir.remove();
        });
        let _ = removed.await;
        outcome
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn read_status(dir: &RunDir) -> Option<Status> {
    read(&dir.control().join(PROCESSES))
}

/// Whether anything of the run with this directory goes on, as far as can be told from outside: its shim or
/// its guard lives.
#[must_use]
pub fn is_running(dir: &Path) -> bool {
    let status: Option<Status> = read(&dir.join("control").join(PROCESSES));
    let lives = |it: Process| tree::stat(it.pid).is_some_and(|stat| stat.start == it.start && !stat.dead);
    status.is_some_and(|status| [status.shim, status.guard, status.leader].into_iter().any(lives))
}

/// Connects to the shim of a run. The way through an open directory has room for any path.
fn connect(dir: &RunDir) -> io::Result<UnixStream> {
    let control = fs::File::open(dir.control())?;
    let path = format!("/proc/self/fd/{}/{}", control.as_raw_fd(), shim::SOCKET);
    let stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}
