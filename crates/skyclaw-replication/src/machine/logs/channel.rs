//! One stream of one run that somebody follows: who waits for it, and the newest of what has passed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use skyclaw_proto::LogStream;
use skyclaw_proto::limits::MAX_LOG_PIECE_BYTES;
use skyclaw_proto::logs::{LogPiece, PushLogs};
use tokio::sync::oneshot;

/// How long a stream is wanted after somebody last read of it.
pub(super) const LINGER: Duration = Duration::from_secs(10);
/// How much is kept of one stream, in bytes; and how far a host may be ahead of the fastest reader.
pub(super) const WINDOW_BYTES: usize = 256 * 1024;

/// What a read has waited for.
#[derive(Debug, Clone)]
pub(crate) struct Bit {
    stream: LogStream,
    /// Where the text begins.
    base: u64,
    text: Arc<str>,
    /// Where the read begins in it.
    from: usize,
}

impl Bit {
    /// The piece that a read is answered with, which is otherwise like `about`.
    pub(crate) fn piece(&self, about: LogPiece) -> LogPiece {
        let begins = self.text.floor_char_boundary(self.from);
        filled(about, self.stream, self.base + begins as u64, &self.text[begins..])
    }
}

/// Puts text into a piece, no more than travels at once.
pub(crate) fn filled(about: LogPiece, stream: LogStream, offset: u64, text: &str) -> LogPiece {
    let data = text[..text.floor_char_boundary(MAX_LOG_PIECE_BYTES)].to_owned();
    LogPiece { stream, offset, next_offset: offset + data.len() as u64, data, live: true, ..about }
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) fence: u64,
    /// The newest of what has passed, without a gap, and where it begins.
    base: u64,
    pub(super) window: String,
    /// Whether the host has said that there was no more, when it last brought something.
    pub(super) at_end: bool,
    /// Whether the host has brought anything.
    pub(super) answered: bool,
    /// How far the fastest reader is.
    pub(super) read_to: u64,
    /// From where on its host brings it, as far as it was told.
    pub(super) asked: Option<u64>,
    pub(super) touched: Instant,
    pub(super) waiting: Vec<Waiting>,
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) offset: u64,
    /// Whether it is enough to know that there is nothing.
    pub(super) now: bool,
    pub(super) send: oneshot::Sender<Bit>,
}

impl Channel {
    pub(super) fn new(fence: u64, now: Instant) -> Self {
        let (window, waiting) = (String::new(), Vec::new());
        let (at_end, answered) = (false, false);
        Self { fence, base: 0, window, at_end, answered, read_to: 0, asked: None, touched: now, waiting }
    }

    pub(super) fn end(&self) -> u64 {
        self.base + self.window.len() as u64
    }

    /// Whether somebody has read it all the time, so that its host brings what is written as it is.
    pub(super) fn is_followed(&self, now: Instant) -> bool {
        now.duration_since(self.touched) < LINGER || self.waiting.iter().any(|it| !it.send.is_closed())
    }

    /// From where on its host is to bring it, if it is.
    fn wanted(&self, now: Instant) -> Option<u64> {
        let open = self.waiting.iter().filter(|waiting| !waiting.send.is_closed());
        let is_read = self.answered && now.duration_since(self.touched) < LINGER;
        let ahead =
            (is_read && self.end() < self.read_to.saturating_add(WINDOW_BYTES as u64)).then(|| self.end());
        open.map(|waiting| waiting.offset).chain(ahead).min()
    }

    /// The same, when its host is told.
    pub(super) fn ask(&mut self, now: Instant) -> Option<u64> {
        self.asked = self.wanted(now);
        self.asked
    }

    /// What there is at an offset.
    pub(super) fn found(&self, offset: u64) -> Option<(u64, &str)> {
        let from = usize::try_from(offset.checked_sub(self.base)?).ok()?;
        let begins = self.window.floor_char_boundary(from);
        let text = self.window.get(begins..).filter(|text| from < self.window.len() && !text.is_empty())?;
        Some((self.base + begins as u64, text))
    }

    /// Takes in what its host has brought. Says by how much the window has grown.
    pub(super) fn take(&mut self, piece: &PushLogs, room: usize) -> isize {
        let before = self.window.len();
        let (starts, ends) = (piece.offset, piece.offset + piece.data.len() as u64);
        let overlap = self.end().checked_sub(starts).and_then(|it| usize::try_from(it).ok());
        let follows = overlap.filter(|_| starts >= self.base && !self.window.is_empty());
        match follows.and_then(|overlap| piece.data.get(overlap..)) {
            Some(new) => self.window.push_str(new),
            // Further on than what is kept, or the first: it is kept instead.
            None if self.window.is_empty() || (starts > self.end() && !piece.data.is_empty()) => {
                self.window.clear();
                self.window.push_str(&piece.data);
                self.base = starts;
            }
            // Behind it: for who waits for it alone.
            None => {}
        }
        let most = WINDOW_BYTES.min(before + room);
        if self.window.len() > most {
            let gone = self.window.ceil_char_boundary(self.window.len() - most);
            // What is left begins with a whole character.
            self.window.drain(..gone);
            self.base += gone as u64;
        }
        if ends == self.end() {
            self.at_end = !piece.more;
        }
        self.answered = true;
        self.hand_out(piece, starts, ends);
        self.window.len() as isize - before as isize
    }

    fn hand_out(&mut self, piece: &PushLogs, starts: u64, ends: u64) {
        let text: Arc<str> = piece.data.as_str().into();
        let waiting = std::mem::take(&mut self.waiting);
        for waiting in waiting {
            let is_in = starts <= waiting.offset && waiting.offset < ends;
            let is_all = waiting.now && !piece.more && waiting.offset >= ends && starts <= waiting.offset;
            if !(is_in || is_all) {
                self.waiting.push(waiting);
                continue;
            }
            let from = usize::try_from(waiting.offset - starts).unwrap_or(usize::MAX).min(text.len());
            self.read_to = self.read_to.max(ends);
            // One that is gone has no use for it.
            let _ = waiting.send.send(Bit { stream: piece.stream, base: starts, text: text.clone(), from });
        }
    }
}
