//! The first process of a run: everything that is done between fork and exec.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope,
};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Gid, Pid, Uid, chdir, dup2_stderr, dup2_stdout, execvpe, getpid, getppid, setgid, setgroups, setsid,
    setuid,
};

use super::birth::{self, Cradle};
use crate::cgroup::Group;
use crate::protocol::Program;

/// What every program may need to write to, wherever else it may not.
const DEVICES: [&str; 8] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts",
];

/// Starts the program in a session of its own, in its groups, with its rights.
pub(super) fn start(
    program: &Program,
    groups: &[Group],
    stdout: &OwnedFd,
    stderr: &OwnedFd,
) -> io::Result<Pid> {
    let image = Image::of(program)?;
    let rights = Rights {
        guard: getpid(),
        max_processes: program.max_processes,
        max_file_bytes: program.max_file_bytes,
        user: program.user.as_ref().map(|user| (Uid::from_raw(user.uid), Gid::from_raw(user.gid))),
        writable: program.writable.clone(),
    };
    // Before the run has done anything: all it starts is in its groups.
    let cradle = Cradle::new(groups)?;
    birth::start(&cradle, |doors| {
        dup2_stdout(stdout)?;
        dup2_stderr(stderr)?;
        chdir(image.cwd.as_c_str())?;
        rights.take(doors)?;
        image.become_it()
    })
}

/// A program as the kernel wants it, made before there is a process to run it.
struct Image {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
    cwd: CString,
}

impl Image {
    fn of(program: &Program) -> io::Result<Self> {
        let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::from);
        let args = std::iter::once(&program.name).chain(&program.args);
        let variable = |name: &OsStr, value: &OsStr| text(&[name, value].join(OsStr::new("=")));
        Ok(Self {
            path: text(program.path.as_os_str())?,
            args: args.map(|arg| text(arg.as_ref())).collect::<io::Result<_>>()?,
            env: program.env.iter().map(|(name, value)| variable(name, value)).collect::<io::Result<_>>()?,
            cwd: text(program.cwd.as_os_str())?,
        })
    }

    /// Has this process run it. A script that does not say what for is one of the shell's.
    fn become_it(&self) -> io::Result<Infallible> {
        Ok(execvpe(&self.path, &self.args, &self.env)?)
    }
}

struct Rights {
    guard: Pid,
    max_processes: Option<u64>,
    max_file_bytes: Option<u64>,
    user: Option<(Uid, Gid)>,
    writable: Option<Vec<PathBuf>>,
}

impl Rights {
    fn take(&self, doors: &[File]) -> io::Result<()> {
        setsid()?;
        for mut door in doors {
            door.write_all(b"0")?;
        }
        umask(Mode::from_bits_truncate(0o022));
        reset_signals();
        // What the guard takes up in turn would never reach the run.
        SigSet::empty().thread_set_mask()?;
        setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
        if let Some(max) = self.max_processes {
            setrlimit(Resource::RLIMIT_NPROC, max, max)?;
        }
        if let Some(max) = self.max_file_bytes {
            setrlimit(Resource::RLIMIT_FSIZE, max, max)?;
        }
        if let Some((uid, gid)) = self.user {
            setgroups(&[])?;
            setgid(gid)?;
            setuid(uid)?;
        }
        prctl::set_no_new_privs()?;
        if let Some(writable) = &self.writable {
            limit_writes(writable)?;
        }
        // After the user: a change of rights unsets it.
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The guard may have died before the kernel was told to watch it.
        if getppid() != self.guard {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        close_on_exec_from(3);
        Ok(())
    }
}

/// Lets nothing be written outside of what is named. Fails where the kernel cannot.
///
/// Along with it come two things for which the kernel needs no rule: nothing can be mounted, and processes
/// outside of the run can be neither traced nor read (their memory, their environment). Since Linux 6.12 they
/// can be sent no signals either.
fn limit_writes(writable: &[PathBuf]) -> io::Result<()> {
    // What came with later versions is asked for where it is known, but the first is a must.
    let later = AccessFs::from_write(ABI::V5);
    let fault = |error: landlock::RulesetError| io::Error::other(error.to_string());
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_write(ABI::V1))
        .map_err(fault)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(later)
        .map_err(fault)?
        .scope(Scope::Signal)
        .map_err(fault)?
        .create()
        .map_err(fault)?;
    let devices = DEVICES.iter().map(Path::new).filter(|path| path.exists());
    for path in writable.iter().map(PathBuf::as_path).chain(devices) {
        let beneath = PathFd::new(path).map_err(|error| io::Error::other(error.to_string()))?;
        let access: BitFlags<AccessFs> =
            if path.is_dir() { later } else { later & AccessFs::from_file(ABI::V5) };
        rules = rules.add_rule(PathBeneath::new(beneath, access)).map_err(fault)?;
    }
    rules.restrict_self().map_err(fault)?;
    Ok(())
}

/// What the daemon or its parent ignored would be ignored by the run as well.
fn reset_signals() {
    for number in 1..=libc::SIGRTMAX() {
        #[expect(unsafe_code, reason = "the safe form knows no real-time signals")]
        // SAFETY: no handler is installed. Those that cannot be set are left as they are.
        unsafe {
            libc::signal(number, libc::SIG_DFL);
        }
    }
}

/// Closes what was inherited.
pub(super) fn close_from(first: u32) {
    close_range(first, 0);
}

fn close_on_exec_from(first: u32) {
    close_range(first, libc::CLOSE_RANGE_CLOEXEC);
}

fn close_range(first: u32, flags: libc::c_uint) {
    #[expect(unsafe_code, reason = "there is no safe wrapper")]
    // SAFETY: called where no value owns a descriptor from there upward, or only marks them. On a kernel
    // before 5.9 it fails and changes nothing.
    unsafe {
        libc::syscall(libc::SYS_close_range, first, u32::MAX, flags);
    }
}

pub(super) fn set_close_on_exec(file: &impl AsFd) -> io::Result<()> {
    fcntl(file, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(())
}

/// Has the kernel kill a group of processes as soon as the other end of a pipe is closed, whoever closes it
/// and however: the death of the one that has it is enough, and nobody needs to run for it.
pub(super) fn tie(group: Pid, life: &OwnedFd) -> io::Result<()> {
    let call = |command: libc::c_int, argument: libc::c_int| {
        #[expect(unsafe_code, reason = "there is no safe wrapper")]
        // SAFETY: the descriptor is open, and the commands take a number.
        let done = unsafe { libc::fcntl(life.as_raw_fd(), command, argument) };
        if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    call(libc::F_SETOWN, -group.as_raw())?;
    call(F_SETSIG, libc::SIGKILL)?;
    call(libc::F_SETFL, libc::O_ASYNC | libc::O_NONBLOCK)
}

/// Which signal an owner is sent; the same on all architectures of Linux, and not in the C library's crate.
const F_SETSIG: libc::c_int = 10;
