//! What a process does that waits for a plan: all that a plan will have it do, with one by which nothing can be started.
//!
//! The pages of memory that are needed for that are there afterwards. When the plan has come, each of them would
//! be a fault that the run waits for, and together they would be a fifth of its beginning.
//! What comes of it is nothing to anybody, and an error is none.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::unistd::getpid;

use super::herd::Herd;
use super::timer::Death;
use super::{hear, leader, raw, read_plan, tell};
use crate::BootTime;
use crate::Capture;
use crate::protocol::{self, FromGuard, Kept, Plan, Process, Program, Said, Status};

/// What the file system has for it, and nobody can run.
const NO_PROGRAM: &str = "/";

/// A shim's part.
pub(super) fn of_shim() -> io::Result<()> {
    let plan = receive()?;
    let _frame = protocol::frame(&plan)?;
    let _herd = Herd::new(&plan.groups);
    let (guard, shim) = UnixDatagram::pair()?;
    tell(&guard, &FromGuard::Started { leader: raw(getpid()) })?;
    let _said = hear::<FromGuard>(&shim);
    let _events = plan.beginning();
    let own = Process::of(raw(getpid()));
    let status = Status {
        shim: own,
        guard: own,
        leader: own,
        deadline: plan.deadline,
        grace: plan.grace,
        slack: plan.slack,
        stopping: false,
        began: true,
    };
    let _frame = protocol::frame(&Said::Status(status))?;
    look_around()
}

/// A guard's part. The process that it starts ends before it is another program.
pub(super) fn of_guard(stdout: &OwnedFd, stderr: &OwnedFd) -> io::Result<()> {
    let plan = receive()?;
    look_around()?;
    let (guard, _shim) = UnixDatagram::pair()?;
    tell(&guard, &FromGuard::Started { leader: raw(getpid()) })?;
    let Kept::Process(program) = &plan.kept else { return Ok(()) };
    leader::start(program, &plan.groups, stdout, stderr).map(drop)
}

/// The plan, on the way that one comes.
fn receive() -> io::Result<Plan> {
    let (mut daemon, mut shim) = UnixStream::pair()?;
    daemon.write_all(&protocol::frame(&plan())?)?;
    read_plan(&mut shim)
}

fn look_around() -> io::Result<()> {
    let _now = (Instant::now(), BootTime::now(), Death::new()?);
    let mut nothing = File::open("/dev/null")?;
    let _size = nothing.metadata()?.len();
    nothing.read(&mut [0]).map(drop)
}

fn plan() -> Plan {
    let program = Program {
        path: PathBuf::from(NO_PROGRAM),
        name: String::new(),
        args: vec![String::new()],
        env: vec![("A".into(), "a".into())],
        cwd: PathBuf::from("/"),
        user: None,
        writable: None,
        max_processes: None,
        max_file_bytes: None,
    };
    Plan {
        run: String::new(),
        control: PathBuf::new(),
        kept: Kept::Process(Box::new(program)),
        deadline: Some(BootTime::now()),
        why: String::new(),
        slack: Duration::ZERO,
        timeout: Some(Duration::ZERO),
        grace: Duration::ZERO,
        capture: Capture::Head(0),
        groups: vec![],
        in_force: vec![String::new()],
        events: vec![],
        halt: None,
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::super::pipe_pair;
    use super::*;

    #[test]
    fn a_rehearsal_starts_nothing() {
        of_shim().expect("a shim's part");
        let (mut output, end) = pipe_pair().map(|(read, write)| (File::from(read), write)).expect("a pipe");
        let refused = of_guard(&end, &end).expect_err("a program");
        assert_eq!(refused.raw_os_error(), Some(Errno::EACCES as i32), "{refused}");
        drop(end);
        let mut written = vec![];
        output.read_to_end(&mut written).expect("its end");
        assert!(written.is_empty(), "it wrote {written:?}");
    }
}
