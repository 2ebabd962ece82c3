//! How the first process of a run comes to be: in its control groups from the beginning, and heard of when it
//! cannot become what it should.
//!
//! A process that is moved into a group of version 2 holds up every fork of the machine, and waits for all that
//! go on: milliseconds, each time. One that is born in it does not.
//!
//! It has the memory of its parent, which stands still meanwhile, until it becomes another program: to copy the tables
//! of that memory, and to find page after page that both have changed, takes longer than all it does before.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

use nix::libc;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

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
/// itself by. What it changes in memory is changed for the caller as well, which has one thread.
///
/// # Errors
/// When there can be no process, or what kept it from becoming something else.
pub(super) fn start(
    cradle: &Cradle<'_>,
    turn: impl Fn(&[File]) -> io::Result<Infallible>,
) -> io::Result<Pid> {
    if let Some((at, dir)) = &cradle.born_in {
        let newborn = Newborn { turn: &turn, doors: cradle.doors(Some(*at))?, fault: None };
        // Older kernels cannot, and some filters of system calls do not let them.
        if let Ok(born) = newborn.be_born(&Birth::into(dir)) {
            return born;
        }
    }
    let newborn = Newborn { turn: &turn, doors: cradle.doors(None)?, fault: None };
    newborn.be_born(&Birth::Plain)?
}

/// A process between its birth and what it is to become.
struct Newborn<'a, T> {
    turn: &'a T,
    doors: Vec<File>,
    /// Written by the child, read by its parent.
    fault: Option<io::Error>,
}

impl<T: Fn(&[File]) -> io::Result<Infallible>> Newborn<'_, T> {
    /// The process, or what kept it from becoming something else.
    ///
    /// # Errors
    /// When there is none.
    fn be_born(mut self, birth: &Birth) -> io::Result<io::Result<Pid>> {
        #[expect(unsafe_code, reason = "there is no safe form")]
        // SAFETY: this process has one thread, which goes on when the child is another program or has ended; until then
        // the child alone uses what it is given.
        let child = unsafe { birth.give((&raw mut self).cast(), Self::live) }?;
        let Some(fault) = self.fault else { return Ok(Ok(child)) };
        let _ = waitpid(child, None);
        Ok(Err(fault))
    }

    /// What the child does. A panic would end it, as it cannot leave a function of C.
    #[expect(unsafe_code, reason = "called by what was given its address")]
    unsafe extern "C" fn live(this: *mut libc::c_void) -> ! {
        // SAFETY: it is the value that `be_born` waits with.
        let this = unsafe { &mut *this.cast::<Self>() };
        let Err(fault) = (this.turn)(&this.doors);
        this.fault = Some(fault);
        // SAFETY: it only ends the process. The safe form would do what is to be done at the end of the guard.
        unsafe { libc::_exit(126) }
    }
}

/// The system call by which a process comes to be that has the memory of its parent, and its parent's place to run on
/// while that stands still.
enum Birth {
    Into(libc::clone_args),
    Plain,
}

/// What a child does with what it is given.
type Live = unsafe extern "C" fn(*mut libc::c_void) -> !;

impl Birth {
    const FLAGS: libc::c_int = libc::CLONE_VM | libc::CLONE_VFORK;

    /// In a control group of version 2 from the beginning.
    fn into(group: &File) -> Self {
        Self::Into(libc::clone_args {
            flags: u64::from(Self::FLAGS.unsigned_abs()) | CLONE_INTO_CGROUP,
            pidfd: 0,
            child_tid: 0,
            parent_tid: 0,
            exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
            stack: 0,
            stack_size: 0,
            tls: 0,
            set_tid: 0,
            set_tid_size: 0,
            cgroup: u64::from(group.as_raw_fd().unsigned_abs()),
        })
    }

    /// Has a child begin with `live`, and waits until it has become another program or has ended.
    ///
    /// # Safety
    /// The process has one thread, and `live` does with `with` what this thread could do.
    ///
    /// # Errors
    /// When there is no child.
    #[expect(unsafe_code, reason = "there is no safe form")]
    unsafe fn give(&self, with: *mut libc::c_void, live: Live) -> io::Result<Pid> {
        let (call, arguments) = match self {
            Self::Into(args) => {
                (libc::SYS_clone3, [(&raw const *args).expose_provenance(), size_of::<libc::clone_args>()])
            }
            // The stack is the parent's, as nothing else is said.
            Self::Plain => (libc::SYS_clone, [(Self::FLAGS | libc::SIGCHLD).unsigned_abs() as usize, 0]),
        };
        // SAFETY: the call is one of those two, and the rest is the caller's promise.
        let born = unsafe { bear(call, arguments, with, live) };
        match libc::pid_t::try_from(born) {
            Ok(child @ 1..) => Ok(Pid::from_raw(child)),
            _ => Err(i32::try_from(-born)
                .map_or_else(|_| io::ErrorKind::Other.into(), io::Error::from_raw_os_error)),
        }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("how a run is born is written for x86-64 and ARM64: for another machine, write its `bear`");

/// Makes a system call that returns twice, the second time in a child on the same stack: it must never return from
/// here, as it would overwrite what its parent comes back to, so it goes on in `live`, which leaves what is above it as
/// it is. Returns the child's id, or an error's number below zero.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "no function of the C library takes such flags")]
unsafe fn bear(call: libc::c_long, arguments: [usize; 2], with: *mut libc::c_void, live: Live) -> i64 {
    let mut born: i64 = call;
    // SAFETY: what the call and the child overwrite is named, and the child does not come out of here.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inout("rax") born,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") 0,
            in("r10") 0,
            in("r8") 0,
            in("r12") with,
            in("r13") live,
            out("rcx") _,
            out("r11") _,
        );
    }
    born
}

/// As above.
#[cfg(target_arch = "aarch64")]
#[expect(unsafe_code, reason = "no function of the C library takes such flags")]
unsafe fn bear(call: libc::c_long, arguments: [usize; 2], with: *mut libc::c_void, live: Live) -> i64 {
    let mut born = arguments[0].cast_signed() as i64;
    // SAFETY: what the call and the child overwrite is named, and the child does not come out of here.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x0, x20",
            "blr x21",
            "brk #1",
            "2:",
            inout("x0") born,
            in("x1") arguments[1],
            in("x2") 0,
            in("x3") 0,
            in("x4") 0,
            in("x8") call,
            in("x20") with,
            in("x21") live,
        );
    }
    born
}
