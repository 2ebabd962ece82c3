//! Hears of memory that ran out, where the kernel counts it in a group that is gone when it is asked.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{Controller, Group, Version};

/// Hears of memory that ran out in a group or below. Counts also while nobody looks.
#[derive(Debug)]
pub(crate) struct Watch(Option<EventFd>);

impl Watch {
    /// Watches the group among these that bounds memory. Version 2 counts by itself.
    pub(crate) fn new(groups: &[Group]) -> io::Result<Self> {
        let bounds =
            |group: &&Group| group.version == Version::V1 && group.bounds.contains(&Controller::Memory);
        let Some(group) = groups.iter().find(bounds) else { return Ok(Self(None)) };
        let path = group.dir.join("memory.oom_control");
        let told = (|| {
            let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
            let control = fs::File::open(&path)?;
            let line = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
            fs::write(group.dir.join("cgroup.event_control"), line)?;
            Ok(event)
        })();
        told.map(|event| Self(Some(event))).map_err(|error: io::Error| super::at(&path, &error))
    }

    /// How often since it was last asked.
    pub(crate) fn times(&self) -> u64 {
        // Not ready means that it never happened.
        self.0.as_ref().and_then(|event| event.read().ok()).unwrap_or_default()
    }
}
