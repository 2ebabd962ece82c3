//! Where a run's output comes from, and what is kept of it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{MsgFlags, recv};
use rustix::pipe::{SpliceFlags, splice};

use super::peers::timeout;
use crate::output::{STREAMS, Stream};
use crate::protocol::Plan;

/// How much is read at once, in bytes: what a pipe holds.
const BUFFER: usize = 64 * 1024;
/// How long output is still read after all of a run is gone. Only a process outside of it that was handed
/// the pipe can hold it open.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// Where output comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// A pipe for each stream.
    Pipes([OwnedFd; 2]),
    /// The monitor of a container, which puts the number of the stream before each piece: 2 for standard
    /// output, 3 for standard error.
    Monitor(OwnedFd),
}

enum Open {
    Pipes([Option<File>; 2]),
    Monitor(Option<OwnedFd>),
}

/// Both streams of a run.
pub(super) struct Streams {
    open: Open,
    kept: [Stream; 2],
    /// Empty until there is output: a run does not wait for its pages to begin.
    buffer: Vec<u8>,
    nowhere: File,
}

impl Streams {
    pub(super) fn new(plan: &Plan, source: Source) -> io::Result<Self> {
        let open = match source {
            Source::Pipes(pipes) => Open::Pipes(pipes.map(|pipe| Some(pipe.into()))),
            Source::Monitor(socket) => Open::Monitor(Some(socket)),
        };
        Ok(Self {
            open,
            kept: STREAMS.map(|name| Stream::new(&plan.control, name, plan.capture)),
            buffer: vec![],
            nowhere: std::fs::OpenOptions::new().write(true).open("/dev/null")?,
        })
    }

    /// How much has come of each.
    pub(super) fn totals(&self) -> [u64; 2] {
        [self.kept[0].total(), self.kept[1].total()]
    }

    /// What is to be looked at, each with the place that [`Self::read`] wants.
    pub(super) fn files(&self) -> Vec<(usize, BorrowedFd<'_>)> {
        match &self.open {
            Open::Pipes(pipes) => {
                let open = pipes.iter().enumerate();
                open.filter_map(|(at, pipe)| Some((at, pipe.as_ref()?.as_fd()))).collect()
            }
            Open::Monitor(socket) => socket.iter().map(|socket| (0, socket.as_fd())).collect(),
        }
    }

    /// Reads what is there. What nobody will see is not even copied.
    pub(super) fn read(&mut self, at: usize) {
        self.make_room();
        match &mut self.open {
            Open::Pipes(pipes) => {
                let (Some(pipe), Some(stream)) = (pipes.get_mut(at), self.kept.get_mut(at)) else { return };
                if read_pipe(pipe.as_mut(), stream, &mut self.buffer, &self.nowhere) {
                    *pipe = None;
                }
            }
            Open::Monitor(socket) => {
                if read_packet(socket.as_ref(), &mut self.kept, &mut self.buffer) == Some(true) {
                    *socket = None;
                }
            }
        }
    }

    fn make_room(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = vec![0; BUFFER];
        }
    }

    /// Nobody of the run is left to write, so this ends, unless somebody else was given the pipe. A monitor
    /// has handed out everything before it says how the container ended; it lives on for a while.
    pub(super) fn read_to_the_end(&mut self) {
        self.make_room();
        if let Open::Monitor(socket) = &mut self.open {
            while read_packet(socket.as_ref(), &mut self.kept, &mut self.buffer) == Some(false) {}
            return;
        }
        let until = Instant::now() + LAST_OUTPUT;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let open = self.files();
            if open.is_empty() {
                return;
            }
            let mut files: Vec<_> =
                open.iter().map(|(_, file)| PollFd::new(*file, PollFlags::POLLIN)).collect();
            let Ok(1..) = poll(&mut files, timeout(Some(left))) else { return };
            let ready = open.iter().zip(&files).filter(|(_, file)| file.any().unwrap_or(true));
            for at in ready.map(|((at, _), _)| *at).collect::<Vec<_>>() {
                self.read(at);
            }
            if left.is_zero() {
                return;
            }
        }
    }
}

/// Says whether it has ended.
fn read_pipe(pipe: Option<&mut File>, stream: &mut Stream, buffer: &mut [u8], nowhere: &File) -> bool {
    let Some(file) = pipe else { return true };
    let read = if stream.is_full() {
        match splice(&*file, None, nowhere, None, 1 << 20, SpliceFlags::NONBLOCK) {
            Ok(n) => {
                stream.passed_over(n as u64);
                Ok(n)
            }
            Err(error) => Err(io::Error::from(error)),
        }
    } else {
        file.read(buffer).inspect(|&n| stream.write(&buffer[..n]))
    };
    match read {
        Ok(n) => n == 0,
        // A stream that breaks has ended.
        Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
    }
}

/// Takes a piece, if there is one at this moment, and says whether that was the end.
fn read_packet(socket: Option<&OwnedFd>, kept: &mut [Stream; 2], buffer: &mut [u8]) -> Option<bool> {
    let Some(socket) = socket else { return Some(true) };
    match recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
        Ok(0) => Some(true),
        Ok(n) => {
            let stream = usize::from(buffer[0] == 3);
            kept[stream].write(&buffer[1..n]);
            Some(false)
        }
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => None,
        Err(_) => Some(true),
    }
}
