//! Output of a run, bounded as it is read.
//!
//! A [`Sink`] never holds more than its limit, whatever flows through it. It becomes text only at the
//! end: no character is cut in half, what is no UTF-8 is replaced, and the text with its mark is within
//! the limit even though a replacement is longer than the byte it stands for.

use std::collections::VecDeque;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::Capture;

/// Stands at the end of a text that was cut.
pub const MARKER: &str = "\n[output truncated]\n";

/// How much is read at once, in bytes.
const READ_BUFFER: usize = 16 * 1024;

/// Keeps the part of a stream that is asked for.
pub(crate) struct Sink {
    capture: Capture,
    kept: VecDeque<u8>,
    whole: bool,
}

impl Sink {
    pub(crate) fn new(capture: Capture) -> Self {
        Self { capture, kept: VecDeque::new(), whole: true }
    }

    fn write(&mut self, data: &[u8]) {
        match self.capture {
            Capture::Head(max) => {
                let room = data.len().min(max - self.kept.len());
                self.kept.extend(&data[..room]);
                self.whole &= room == data.len();
            }
            Capture::Tail(max) => {
                let data = &data[data.len().saturating_sub(max)..];
                let excess = (self.kept.len() + data.len()).saturating_sub(max);
                self.kept.drain(..excess);
                self.kept.extend(data);
            }
        }
    }

    /// Takes in a stream until its end. A stream that breaks has ended.
    pub(crate) async fn drain(&mut self, mut from: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; READ_BUFFER];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            self.write(&buffer[..n]);
        }
    }

    /// What was kept, as text of at most the limit.
    pub(crate) fn into_text(mut self) -> String {
        let (Capture::Head(max) | Capture::Tail(max)) = self.capture;
        text_within(self.kept.make_contiguous(), self.whole, max)
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

    fn sink(capture: Capture, chunks: &[Vec<u8>]) -> Sink {
        let mut sink = Sink::new(capture);
        for chunk in chunks {
            sink.write(chunk);
        }
        sink
    }

    #[test]
    fn the_head_is_kept_and_marked_and_the_tail_is_kept_as_it_is() {
        let chunks = [vec![b'a'; 30], vec![b'b'; 30]];
        assert_eq!(sink(Capture::Head(40), &chunks).into_text(), format!("{}{MARKER}", "a".repeat(20)));
        assert_eq!(sink(Capture::Head(60), &chunks).into_text(), "a".repeat(30) + &"b".repeat(30));
        assert_eq!(sink(Capture::Tail(40), &chunks).into_text(), "a".repeat(10) + &"b".repeat(30));
        assert_eq!(sink(Capture::Head(5), &chunks).into_text(), "aaaaa");
    }

    #[test]
    fn a_text_that_was_cut_is_not_marked_twice() {
        let mut text = sink(Capture::Head(40), &[vec![b'a'; 60]]).into_text();
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
            let sink = sink(Capture::Head(max), &chunks);
            prop_assert!(sink.kept.len() <= max);
            let text = sink.into_text();
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
            let sink = sink(Capture::Tail(max), &chunks);
            let want = &all[all.len().saturating_sub(max)..];
            prop_assert!(sink.kept.iter().eq(want));
            prop_assert!(sink.into_text().len() <= max);
        }
    }
}
