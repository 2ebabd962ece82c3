//! A gate before the socket of a service: holds back a request, or its answer. So a client can be killed between any
//! two steps of what it does, or be kept waiting.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::wait::{LONG, wait_until};

/// What a gate holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The request: the service never hears of it.
    Request,
    /// The answer: it is done, and nobody is told.
    Answer,
}

/// Stands between a client and a service. Everything passes, but for what it is told to hold back.
#[derive(Debug)]
pub struct Gate {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// What the path of a request ends with that is held back, and what of it.
    hold: Option<(String, What)>,
    held: bool,
    let_go: bool,
}

impl Gate {
    /// Listens at `path` for clients of the service at `socket`.
    ///
    /// # Panics
    /// When it cannot.
    #[must_use]
    pub fn new(path: &Path, socket: PathBuf) -> Self {
        let listener = UnixListener::bind(path).expect("the gate listens");
        // Whose service it is is told by whose the socket is.
        let whose = socket.metadata().expect("the socket of the service");
        chown(path, Some(whose.uid()), Some(whose.gid())).expect("its owner");
        let state = Arc::new(Mutex::new(State::default()));
        let seen = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (socket, state) = (socket.clone(), Arc::clone(&seen));
                // A client that is gone, or a service: either is told by the end of its connection.
                thread::spawn(move || drop(pass(client, &socket, &state)));
            }
        });
        Self { path: path.to_owned(), state }
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Holds back the first request from now on whose path ends so.
    pub fn hold(&self, ending: &str, what: What) {
        *lock(&self.state) = State { hold: Some((ending.to_owned(), what)), ..State::default() };
    }

    /// Lets the request that is held back through. An answer is never told.
    pub fn let_go(&self) {
        lock(&self.state).let_go = true;
    }

    /// Waits until that has come. Nothing more is held back then.
    #[track_caller]
    pub fn wait_held(&self) {
        wait_until("what is held back has come", LONG, || lock(&self.state).held.then_some(()));
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes what is to be held back of a request with this head, if it is this one.
fn take(state: &Mutex<State>, head: &str) -> Option<What> {
    let path = head.split(' ').nth(1)?.split('?').next()?;
    lock(state).hold.take_if(|(ending, _)| path.ends_with(ending.as_str())).map(|(_, what)| what)
}

/// One connection. A client that is held back waits until it is gone itself.
fn pass(mut client: UnixStream, socket: &Path, state: &Mutex<State>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        read_more(&mut client, &mut head)?;
    }
    let holds = take(state, &String::from_utf8_lossy(&head));
    if holds == Some(What::Request) {
        lock(state).held = true;
        wait_at_gate(&mut client, &mut head, state)?;
    }
    let mut service = UnixStream::connect(socket)?;
    service.write_all(&head)?;
    let (mut from_client, mut to_service) = (client.try_clone()?, service.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_service);
        let _ = to_service.shutdown(Shutdown::Write);
    });
    if holds == Some(What::Answer) {
        read_more(&mut service, &mut Vec::new())?;
        lock(state).held = true;
        // The other thread reads what the client still has to say, and its end.
        return Ok(());
    }
    io::copy(&mut service, &mut client)?;
    client.shutdown(Shutdown::Write)
}

fn read_more(from: &mut UnixStream, into: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    match from.read(&mut buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        n => {
            into.extend_from_slice(&buffer[..n]);
            Ok(())
        }
    }
}

/// Waits until a request may go on. An error means that its client is gone.
fn wait_at_gate(client: &mut UnixStream, request: &mut Vec<u8>, state: &Mutex<State>) -> io::Result<()> {
    client.set_read_timeout(Some(Duration::from_millis(10)))?;
    while !lock(state).let_go {
        match read_more(client, request) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            other => other?,
        }
    }
    client.set_read_timeout(None)
}
