//! What a container writes, as it writes it.

use std::pin::Pin;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// How much is held at most, in bytes. What is not taken is held back, and the container with it.
const BUFFER: usize = 64 << 10;
const HEADER: usize = 8;

/// One of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Both streams of a container, apart, in the order in which they were written.
///
/// Each piece comes behind a header of 8 bytes: the stream, three zeros, and the length, as a 32-bit number
/// in network order.
pub struct Output {
    from: Pin<Box<dyn AsyncRead + Send>>,
    buffer: BytesMut,
    /// What is left of the piece that is being read.
    piece: Option<(Stream, usize)>,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("piece", &self.piece).finish_non_exhaustive()
    }
}

impl Output {
    pub(crate) fn new(from: impl AsyncRead + Send + 'static) -> Self {
        Self { from: Box::pin(from), buffer: BytesMut::new(), piece: None }
    }

    /// The next bytes, which may be part of a line; `None` at the end, or when the connection broke. They
    /// are to be taken at once until the end, also when no more of them is kept. Cancel-safe.
    pub async fn next(&mut self) -> Option<(Stream, Bytes)> {
        loop {
            if let Some(found) = self.take() {
                return Some(found);
            }
            // What was read is in the buffer before anything is awaited again.
            if self.buffer.capacity() == self.buffer.len() {
                self.buffer.reserve(BUFFER);
            }
            match self.from.read_buf(&mut self.buffer).await {
                Ok(1..) => {}
                _ => return None,
            }
        }
    }

    fn take(&mut self) -> Option<(Stream, Bytes)> {
        loop {
            match self.piece.take() {
                Some((_, 0)) => {}
                Some((stream, left)) if self.buffer.is_empty() => {
                    self.piece = Some((stream, left));
                    return None;
                }
                Some((stream, left)) => {
                    let here = left.min(self.buffer.len());
                    self.piece = Some((stream, left - here));
                    return Some((stream, self.buffer.split_to(here).freeze()));
                }
                None if self.buffer.len() < HEADER => return None,
                None => {
                    let stream = if self.buffer[0] == 2 { Stream::Stderr } else { Stream::Stdout };
                    self.buffer.advance(4);
                    let length = usize::try_from(self.buffer.get_u32()).unwrap_or(usize::MAX);
                    self.piece = Some((stream, length));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(pieces: &[(u8, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (stream, piece) in pieces {
            out.extend([*stream, 0, 0, 0]);
            out.extend(u32::try_from(piece.len()).expect("short").to_be_bytes());
            out.extend(*piece);
        }
        out
    }

    async fn read(mut output: Output) -> (Vec<u8>, Vec<u8>) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while let Some((stream, bytes)) = output.next().await {
            if stream == Stream::Stdout { &mut out } else { &mut err }.extend(bytes);
        }
        (out, err)
    }

    #[tokio::test]
    async fn the_streams_come_apart_wherever_the_bytes_are_cut() {
        let long = vec![b'x'; 3 * BUFFER];
        let bytes = framed(&[(1, b"one"), (2, b"two"), (1, b""), (1, &long), (2, b"!")]);
        let want = ([b"one".as_slice(), &long].concat(), b"two!".to_vec());
        assert_eq!(read(Output::new(std::io::Cursor::new(bytes.clone()))).await, want);
        for size in [1, 7, 8, 9, 1000] {
            let (mut send, receive) = tokio::io::duplex(size);
            let bytes = bytes.clone();
            let feed = async move {
                let _ = tokio::io::AsyncWriteExt::write_all(&mut send, &bytes).await;
            };
            let (found, ()) = tokio::join!(read(Output::new(receive)), feed);
            assert!(found == want, "cut every {size} bytes");
        }
    }

    #[tokio::test]
    async fn a_stream_that_breaks_off_gives_what_came() {
        let mut bytes = framed(&[(1, b"whole"), (2, b"half")]);
        bytes.truncate(bytes.len() - 2);
        assert_eq!(read(Output::new(std::io::Cursor::new(bytes))).await, (b"whole".to_vec(), b"ha".to_vec()));
    }
}
