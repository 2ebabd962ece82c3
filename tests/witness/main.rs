//! What the tests have hosts run: a program that bears witness of when it ran.
//!
//! ```text
//! skyclaw-witness beat FILE MILLISECONDS KIND MARK
//! skyclaw-witness attempt NAME=ARGUMENT...
//! ```
//! The second tries what a run should not be able to do, and says what came of each. The first
//! holds a lock beside `FILE` for as long as anything of it lives, and appends a line to `FILE` every few
//! milliseconds. Who cannot have the lock says so: then the kernel itself bears witness that two of them ran
//! at the same time. `MARK` is for those who look through the processes of the machine.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a program of the tests must fail the test"
)]

mod attempts;

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{getpid, setsid};

const PAUSE: Duration = Duration::from_millis(15);

fn main() {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let args: Vec<&str> = args.iter().map(|arg| arg.to_str().expect("arguments are text")).collect();
    match args[..] {
        ["beat", file, millis, kind, mark] => beat(file, millis.parse().expect("a number"), kind, mark),
        ["attempt", ref all @ ..] => all.iter().for_each(|what| println!("{}", attempts::attempt(what))),
        ["detach", file, ref name @ .., mark] => detach(file, name, mark),
        ["detached", file, fence, run, attempt, _mark] => {
            let witness = Witness::new(file, [fence, run, attempt]);
            loop {
                witness.say("beat");
                sleep(PAUSE);
            }
        }
        _ => panic!("skyclaw-witness knows nothing of {args:?}"),
    }
}

/// Runs for so long, and then says under which fencing token it did.
fn beat(file: &str, millis: u64, kind: &str, mark: &str) {
    let name = ["SKYCLAW_FENCE", "SKYCLAW_RUN_ID", "SKYCLAW_ATTEMPT"].map(variable);
    let name = name.each_ref().map(String::as_str);
    let witness = Witness::new(file, name);
    let lock = alone(file);
    if lock.is_none() {
        witness.say("overlap");
    }
    match kind {
        "plain" => {}
        "stubborn" => ignore_sigterm(),
        "daemon" => {
            ignore_sigterm();
            // Out of its session, its group and its environment, and no child of it either.
            let [fence, run, attempt] = name;
            start(&["detach", file, fence, run, attempt, mark]).wait().expect("it ends");
        }
        other => panic!("a run is plain, stubborn or a daemon, and not {other:?}"),
    }
    witness.say("start");
    let begun = now(ClockId::CLOCK_MONOTONIC);
    while now(ClockId::CLOCK_MONOTONIC) - begun < millis * 1_000_000 {
        sleep(PAUSE);
        witness.say("beat");
    }
    println!("done {}", name[0]);
}

fn detach(file: &str, name: &[&str], mark: &str) {
    setsid().expect("a session of its own");
    let mut args = vec!["detached", file];
    args.extend(name);
    args.push(mark);
    drop(start(&args));
}

/// Itself, with no environment.
fn start(args: &[&str]) -> std::process::Child {
    let program = std::env::current_exe().expect("its own path");
    let mut command = Command::new(program);
    command.args(args).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("it starts")
}

/// The lock, which all that is started from here on holds as well; `None` when somebody else has it.
fn alone(file: &str) -> Option<File> {
    let path = format!("{file}.lock");
    let lock = OpenOptions::new().create(true).append(true).open(path).expect("the lock");
    fcntl(&lock, FcntlArg::F_SETFD(FdFlag::empty())).expect("a lock that is inherited");
    #[expect(unsafe_code, reason = "the safe form gives the lock back when its value is dropped")]
    // SAFETY: the descriptor is open.
    let taken = unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    match Errno::result(taken) {
        Ok(_) => Some(lock),
        Err(Errno::EWOULDBLOCK) => None,
        Err(error) => panic!("the lock cannot be taken: {error}"),
    }
}

struct Witness {
    file: File,
    /// Fencing token, id of the run and attempt.
    name: String,
}

impl Witness {
    fn new(file: &str, name: [&str; 3]) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(file).expect("the file of the witness");
        Self { file, name: name.join(" ") }
    }

    /// One write, so that lines stay whole whoever else writes.
    fn say(&self, what: &str) {
        let (monotonic, boot) = (now(ClockId::CLOCK_MONOTONIC), now(ClockId::CLOCK_BOOTTIME));
        let line = format!("{what} {} {monotonic} {boot} {}\n", self.name, getpid());
        (&self.file).write_all(line.as_bytes()).expect("a line");
    }
}

/// A clock, in nanoseconds.
fn now(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).expect("a clock");
    u64::try_from(Duration::from(time).as_nanos()).expect("a time of this century")
}

fn variable(name: &str) -> String {
    let value = std::env::var_os(name);
    value.as_deref().and_then(OsStr::to_str).unwrap_or("-").to_owned()
}

fn ignore_sigterm() {
    #[expect(unsafe_code, reason = "there is no safe way to ignore a signal")]
    // SAFETY: no handler is installed.
    let ignored = unsafe { signal(Signal::SIGTERM, SigHandler::SigIgn) };
    ignored.expect("a signal that can be ignored");
}
