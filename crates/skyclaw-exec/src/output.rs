//! Output of a run: bounded files, addressed by offset.
//!
//! ```text
//! stdout.0  stderr.0  stderr.65536     <stream>.<offset of the file's first byte>
//! ```
//! A [`Stream`] never keeps more on disk than its bound, whatever flows through it. Where the end is wanted, a
//! file that is full is followed by the next, and only the last two are kept. The bytes become text only
//! when they are read: no character is cut in half, what is no UTF-8 is replaced, and the text with its
//! mark is within the limit even though a replacement is longer than the byte it stands for.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::Capture;

/// Stands at the end of a text that was cut.
pub const MARKER: &str = "\n[output truncated]\n";

/// The names of the two streams.
pub(crate) const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// The least that a file of a stream whose end is kept may have, in bytes: files should not change with
/// every line.
const MIN_TAIL_FILE: u64 = 64 * 1024;

/// Keeps the part of a stream that is asked for in files.
#[derive(Debug)]
pub(crate) struct Stream {
    dir: PathBuf,
    name: &'static str,
    capture: Capture,
    /// How much has come.
    total: u64,
    file: Option<File>,
    /// Where the file begins, and where the one before it did.
    starts: (u64, Option<u64>),
}

impl Stream {
    pub(crate) fn new(dir: &Path, name: &'static str, capture: Capture) -> Self {
        Self { dir: dir.to_owned(), name, capture, total: 0, file: None, starts: (0, None) }
    }

    /// How much has come.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// What was thrown away without being looked at.
    pub(crate) fn passed_over(&mut self, bytes: u64) {
        self.total += bytes;
    }

    /// Whether nothing of what comes now will be kept.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self.capture, Capture::Head(max) if self.total >= max as u64)
    }

    /// Takes in what came. What the disk does not take is lost, and the run is not held up by it.
    pub(crate) fn write(&mut self, mut data: &[u8]) {
        match self.capture {
            Capture::Head(max) => {
                let room = (max as u64).saturating_sub(self.total);
                let kept = usize::try_from(room).map_or(data, |room| &data[..room.min(data.len())]);
                let _ = self.append(kept);
                self.total += data.len() as u64;
            }
            Capture::Tail(max) => {
                let size = (max as u64).max(MIN_TAIL_FILE);
                while !data.is_empty() {
                    if self.total - self.starts.0 >= size {
                        self.turn();
                    }
                    let room = usize::try_from(size - (self.total - self.starts.0)).unwrap_or(usize::MAX);
                    let (now, later) = data.split_at(room.min(data.len()));
                    let _ = self.append(now);
                    self.total += now.len() as u64;
                    data = later;
                }
            }
        }
    }

    fn append(&mut self, data: &[u8]) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let path = self.dir.join(format!("{}.{}", self.name, self.starts.0));
                none.insert(OpenOptions::new().create(true).append(true).mode(0o600).open(path)?)
            }
        };
        file.write_all(data)
    }

    /// The next file; the last but one is removed.
    fn turn(&mut self) {
        if let Some(before) = self.starts.1 {
            let _ = fs::remove_file(self.dir.join(format!("{}.{before}", self.name)));
        }
        self.starts = (self.total, Some(self.starts.0));
        self.file = None;
    }
}

/// The files of a stream, by their offset.
fn files(dir: &Path, name: &str) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .filter_map(|entry| {
            let start = entry.file_name().to_str()?.strip_prefix(name)?.strip_prefix('.')?.parse().ok()?;
            Some((start, entry.path()))
        })
        .collect();
    files.sort();
    files
}

/// What is kept of a stream as text of at most its limit. `written` is how much came; when that is not
/// known, what is on disk counts as all.
pub(crate) fn text(dir: &Path, name: &str, capture: Capture, written: Option<u64>) -> String {
    let mut bytes = Vec::new();
    for (_, path) in files(dir, name) {
        bytes.extend(fs::read(path).unwrap_or_default());
    }
    match capture {
        Capture::Head(max) => {
            bytes.truncate(max);
            let whole = written.is_none_or(|written| written <= bytes.len() as u64);
            text_within(&bytes, whole, max)
        }
        Capture::Tail(max) => text_within(&bytes[bytes.len().saturating_sub(max)..], true, max),
    }
}

/// Makes what is on disk of the output durable.
pub(crate) fn sync(dir: &Path) {
    for name in STREAMS {
        for (_, path) in files(dir, name) {
            if let Err(error) = File::open(&path).and_then(|file| file.sync_data()) {
                tracing::warn!(path = %path.display(), %error, "output of a run may not survive a loss of power");
            }
        }
    }
}

fn text_within(mut bytes: &[u8], whole: bool, max: usize) -> String {
    if !whole {
        // What looks broken at the end is half of a character whose rest was dropped.
        let broken = bytes.utf8_chunks().last().map_or(0, |chunk| chunk.invalid().len());
        bytes = &bytes[..bytes.len() - broken];
    }
    let mut text = String::with_capacity(bytes.len());
    let mut fits = true;
    let pieces = bytes.utf8_chunks().flat_map(|chunk| {
        let replacement = if chunk.invalid().is_empty() { "" } else { "\u{FFFD}" };
        [chunk.valid(), replacement]
    });
    for piece in pieces {
        let room = piece.floor_char_boundary(max - text.len());
        text.push_str(&piece[..room]);
        if room < piece.len() {
            fits = false;
            break;
        }
    }
    if !(fits && whole) {
        mark(&mut text, max);
    }
    text
}

/// Cuts a text to at most `max` bytes and marks it; a text that fits is left as it is.
pub fn cut(text: &mut String, max: usize) {
    if text.len() > max {
        mark(text, max);
    }
}

/// Makes room for the mark and sets it. Where not even the mark has room there is none.
fn mark(text: &mut String, max: usize) {
    let body = text.strip_suffix(MARKER).unwrap_or(text).len();
    match max.checked_sub(MARKER.len()) {
        Some(room) => {
            text.truncate(text.floor_char_boundary(room.min(body)));
            text.push_str(MARKER);
        }
        None => text.truncate(text.floor_char_boundary(max)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is left of chunks, and how many files there are.
    fn kept(capture: Capture, chunks: &[Vec<u8>]) -> (String, u64) {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut stream = Stream::new(dir.path(), "stdout", capture);
        for chunk in chunks {
            stream.write(chunk);
        }
        let on_disk = files(dir.path(), "stdout");
        assert!(on_disk.len() <= 2, "{on_disk:?}");
        let size = on_disk.iter().map(|(_, path)| path.metadata().expect("a file").len()).sum();
        (text(dir.path(), "stdout", capture, Some(stream.total())), size)
    }

    fn kept_text(capture: Capture, chunks: &[Vec<u8>]) -> String {
        kept(capture, chunks).0
    }

    #[test]
    fn the_head_is_kept_and_marked_and_the_tail_is_kept_as_it_is() {
        let chunks = [vec![b'a'; 30], vec![b'b'; 30]];
        assert_eq!(kept_text(Capture::Head(40), &chunks), format!("{}{MARKER}", "a".repeat(20)));
        assert_eq!(kept_text(Capture::Head(60), &chunks), "a".repeat(30) + &"b".repeat(30));
        assert_eq!(kept_text(Capture::Tail(40), &chunks), "a".repeat(10) + &"b".repeat(30));
        assert_eq!(kept_text(Capture::Head(5), &chunks), "aaaaa");
    }

    #[test]
    fn a_text_that_was_cut_is_not_marked_twice() {
        let mut text = kept_text(Capture::Head(40), &[vec![b'a'; 60]]);
        cut(&mut text, 30);
        assert_eq!(text, format!("{}{MARKER}", "a".repeat(10)));
    }

    proptest! {
        #[test]
        fn output_stays_within_its_limit_and_is_a_prefix(
            chunks in prop::collection::vec(prop_oneof![
                any::<String>().prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..64),
            ], 0..8),
            max in 0_usize..200,
        ) {
            let all = chunks.concat();
            let (text, on_disk) = kept(Capture::Head(max), &chunks);
            prop_assert!(on_disk <= max as u64);
            prop_assert!(text.len() <= max);
            let lossy = String::from_utf8_lossy(&all);
            match text.strip_suffix(MARKER) {
                Some(body) => prop_assert!(lossy.starts_with(body)),
                None if lossy.len() <= max => prop_assert_eq!(&*text, &*lossy),
                None => prop_assert!(max < MARKER.len() && lossy.starts_with(&*text)),
            }
        }

        #[test]
        fn the_tail_stays_within_its_limit(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..8),
            max in 0_usize..100,
        ) {
            let all = chunks.concat();
            let text = kept_text(Capture::Tail(max), &chunks);
            let want = String::from_utf8_lossy(&all[all.len().saturating_sub(max)..]).into_owned();
            prop_assert!(text.len() <= max);
            prop_assert!(text == want || want.len() > max);
        }
    }

    #[test]
    fn a_tail_takes_two_files_however_much_comes() {
        let mut chunks = vec![vec![b'x'; 1000]; 1000];
        chunks.push(b"the end".to_vec());
        let (text, on_disk) = kept(Capture::Tail(7), &chunks);
        assert_eq!(text, "the end");
        assert!(on_disk <= 2 * MIN_TAIL_FILE);
    }
}
