//! What a run leaves on disk: how it ended, and what happened to it.
//!
//! The record is there as a whole or not at all, before anybody hears that the run is over, and the death of no
//! process takes it away from then on. It is made durable right after: what it is good for when the power fails
//! is to tell a next daemon what no daemon has told yet, and a daemon puts it on its own disk before it tells it
//! to anybody. It is written by the shim, or by the guard when there is no shim any more.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cgroup::{Group, Spent};
use crate::{BootTime, Stop};

const FILE: &str = "exit.json";

/// The record of a run that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Exit {
    /// Which start of the machine it was.
    pub(crate) boot: String,
    pub(crate) reason: Reason,
    /// How its first process ended, if that was seen.
    pub(crate) status: Option<ExitStatus>,
    pub(crate) duration: Duration,
    pub(crate) usage: Usage,
    /// Whether processes of it were killed for want of memory.
    pub(crate) out_of_memory: bool,
    /// How many bytes it wrote to standard output and standard error, kept or not. Not known when the shim
    /// was killed.
    pub(crate) written: Option<[u64; 2]>,
    pub(crate) events: Vec<Event>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ExitStatus {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// Why a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Reason {
    /// It ended by itself.
    Itself,
    /// It took longer than it may.
    TimedOut(Duration),
    /// Its deadline was not extended; why it had one.
    Deadline(String),
    /// It was told to.
    Stopped(Stop),
    /// A process that kept it was killed.
    KeeperLost(String),
}

/// What a run has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Time on processors, of all its processes.
    pub cpu: Duration,
    /// Most memory it had at one time: all of it where its memory is bounded, else its largest process.
    pub peak_memory_bytes: u64,
}

/// Something that happened to a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When.
    pub at: BootTime,
    /// What.
    pub what: What,
}

/// What can happen to a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum What {
    /// Its shim has it.
    Prepared,
    /// What its container was made of.
    Image {
        /// As it was asked for.
        name: String,
        /// Which image that is here.
        id: String,
        /// Whether the container was made before the run was known.
        ahead: bool,
    },
    /// What holds for it, in words.
    InForce(Vec<String>),
    /// Its first process runs.
    Started {
        /// The process.
        pid: i32,
    },
    /// It was told to end.
    StopAsked {
        /// Who: `host`, `shim` or `guard`.
        by: String,
        /// Why.
        why: String,
    },
    /// It did not end in its grace and was killed.
    Killed {
        /// Who: `host`, `shim` or `guard`.
        by: String,
    },
    /// Processes of it were killed for want of memory.
    OutOfMemory,
    /// Its first process ended.
    Exited(ExitStatus),
    /// What it used.
    Used(Usage),
}

impl Event {
    /// Something that happens now.
    pub(crate) fn now(what: What) -> Self {
        Self { at: BootTime::now(), what }
    }
}

impl Exit {
    /// Adds what the run's groups know, says it in the events, and removes the groups, which must be empty.
    pub(crate) fn take_from_groups(&mut self, groups: &[Group]) {
        let spent: Vec<_> = groups.iter().map(Group::spent).collect();
        self.take_spent(&spent);
        groups.iter().for_each(Group::remove);
    }

    /// Adds what the run's groups knew when it ended, and says it in the events.
    pub(crate) fn take_spent(&mut self, all: &[Spent]) {
        let mut measured = self.usage;
        for spent in all {
            measured.cpu = measured.cpu.max(spent.cpu.unwrap_or_default());
            // What the largest process had says less than what all had together.
            if let Some(peak) = spent.peak_memory_bytes {
                measured.peak_memory_bytes = peak;
            }
            self.out_of_memory |= spent.oom_kills > 0;
        }
        self.usage = measured;
        if self.out_of_memory {
            self.events.push(Event::now(What::OutOfMemory));
        }
        if let Some(status) = self.status {
            self.events.push(Event::now(What::Exited(status)));
        }
        self.events.push(Event::now(What::Used(measured)));
    }

    /// Puts it where it is found, beside the output of the run.
    pub(crate) fn write<'a>(&self, control: &'a Path) -> io::Result<Written<'a>> {
        let (beside, path) = (control.join("exit.new"), control.join(FILE));
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(&beside, path)?;
        Ok(Written { control, file })
    }

    /// Reads it, when it is there.
    pub(crate) fn read(control: &Path) -> io::Result<Option<Self>> {
        match fs::read(control.join(FILE)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A record that is where it is found, and stays there unless the power fails.
#[derive(Debug)]
#[must_use = "it is to be made durable"]
pub(crate) struct Written<'a> {
    control: &'a Path,
    file: File,
}

impl Written<'_> {
    /// Makes it durable, and the output before it. Blocks on the disk.
    pub(crate) fn sync(self) -> io::Result<()> {
        crate::output::sync(self.control);
        self.file.sync_all()?;
        File::open(self.control)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().expect("temp dir");
        assert_eq!(Exit::read(dir.path()).expect("read"), None);
        let exit = Exit {
            boot: "b".into(),
            reason: Reason::Stopped(Stop::Because("why".into())),
            status: Some(ExitStatus::Signal(15)),
            duration: Duration::from_millis(5),
            usage: Usage { cpu: Duration::from_micros(3), peak_memory_bytes: 7 },
            out_of_memory: true,
            written: Some([1, 2]),
            events: vec![Event::now(What::Started { pid: 3 })],
        };
        let written = exit.write(dir.path()).expect("write");
        assert_eq!(Exit::read(dir.path()).expect("read").as_ref(), Some(&exit));
        written.sync().expect("sync");
        assert_eq!(Exit::read(dir.path()).expect("read"), Some(exit));
    }

    #[test]
    fn a_record_of_this_version_stays_readable() {
        let dir = tempfile::tempdir().expect("temp dir");
        let json = r#"{"boot":"b","reason":{"timedOut":{"secs":1,"nanos":0}},"status":{"code":3},
            "duration":{"secs":1,"nanos":5},"usage":{"cpu":{"secs":0,"nanos":9},"peakMemoryBytes":4096},
            "outOfMemory":false,"written":null,"events":[{"at":5,"what":"prepared"},
            {"at":6,"what":{"stopAsked":{"by":"shim","why":"timed out"}}}],"later":1}"#;
        fs::write(dir.path().join(FILE), json).expect("write");
        let exit = Exit::read(dir.path()).expect("read").expect("a record");
        assert_eq!(exit.status, Some(ExitStatus::Code(3)));
        assert_eq!(exit.reason, Reason::TimedOut(Duration::from_secs(1)));
    }
}
