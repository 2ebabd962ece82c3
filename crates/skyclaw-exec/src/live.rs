//! What a run writes, read while it runs: as the text that its record has in the end, as far as that is sure.
//!
//! The shim writes the bytes, and they become text when they are read. A character of which the rest has not come yet
//! is held back, and so is what the mark takes the place of if still more comes than is kept. Nothing is asked
//! of the shim, so it is no matter which of its daemons reads, or how many do.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use skyclaw_proto::LogStream;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::output::MARKER;

/// How much of a file is looked at in one go, in bytes.
const BLOCK: usize = 64 * 1024;

/// The output of a run that goes on, of which the beginning is kept.
#[derive(Debug, Clone)]
pub struct LiveOutput {
    control: PathBuf,
    /// How much of each stream its record may have, in bytes.
    max: usize,
}

/// A part of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivePiece {
    /// Where it begins: where it was asked for, or with the character that is there.
    pub offset: u64,
    /// The text.
    pub text: String,
    /// Whether there may be more behind it already.
    pub more: bool,
}

impl LiveOutput {
    pub(crate) fn new(control: PathBuf, max: usize) -> Self {
        Self { control, max }
    }

    /// Reads one of the streams.
    #[must_use]
    pub fn reader(&self, stream: LogStream) -> LiveReader {
        let path = self.control.join(format!("{stream}.0"));
        let limit = self.max.saturating_sub(MARKER.len()) as u64;
        LiveReader { path, limit, file: None, place: Place::default() }
    }
}

/// The same place of a stream in bytes as they were written, and in bytes of the text.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    raw: u64,
    text: u64,
}

/// Reads a stream from wherever it is asked for; fastest where it left off.
#[derive(Debug)]
pub struct LiveReader {
    path: PathBuf,
    /// How much of the text is sure to stay.
    limit: u64,
    file: Option<File>,
    /// Where the last block that was read to its end ended.
    place: Place,
}

impl LiveReader {
    /// At most `max` bytes of the text from an offset on. Blocks on the file system.
    ///
    /// # Errors
    /// When the file cannot be read; that there is none yet is no error.
    pub fn read(&mut self, from: u64, max: usize) -> io::Result<LivePiece> {
        let nothing = LivePiece { offset: from, text: String::new(), more: false };
        if from < self.place.text {
            self.place = Place::default();
        }
        loop {
            let Some(bytes) = self.block()? else { return Ok(nothing) };
            let (mut text, consumed) = decode(&bytes);
            let room = usize::try_from(self.limit - self.place.text.min(self.limit)).unwrap_or(usize::MAX);
            let is_last = text.len() > room;
            if is_last {
                text.truncate(text.floor_char_boundary(room));
            }
            let ends =
                Place { raw: self.place.raw + consumed as u64, text: self.place.text + text.len() as u64 };
            if ends.text <= from {
                // Nothing that is sure, or all of it before the offset.
                if is_last || consumed == 0 {
                    return Ok(nothing);
                }
                self.place = ends;
                continue;
            }
            let skipped = usize::try_from(from - self.place.text).unwrap_or(usize::MAX);
            let begins = text.floor_char_boundary(skipped);
            let stops = text.floor_char_boundary(begins.saturating_add(max));
            let offset = self.place.text + begins as u64;
            let is_whole = stops == text.len();
            let more = !is_whole || (!is_last && bytes.len() == BLOCK);
            let piece = LivePiece { offset, text: text[begins..stops].to_owned(), more };
            if is_whole && !is_last {
                self.place = ends;
            }
            return Ok(piece);
        }
    }

    /// What there is from the present place on.
    fn block(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.file.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        let Some(file) = &self.file else { return Ok(None) };
        let (mut bytes, mut length) = (vec![0; BLOCK], 0);
        while length < BLOCK {
            match file.read_at(&mut bytes[length..], self.place.raw + length as u64) {
                Ok(0) => break,
                Ok(n) => length += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(length);
        Ok((length > 0).then_some(bytes))
    }
}

/// The text that bytes stand for, and how many of them: not those of a character whose rest is missing.
fn decode(bytes: &[u8]) -> (String, usize) {
    let (mut text, mut consumed) = (String::with_capacity(bytes.len()), 0);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        consumed += chunk.valid().len();
        let broken = chunk.invalid();
        if broken.is_empty() {
            continue;
        }
        let is_cut = std::str::from_utf8(broken).is_err_and(|error| error.error_len().is_none());
        if is_cut && consumed + broken.len() == bytes.len() {
            break;
        }
        text.push(char::REPLACEMENT_CHARACTER);
        consumed += broken.len();
    }
    (text, consumed)
}

/// Tells when there is more of what runs write. One for all runs of a host, as a user may have few of the kernel's
/// queues.
#[derive(Debug)]
pub struct Growth(AsyncFd<Queue>);

/// Names a run to [`Growth`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GrowthKey(WatchDescriptor);

#[derive(Debug)]
struct Queue(Inotify);

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Growth {
    /// Of no run yet.
    ///
    /// # Errors
    /// When the kernel gives out no more queues.
    pub fn new() -> io::Result<Self> {
        let queue = Queue(Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?);
        #[expect(unsafe_code, reason = "registering has no safe form")]
        // SAFETY: what is registered owns its descriptor, which is open and stays the same as long as it lives.
        let queue = unsafe { AsyncFd::register_with_interest(queue, Interest::READABLE) };
        Ok(Self(queue?))
    }

    /// Tells of this run as well from now on.
    ///
    /// # Errors
    /// When the run is gone, or the kernel takes no more watches.
    pub fn add(&self, output: &LiveOutput) -> io::Result<GrowthKey> {
        let grown = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_ONLYDIR;
        Ok(GrowthKey(self.0.get_ref().0.add_watch(&output.control, grown)?))
    }

    /// Tells of a run no more.
    pub fn remove(&self, key: GrowthKey) {
        // The kernel has forgotten one whose directory is gone.
        let _ = self.0.get_ref().0.rm_watch(key.0);
    }

    /// Waits until one of the runs may have written more, and says which have. Cancel-safe.
    pub async fn next(&mut self) -> Vec<GrowthKey> {
        loop {
            let Ok(mut ready) = self.0.readable().await else { return std::future::pending().await };
            let mut grown = Vec::new();
            while let Ok(events) = self.0.get_ref().0.read_events() {
                for event in events {
                    let key = GrowthKey(event.wd);
                    if !grown.contains(&key) {
                        grown.push(key);
                    }
                }
            }
            ready.clear_ready();
            if !grown.is_empty() {
                return grown;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Capture;
    use crate::output::{self, Stream};
    use proptest::prelude::*;

    /// Everything that can be read now, from an offset on, in pieces of at most so many bytes.
    fn all(reader: &mut LiveReader, mut from: u64, max: usize) -> String {
        let mut text = String::new();
        loop {
            let piece = reader.read(from, max).expect("it can be read");
            if piece.text.is_empty() {
                assert!(!piece.more, "{from}");
                return text;
            }
            assert!(piece.text.len() <= max.max(4));
            from = piece.offset + piece.text.len() as u64;
            text.push_str(&piece.text);
        }
    }

    proptest! {
        #[test]
        fn what_is_read_at_any_moment_is_how_the_record_begins(
            chunks in prop::collection::vec(prop_oneof![
                any::<String>().prop_map(String::into_bytes),
                "[a-zäß€\\x00😀]{0,40}".prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..40),
            ], 0..10),
            max in 0_usize..300,
            at_once in 4_usize..64,
            from in 0_u64..200,
        ) {
            let dir = tempfile::tempdir().expect("temp dir");
            let capture = Capture::Head(max);
            let mut stream = Stream::new(dir.path(), "stdout", capture);
            let live = LiveOutput::new(dir.path().to_owned(), max);
            let (mut reader, mut follower) = (live.reader(LogStream::Stdout), live.reader(LogStream::Stdout));
            let mut followed = String::new();
            let mut before = vec![all(&mut reader, 0, at_once)];
            for chunk in chunks {
                stream.write(&chunk);
                before.push(all(&mut reader, 0, at_once));
                followed.push_str(&all(&mut follower, followed.len() as u64, at_once));
            }
            let record = output::text(dir.path(), "stdout", capture, Some(stream.total()));
            for early in &before {
                prop_assert!(record.starts_with(early.as_str()), "{early:?} {record:?}");
            }
            let last = before.last().expect("one");
            prop_assert_eq!(&followed, last, "read in one go or bit by bit");
            // All that is sure: what is missing may yet be taken by the mark, or is a broken character.
            let missing = record.len() - last.len();
            prop_assert!(missing <= MARKER.len() + 3, "{} of {} are missing", missing, record.len());
            let from = usize::try_from(from).expect("small");
            let tail = all(&mut reader, from as u64, at_once);
            prop_assert!(last.get(last.floor_char_boundary(from.min(last.len()))..).is_some_and(|it| it == tail));
        }
    }

    #[test]
    fn a_long_stream_is_read_block_by_block_wherever_characters_are_cut() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut stream = Stream::new(dir.path(), "stderr", Capture::Head(1 << 20));
        let whole = format!("x{}", "€uro\0".repeat(40_000));
        for piece in whole.as_bytes().chunks(1001) {
            stream.write(piece);
        }
        let mut reader = LiveOutput::new(dir.path().to_owned(), 1 << 20).reader(LogStream::Stderr);
        assert!(all(&mut reader, 0, BLOCK) == whole);
        assert!(all(&mut reader, 150_001, 1000) == whole[150_001..], "again, from the middle");
        let within = reader.read(2, 10).expect("it can be read");
        assert_eq!((within.offset, within.text.as_str(), within.more), (1, "€uro\0€", true));
    }

    #[tokio::test]
    async fn who_waits_is_told_which_run_has_written() {
        let (one, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let live = |dir: &tempfile::TempDir| LiveOutput::new(dir.path().to_owned(), 100);
        let mut growth = Growth::new().expect("a queue");
        let (first, second) =
            (growth.add(&live(&one)).expect("a watch"), growth.add(&live(&other)).expect("a watch"));
        assert_ne!(first, second);
        let mut stream = Stream::new(other.path(), "stdout", Capture::Head(100));
        stream.write(b"a");
        assert_eq!(growth.next().await, [second]);
        stream.write(b"b");
        assert_eq!(growth.next().await, [second]);
        growth.remove(second);
        stream.write(b"c");
        Stream::new(one.path(), "stdout", Capture::Head(100)).write(b"d");
        // That it is removed is told too.
        let mut told = growth.next().await;
        if told == [second] {
            told = growth.next().await;
        }
        assert!(told.contains(&first), "{told:?}");
    }
}
