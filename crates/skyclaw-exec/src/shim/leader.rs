//! The first process of a run: everything that is done between fork and exec.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
use nix::unistd::{Gid, Pid, Uid, getpid, getppid, setgid, setgroups, setsid, setuid};

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
    stdout: OwnedFd,
    stderr: OwnedFd,
) -> io::Result<Pid> {
    let doors = groups
        .iter()
        .map(|group| OpenOptions::new().write(true).open(group.door()))
        .collect::<io::Result<Vec<File>>>()?;
    let mut command = Command::new(&program.path);
    command
        .arg0(&program.name)
        .args(&program.args)
        .current_dir(&program.cwd)
        .env_clear()
        .envs(program.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr);
    let rights = Rights {
        guard: getpid(),
        doors,
        max_processes: program.max_processes,
        max_file_bytes: program.max_file_bytes,
        user: program.user.as_ref().map(|user| (Uid::from_raw(user.uid), Gid::from_raw(user.gid))),
        writable: program.writable.clone(),
    };
    #[expect(unsafe_code, reason = "there is no safe way to act between fork and exec")]
    // SAFETY: the guard has one thread, so its child may do whatever the guard may.
    unsafe {
        command.pre_exec(move || rights.take());
    }
    let child = command.spawn()?;
    Ok(Pid::from_raw(child.id().cast_signed()))
}

struct Rights {
    guard: Pid,
    doors: Vec<File>,
    max_processes: Option<u64>,
    max_file_bytes: Option<u64>,
    user: Option<(Uid, Gid)>,
    writable: Option<Vec<PathBuf>>,
}

impl Rights {
    fn take(&self) -> io::Result<()> {
        setsid()?;
        // Before the run has done anything: all it starts is in its groups.
        for mut door in &self.doors {
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
