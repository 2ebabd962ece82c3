//! How the first process of a run comes to be: in its control groups from the beginning, and heard of when it
//! cannot become what it should.
//!
//! A process that is moved into a group of version 2 holds up every fork of the machine, and waits for all that
//! go on: milliseconds, each time. One that is born in it does not.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};

use nix::libc;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};

use super::pipe_pair;
use crate::cgroup::Group;

/// Has the child begin in a control group; the C library's crate has it cut to what an `int` holds.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The groups that a process is to be in from its beginning.
pub(super) struct Cradle<'a> {
    groups: &'a [Group],
    /// Which of them it is born in, and the directory of that.
    born_in: Option<(usize, File)>,
}

impl<'a> Cradle<'a> {
    pub(super) fn new(groups: &'a [Group]) -> io::Result<Self> {
        let first = groups.iter().position(Group::can_be_born_in);
        let born_in = first.map(|at| File::open(&groups[at].dir).map(|dir| (at, dir)));
        Ok(Self { groups, born_in: born_in.transpose()? })
    }

    /// Where a process of one thread moves itself into those that it was not born in.
    fn doors(&self, born_in: Option<usize>) -> io::Result<Vec<File>> {
        let others = self.groups.iter().enumerate().filter(|(at, _)| Some(*at) != born_in);
        others.map(|(_, group)| OpenOptions::new().write(true).open(group.door())).collect()
    }
}

/// Starts a process that does `turn` and by that becomes something else. It is given what it still has to move
/// itself by.
///
/// # Errors
/// When there can be no process, or what kept it from becoming something else.
pub(super) fn start(
    cradle: &Cradle<'_>,
    turn: impl FnOnce(&[File]) -> io::Result<Infallible>,
) -> io::Result<Pid> {
    let (fault, fault_end) = pipe_pair()?;
    let (forked, doors) = cradle.fork()?;
    match forked {
        ForkResult::Child => {
            drop(fault);
            let Err(error) = turn(&doors);
            // Nobody but the guard could be told, and that is it.
            let _ = File::from(fault_end).write_all(&written(&error));
            #[expect(
                unsafe_code,
                reason = "the safe form would do what is to be done at the end of the guard"
            )]
            // SAFETY: it only ends the process.
            unsafe {
                libc::_exit(126)
            }
        }
        ForkResult::Parent { child } => {
            drop((fault_end, doors));
            let mut said = Vec::new();
            // It ends with the exec, or with the process.
            File::from(fault).read_to_end(&mut said)?;
            let Some(error) = read(&said) else { return Ok(child) };
            let _ = waitpid(child, None);
            Err(error)
        }
    }
}

impl Cradle<'_> {
    /// Forks; in the child it comes with what leads into the groups that it is not in yet.
    fn fork(&self) -> io::Result<(ForkResult, Vec<File>)> {
        if let Some((at, dir)) = &self.born_in {
            let doors = self.doors(Some(*at))?;
            // Older kernels cannot, and some filters of system calls do not let them.
            if let Ok(forked) = fork_into(dir.as_raw_fd()) {
                return Ok((forked, doors));
            }
        }
        let doors = self.doors(None)?;
        #[expect(unsafe_code, reason = "there is no safe fork")]
        // SAFETY: this process has one thread, so the child may do whatever its parent may.
        let forked = unsafe { fork() }?;
        Ok((forked, doors))
    }
}

/// Forks a child that is in a control group of version 2 from the beginning.
fn fork_into(group: RawFd) -> io::Result<ForkResult> {
    let args = libc::clone_args {
        flags: CLONE_INTO_CGROUP,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: u64::from(group.unsigned_abs()),
    };
    #[expect(unsafe_code, reason = "there is no safe wrapper")]
    // SAFETY: nothing is shared, so it is a fork; and this process has one thread, so the child may do whatever
    // its parent may, but for what looks at the id of its thread, which nothing does before an exec.
    let forked = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match libc::pid_t::try_from(forked) {
        Ok(0) => Ok(ForkResult::Child),
        Ok(child @ 1..) => Ok(ForkResult::Parent { child: Pid::from_raw(child) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// An error as the pipe carries it: its number, or 0, and its text.
fn written(error: &io::Error) -> Vec<u8> {
    let mut bytes = error.raw_os_error().unwrap_or(0).to_le_bytes().to_vec();
    bytes.extend(error.to_string().as_bytes());
    bytes
}

fn read(said: &[u8]) -> Option<io::Error> {
    let (number, text) = said.split_first_chunk::<4>()?;
    Some(match i32::from_le_bytes(*number) {
        0 => io::Error::other(String::from_utf8_lossy(text).into_owned()),
        number => io::Error::from_raw_os_error(number),
    })
}
