//! What a daemon and a shim say to each other: frames of JSON on a unix socket.
//!
//! ```text
//! 4 bytes, little endian: length ── JSON
//! ```
//! The first frame of a shim's first connection is its [`Plan`]. To each order it answers with its
//! [`Status`], which is the receipt: a deadline that is not in it is not known to the shim. A connection
//! made later is greeted with the status. Fields are only ever added: a shim may be older or younger than
//! the daemon that finds it.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::record::{Event, Exit, ExitStatus, Usage, What};
pub(crate) use crate::tree::Process;
use crate::{BootTime, Capture, Halt, Stop};

/// Longest frame, in bytes: a plan with all the arguments a kernel takes.
pub(crate) const MAX_FRAME: usize = 32 << 20;
/// Longest frame of all others, in bytes.
pub(crate) const MAX_ORDER: usize = 64 << 10;

/// Everything a shim needs to know of its run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Plan {
    /// The run's mark.
    pub(crate) run: String,
    /// The shim's own directory.
    pub(crate) control: PathBuf,
    /// What is kept.
    pub(crate) kept: Kept,
    /// From when on the run is stopped unless it is extended.
    pub(crate) deadline: Option<BootTime>,
    /// Why that is.
    pub(crate) why: String,
    /// How long after deadline and grace something of the run may still be there.
    pub(crate) slack: Duration,
    /// How long it may run.
    pub(crate) timeout: Option<Duration>,
    /// How long it may take to end after it was asked to.
    pub(crate) grace: Duration,
    /// Which part of the output is kept.
    pub(crate) capture: Capture,
    /// The control groups it runs in, made already.
    pub(crate) groups: Vec<Group>,
    /// What holds for it, in words, for its events.
    pub(crate) in_force: Vec<String>,
    /// What happened to it before.
    #[serde(default)]
    pub(crate) events: Vec<Event>,
    /// What ends it as soon as it is there. A younger daemon's alone.
    #[serde(default)]
    pub(crate) halt: Option<Halt>,
}

impl Plan {
    /// What has happened once a shim has it.
    pub(crate) fn beginning(&self) -> Vec<Event> {
        let now = [What::Prepared, What::InForce(self.in_force.clone())].map(Event::now);
        self.events.iter().cloned().chain(now).collect()
    }
}

/// What a shim is the keeper of. A shim that is told of a kind it does not know refuses the plan.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Kept {
    /// A process, started by the shim's guard.
    Process(Box<Program>),
    /// A container that was made and initialised, and is started by the daemon once the shim has it.
    Container(Box<Container>),
}

/// A container, as far as its keepers need to know it. None of it needs the engine.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Container {
    /// Its first process, which is that of its PID namespace.
    pub(crate) main: Process,
    /// What watches it (conmon), and hands out what it writes.
    pub(crate) monitor: Process,
    /// Where the monitor writes the exit code.
    pub(crate) exit_file: PathBuf,
    /// The directory in which the monitor has the socket for its output.
    pub(crate) bundle: PathBuf,
    /// The pipe that the first process ends without.
    pub(crate) life: PathBuf,
    /// What its groups had used before it was started.
    pub(crate) cpu_before: Duration,
}

/// A process to be started.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) cwd: PathBuf,
    /// Whose it is; the daemon's own when not given.
    pub(crate) user: Option<User>,
    /// Where it may write; anywhere when not given.
    pub(crate) writable: Option<Vec<PathBuf>>,
    /// How many processes its user may have.
    pub(crate) max_processes: Option<u64>,
    /// How large a file it may make, in bytes.
    #[serde(default)]
    pub(crate) max_file_bytes: Option<u64>,
}

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user's id.
    pub uid: u32,
    /// The id of the user's group, and the only group.
    pub gid: u32,
}

/// What a daemon tells a shim after the plan.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Order {
    /// The run may go on until then. Never makes the time shorter, and is nothing once it is over.
    Extend { deadline: BootTime },
    /// A container was started.
    Started,
    /// The run is to end.
    Stop { why: Stop, grace: Option<Duration> },
}

/// What a shim tells a daemon.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Said {
    /// How things are.
    Status(Status),
    /// It could not be started.
    NotStarted { errno: Option<i32>, fault: String },
    /// It is over, and the record of it is written, though perhaps not synced yet; only if the disk takes none,
    /// it is here.
    Ended { unwritten: Option<Box<Exit>> },
}

/// What a shim tells its guard. Both are one program, so this may change.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum ToGuard {
    /// When the guard is to act by itself.
    Limits(Limits),
    /// The run is to end by itself until then, and is killed after.
    Stop { kill_at: BootTime },
    /// The record is written.
    Done,
}

/// What a guard tells its shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromGuard {
    Started { leader: i32 },
    NotStarted { errno: Option<i32>, fault: String },
    Ended(End),
}

/// How the processes of a run ended.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) status: Option<ExitStatus>,
    pub(crate) usage: Usage,
    /// Whether the guard had to kill it because nobody had extended its deadline.
    pub(crate) by_guard: bool,
    /// Whether the guard had to stop it because its host's switch is set.
    pub(crate) halted: bool,
}

/// Moments at which a run that nobody has stopped is killed, later and later ones by what needs less and
/// less to be alive.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// By the guard.
    pub(crate) guard: BootTime,
    /// By the kernel, which kills guard and shim, and with them the run.
    pub(crate) kernel: BootTime,
}

impl Limits {
    pub(crate) fn of(deadline: BootTime, grace: Duration, slack: Duration) -> Self {
        let late = deadline.after(grace);
        Self { guard: late.after(slack / 4), kernel: late.after(slack / 2) }
    }
}

/// How a run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    pub(crate) shim: Process,
    pub(crate) guard: Process,
    /// The first process of the run.
    pub(crate) leader: Process,
    pub(crate) deadline: Option<BootTime>,
    pub(crate) grace: Duration,
    pub(crate) slack: Duration,
    /// Whether it is being stopped.
    pub(crate) stopping: bool,
    /// Whether it runs; a container is started after its keepers have it.
    #[serde(default = "yes")]
    pub(crate) began: bool,
}

fn yes() -> bool {
    true
}

/// A frame.
pub(crate) fn frame(what: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, what)?;
    let length = u32::try_from(bytes.len() - 4).map_err(io::Error::other)?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Bytes that have come, until they make a frame.
#[derive(Debug)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    max: usize,
    closed: bool,
}

impl Inbox {
    pub(crate) fn new(max: usize) -> Self {
        Self { bytes: Vec::new(), max, closed: false }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether there is more than a frame can be.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() > self.max + 4
    }

    /// Nothing more will come.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The next frame, when all of it is there. An error is for ever.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(head) = self.bytes.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*head) as usize;
        if length > self.max {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
        }
        let Some(body) = self.bytes.get(4..4 + length) else { return Ok(None) };
        let what = serde_json::from_slice(body)?;
        self.bytes.drain(..4 + length);
        Ok(Some(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_however_they_come_in_pieces() {
        let orders = [
            Order::Stop { why: Stop::Cancelled, grace: None },
            Order::Stop { why: Stop::Because("why".into()), grace: Some(Duration::from_secs(1)) },
        ];
        let bytes: Vec<u8> = orders.iter().flat_map(|order| frame(order).expect("a frame")).collect();
        let (mut inbox, mut read) = (Inbox::new(MAX_ORDER), Vec::new());
        for byte in bytes {
            inbox.push(&[byte]);
            while let Some(order) = inbox.next::<Order>().expect("frames") {
                read.push(order);
            }
        }
        assert_eq!(format!("{read:?}"), format!("{orders:?}"));
    }

    #[test]
    fn a_frame_that_is_too_long_or_is_none_is_refused() {
        let mut inbox = Inbox::new(10);
        inbox.push(&11_u32.to_le_bytes());
        assert!(inbox.next::<Order>().is_err());
        let mut inbox = Inbox::new(10);
        inbox.push(&[2, 0, 0, 0, b'{', b'}']);
        assert!(inbox.next::<Order>().is_err());
    }

    #[test]
    fn what_shims_and_daemons_of_this_version_say_stays_understood() {
        for order in [
            r#"{"extend":{"deadline":5000000000}}"#,
            r#""started""#,
            r#"{"stop":{"why":"cancelled","grace":null}}"#,
            r#"{"stop":{"why":{"because":"host is shutting down"},"grace":{"secs":1,"nanos":0},"more":1}}"#,
        ] {
            assert!(serde_json::from_str::<Order>(order).is_ok(), "{order}");
        }
        for said in [
            r#"{"ended":{"unwritten":null}}"#,
            r#"{"notStarted":{"errno":2,"fault":"no such file"}}"#,
            r#"{"status":{"shim":{"pid":2,"start":7},"guard":{"pid":3,"start":8},"leader":{"pid":4,"start":9},"deadline":null,
               "grace":{"secs":5,"nanos":0},"slack":{"secs":2,"nanos":0},"stopping":false,"more":[]}}"#,
        ] {
            assert!(serde_json::from_str::<Said>(said).is_ok(), "{said}");
        }
    }
}
