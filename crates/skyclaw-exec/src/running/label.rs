//! What is written down of a run, so that whoever finds it knows what it is and what belongs to it.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::boot::boot_id;
use crate::cgroup::Group;
use crate::protocol::{Process, Status};
use crate::rundir::RunDir;
use crate::{Capture, tree};

/// In a control directory: which processes belong to the run, told by the shim.
pub(crate) const PROCESSES: &str = "processes.json";
/// In a control directory: what whoever finds the run needs to know, told by the daemon.
const LABEL: &str = "label.json";

/// What whoever finds a run needs to know of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Label {
    /// Which start of the machine it is of.
    pub(super) boot: String,
    pub(super) label: serde_json::Value,
    pub(super) capture: Capture,
    pub(super) hint: Option<String>,
    pub(super) groups: Vec<Group>,
    /// The container it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) container: Option<String>,
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

    /// Makes the file that it will be written to.
    pub(super) fn make_room(dir: &RunDir) -> io::Result<()> {
        fs::File::create_new(dir.control().join(LABEL)).map(drop)
    }

    /// Whether that file is there.
    pub(super) fn has_room(dir: &RunDir) -> bool {
        dir.control().join(LABEL).is_file()
    }

    /// Writes it down, before there is anything that it speaks of.
    pub(crate) fn write(&self, dir: &RunDir) -> io::Result<()> {
        fs::write(dir.control().join(LABEL), serde_json::to_vec(self)?)
    }

    /// Reads it. Without one nothing was started.
    pub(super) fn read(dir: &RunDir) -> Option<Self> {
        read(&dir.control().join(LABEL))
    }

    /// The same of a run in a container.
    pub(crate) fn in_container(self, name: &str) -> Self {
        Self { container: Some(name.to_owned()), ..self }
    }
}

/// The processes of a run, as its shim wrote them down.
pub(super) fn read_status(dir: &RunDir) -> Option<Status> {
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

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
