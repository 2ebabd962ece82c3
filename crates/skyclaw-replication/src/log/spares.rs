//! The one that prepares: zeroed segments ahead of the writer, out of retired ones where there are any.
//!
//! Zeros are written rather than only space taken, so that a later sync of a record has no metadata to write.
//! A spare carries its final name from the start, so beginning it is a write and not a change of the directory.
//!
//! What always holds: names of segments appear in ascending order and disappear in ascending order, each
//! durably before the next, so that no crash leaves a gap; a retired segment is zeroed only once its old name
//! is durably gone.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::disk::{Disk, zero_fill};
use super::shared::Shared;
use super::state::Segment;

/// A spare that is not ready yet.
pub(super) const UNFINISHED: &str = "spare.new";
/// How long to wait after a failure, as on a full disk.
const PAUSE: Duration = Duration::from_millis(500);

/// The name of a segment's file.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:016x}.segment")
}

/// The number in the name of a segment's file.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".segment")?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (segment_name(number) == name).then_some(number)
}

/// Keeps spare segments ready.
pub(super) struct Preparer {
    shared: Arc<Shared>,
}

impl Preparer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Works until the log is closed.
    pub(super) fn run(self) {
        let mut failing = false;
        while self.shared.wait_for_chore(if failing { PAUSE } else { Duration::ZERO }) {
            let done = self.turn();
            match &done {
                Ok(_) if failing => tracing::info!("segments of the log can be prepared again"),
                Err(error) if !failing => tracing::warn!(%error, "no segment of the log can be prepared"),
                Ok(_) | Err(_) => {}
            }
            failing = done.is_err();
        }
    }

    /// Does one chore, if there is any.
    pub(super) fn turn(&self) -> io::Result<bool> {
        let Some(chore) = self.shared.chore() else { return Ok(false) };
        let disk = self.shared.disk.as_ref();
        let Some(retired) = chore.retired else {
            let Some(number) = chore.wanted else { return Ok(false) };
            self.make(number, chore.segment_bytes)?;
            return Ok(true);
        };
        let name = segment_name(retired.number);
        match chore.wanted.filter(|_| retired.size == chore.segment_bytes) {
            Some(number) => {
                gone(disk.rename(&name, UNFINISHED))?;
                disk.sync_dir()?;
                self.shared.forget_retired();
                self.finish(Segment { number, ..retired })?;
            }
            None => {
                gone(disk.remove(&name))?;
                disk.sync_dir()?;
                self.shared.forget_retired();
            }
        }
        Ok(true)
    }

    fn make(&self, number: u64, size: u64) -> io::Result<()> {
        let disk = self.shared.disk.as_ref();
        let made = disk.create(UNFINISHED, size).and_then(|file| self.finish(Segment { number, size, file }));
        if made.is_err() {
            // What could not be completed must not keep the little room there is.
            let _ = disk.remove(UNFINISHED);
        }
        made
    }

    fn finish(&self, spare: Segment) -> io::Result<()> {
        let disk: &dyn Disk = self.shared.disk.as_ref();
        zero_fill(spare.file.as_ref(), 0, spare.size)?;
        disk.rename(UNFINISHED, &segment_name(spare.number))?;
        disk.sync_dir()?;
        self.shared.add_spare(spare);
        Ok(())
    }
}

/// A name that is gone already was taken away by an attempt that failed later.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
