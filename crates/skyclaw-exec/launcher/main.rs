//! The first program of every container: starts the job's command, and is the init of its container.
//!
//! A container is created before its job is known, and what is created cannot be changed. So this is what
//! it was created with. It reads the command, the environment and the directory from a file that the host
//! wrote into the run's folder, and starts that command. What the file says is in no list of processes,
//! and in no record that Podman keeps.
//!
//! It also has the last look: what must bind the job must bind this process already, as the job inherits
//! it and cannot shake it off. If any of it is missing, the job is not started.
//!
//! As init it reaps what is orphaned, hands signals on to all there is, and ends with the command: its end is
//! the end of everything in the container, by the kernel. It also ends when nobody keeps the run any more.
//! Those who do hold a pipe open, and it needs none of them to act for seeing that closed. The job can neither
//! kill, stop nor trace it, as it is the first process of its namespace and cannot be read.
//!
//! And it closes what Podman's filter of system calls leaves open: a user namespace of the job's own, in
//! which it would have all capabilities again, could mount, open raw sockets, and reach parts of the kernel
//! that nobody else can.
//!
//! It knows nothing but the standard library, and is linked statically.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Where the host says what to run.
const FILE: &str = "/.skyclaw/run/launch";
/// What the file begins with; a version of its own, as host and launcher may differ for a moment.
const MAGIC: &[u8] = b"skyclaw-launch 2";
/// A pipe that whoever keeps the run holds open.
const LIFE: &str = "/.skyclaw/run/life";
/// What stands in the file when the run is kept.
const KEPT: &[u8] = b"kept";

/// The exit code of a run that was refused here.
const REFUSED: u8 = 125;
/// As shells give it: there is such a program, but it cannot be run.
const NOT_STARTED: u8 = 126;
/// As shells give it: there is no such program.
const NOT_FOUND: u8 = 127;
/// As shells give it after SIGKILL, which is what becomes of the job when nobody keeps it.
const KILLED: u8 = 137;

fn main() -> ExitCode {
    let (code, why) = match run() {
        Ok(code) => return ExitCode::from(code),
        Err(Failure::Refused(why)) => (REFUSED, why),
        Err(Failure::Start(what, error)) if error.kind() == io::ErrorKind::NotFound => {
            (NOT_FOUND, format!("{what}: not found in the image"))
        }
        Err(Failure::Start(what, error)) => (NOT_STARTED, format!("{what}: {error}")),
    };
    eprintln!("skyclaw: {why}");
    ExitCode::from(code)
}

enum Failure {
    Refused(String),
    Start(String, io::Error),
}

fn run() -> Result<u8, Failure> {
    let refused =
        |what: &str, error: io::Error| Failure::Refused(format!("refused to start: {what} ({error})"));
    // First of all, so that nothing that comes from now on is lost.
    let signals = signals::take().map_err(|error| refused("signals cannot be taken", error))?;
    let read = |path: &str| {
        std::fs::read(path).map_err(|error| Failure::Refused(format!("{path} cannot be read: {error}")))
    };
    let status = String::from_utf8_lossy(&read("/proc/self/status")?).into_owned();
    let uid_map = String::from_utf8_lossy(&read("/proc/self/uid_map")?).into_owned();
    if let Some(missing) = missing(&status, &uid_map) {
        return Err(Failure::Refused(format!("refused to start: {missing}")));
    }
    close_namespaces().map_err(|error| refused("it could make namespaces", error))?;
    hide().map_err(|error| refused("it could be read", error))?;
    let text = read(FILE)?;
    let launch =
        Launch::parse(&text).ok_or_else(|| Failure::Refused(format!("{FILE} cannot be understood")))?;
    let life = if launch.kept {
        Some(open_life().map_err(|error| refused("nobody keeps it", error))?)
    } else {
        None
    };
    let shown = |text: &OsStr| text.to_string_lossy().into_owned();
    std::env::set_current_dir(&launch.cwd).map_err(|error| Failure::Start(shown(&launch.cwd), error))?;
    let mut command = Command::new(&launch.argv[0]);
    command.args(&launch.argv[1..]).envs(&launch.env);
    #[allow(unsafe_code, reason = "there is no safe way to act between fork and exec")]
    // SAFETY: this process has one thread, so its child may do whatever it may.
    unsafe {
        command.pre_exec(signals::give_back);
    }
    let first = command.spawn().map_err(|error| Failure::Start(shown(&launch.argv[0]), error))?;
    Ok(signals::watch(first.id().cast_signed(), signals, life.as_ref()))
}

/// Opens the pipe that tells whether the run is kept.
fn open_life() -> io::Result<File> {
    const NONBLOCK: i32 = 0o4000;
    let mut life = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(LIFE)?;
    match life.read(&mut [0]) {
        // Somebody has the other end, and says nothing.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(life),
        Ok(_) => Err(io::ErrorKind::BrokenPipe.into()),
        Err(error) => Err(error),
    }
}

/// What a process that is the first of its namespace does: reap, hand signals on, end with the command.
mod signals {
    use super::{AsRawFd, File, FromRawFd, KILLED, RawFd, Read, io};

    /// As many bytes as the C libraries have for a set of signals.
    type Set = [u64; 16];
    const TERM: u32 = 15;
    const CHLD: u32 = 17;
    /// What is handed on: HUP, INT, QUIT, USR1, USR2, TERM.
    const HANDED_ON: [u32; 6] = [1, 2, 3, 10, 12, TERM];

    #[repr(C)]
    struct PollFd {
        fd: RawFd,
        events: i16,
        revents: i16,
    }

    #[allow(unsafe_code, reason = "the standard library has no such calls")]
    unsafe extern "C" {
        fn sigprocmask(how: i32, set: *const Set, before: *mut Set) -> i32;
        fn signalfd(fd: RawFd, set: *const Set, flags: i32) -> RawFd;
        fn poll(files: *mut PollFd, number: u64, timeout: i32) -> i32;
        fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
        fn kill(pid: i32, signal: i32) -> i32;
        fn setsid() -> i32;
    }

    const SET: i32 = 2;

    /// Has signals wait to be read.
    pub(super) fn take() -> io::Result<File> {
        const NONBLOCK_CLOEXEC: i32 = 0o2_004_000;
        let mut set: Set = [0; 16];
        set[0] = HANDED_ON.into_iter().chain([CHLD]).fold(0, |set, signal| set | 1 << (signal - 1));
        #[allow(unsafe_code, reason = "as above")]
        // SAFETY: the set is there for as long as it is looked at, and what is returned is owned by nobody.
        unsafe {
            if sigprocmask(SET, &set, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            match signalfd(-1, &set, NONBLOCK_CLOEXEC) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(File::from_raw_fd(fd)),
            }
        }
    }

    /// In the job's process: it has a session of its own, and hears signals as any other.
    pub(super) fn give_back() -> io::Result<()> {
        let none: Set = [0; 16];
        #[allow(unsafe_code, reason = "as above")]
        // SAFETY: the set is there for as long as it is looked at.
        let done = unsafe { sigprocmask(SET, &none, std::ptr::null_mut()) == 0 && setsid() != -1 };
        if done { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Until `first` ends or nobody keeps the run; then all that is left is the kernel's to kill.
    pub(super) fn watch(first: i32, mut signals: File, life: Option<&File>) -> u8 {
        loop {
            while let Some((pid, status)) = reaped() {
                if pid == first {
                    return code(status);
                }
            }
            const READABLE: i16 = 1;
            // One that is negative is not looked at.
            let life = life.map_or(-1, AsRawFd::as_raw_fd);
            let mut files = [
                PollFd { fd: signals.as_raw_fd(), events: READABLE, revents: 0 },
                PollFd { fd: life, events: 0, revents: 0 },
            ];
            #[allow(unsafe_code, reason = "as above")]
            // SAFETY: there are two, and they are there until it returns.
            unsafe {
                poll(files.as_mut_ptr(), 2, -1);
            }
            if files[1].revents != 0 {
                return KILLED;
            }
            let mut info = [0; 128];
            while matches!(signals.read(&mut info), Ok(128)) {
                let [a, b, c, d, ..] = info;
                hand_on(u32::from_ne_bytes([a, b, c, d]));
            }
        }
    }

    fn reaped() -> Option<(i32, i32)> {
        const NO_HANG: i32 = 1;
        let mut status = 0;
        #[allow(unsafe_code, reason = "as above")]
        // SAFETY: the status is there until it returns.
        let pid = unsafe { waitpid(-1, &raw mut status, NO_HANG) };
        (pid > 0).then_some((pid, status))
    }

    /// To all but this process, as whoever asks a run to end means all of it.
    fn hand_on(signal: u32) {
        if signal != CHLD {
            #[allow(unsafe_code, reason = "as above")]
            // SAFETY: it takes numbers.
            unsafe {
                kill(-1, signal.cast_signed());
            }
        }
    }

    /// As shells give it: 128 and the number of the signal after a signal.
    pub(super) fn code(status: i32) -> u8 {
        let signal = status & 0x7F;
        let code = if signal == 0 { status >> 8 & 0xFF } else { 128 + signal };
        u8::try_from(code).unwrap_or(KILLED)
    }
}

/// What does not bind this process although it must, if anything.
fn missing(status: &str, uid_map: &str) -> Option<String> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().split_whitespace().collect::<Vec<_>>()
    };
    if field("NoNewPrivs") != ["1"] {
        return Some("it could gain privileges (no-new-privileges is off)".to_owned());
    }
    if field("Seccomp") != ["2"] {
        return Some("no seccomp filter is in force".to_owned());
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        if !matches!(field(set)[..], [mask] if mask.bytes().all(|digit| digit == b'0')) {
            return Some(format!("it has capabilities ({set})"));
        }
    }
    let ids = ["Uid", "Gid"].map(&field);
    if ids.iter().any(|ids| ids.len() != 4 || ids.contains(&"0")) {
        return Some("it would run as root".to_owned());
    }
    // One line from 0 to 0 over all there are is the host's own namespace.
    let map: Vec<_> = uid_map.split_whitespace().collect();
    if map.is_empty() || map == ["0", "0", "4294967295"] {
        return Some("it is in the host's user namespace".to_owned());
    }
    None
}

/// One instruction of a filter, as the kernel takes it.
#[repr(C)]
struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    value: u32,
}

#[repr(C)]
struct Filter {
    length: u16,
    instructions: *const Instruction,
}

#[allow(unsafe_code, reason = "the standard library has no such call")]
unsafe extern "C" {
    fn prctl(option: i32, mode: usize, filter: *const Filter, unused: usize, unused_too: usize) -> i32;
}

/// Lets no process of the same user read or trace this one. What is executed later starts anew.
fn hide() -> io::Result<()> {
    const SET_DUMPABLE: i32 = 4;
    #[allow(unsafe_code, reason = "as above")]
    // SAFETY: it takes numbers.
    let set = unsafe { prctl(SET_DUMPABLE, 0, std::ptr::null(), 0, 0) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What the calls below are called on this machine: its name, `clone`, `unshare`, `setns`.
#[cfg(target_arch = "x86_64")]
const CALLS: [u32; 4] = [0xC000_003E, 56, 272, 308];
#[cfg(target_arch = "aarch64")]
const CALLS: [u32; 4] = [0xC000_00B7, 220, 97, 268];
const CLONE3: u32 = 435;
/// From here on it is the other convention of x86-64, whose calls have other numbers.
const X32: u32 = 0x4000_0000;
/// Every namespace that there is a flag for.
const NEW_NAMESPACES: u32 = 0x7E02_0000;

/// Has the kernel refuse to make or enter namespaces, for this process and all that come from it.
///
/// Programs of another kind of machine (32 bits on 64) are refused altogether: their calls have other
/// numbers. `clone3` is said not to be there, as its flags cannot be seen: the C libraries use `clone` then.
fn close_namespaces() -> io::Result<()> {
    const LOAD: u16 = 0x20;
    const EQUAL: u16 = 0x15;
    const AT_LEAST: u16 = 0x35;
    const ANY_BIT: u16 = 0x45;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7FFF_0000;
    const NOT_PERMITTED: u32 = 0x0005_0001;
    const NOT_THERE: u32 = 0x0005_0026;
    let [machine, clone, unshare, setns] = CALLS;
    let step = |code, value| Instruction { code, if_true: 0, if_false: 0, value };
    let jump = |code, value, if_true, if_false| Instruction { code, if_true, if_false, value };
    let program = [
        step(LOAD, 4),
        jump(EQUAL, machine, 0, 10),
        step(LOAD, 0),
        jump(AT_LEAST, X32, 8, 0),
        jump(EQUAL, CLONE3, 7, 0),
        jump(EQUAL, setns, 5, 0),
        jump(EQUAL, clone, 1, 0),
        jump(EQUAL, unshare, 0, 2),
        // The lower half of the first argument, of which no flag is in the upper.
        step(LOAD, 16),
        jump(ANY_BIT, NEW_NAMESPACES, 1, 0),
        step(RETURN, ALLOW),
        step(RETURN, NOT_PERMITTED),
        step(RETURN, NOT_THERE),
    ];
    let filter =
        Filter { length: u16::try_from(program.len()).unwrap_or_default(), instructions: program.as_ptr() };
    const SET_SECCOMP: i32 = 22;
    const MODE_FILTER: usize = 2;
    #[allow(unsafe_code, reason = "as above")]
    // SAFETY: the kernel copies the filter, which is there until it returns.
    let set = unsafe { prctl(SET_SECCOMP, MODE_FILTER, &filter, 0, 0) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[derive(Debug, PartialEq, Eq)]
struct Launch {
    /// Whether it ends when nobody keeps it.
    kept: bool,
    cwd: OsString,
    argv: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
}

impl Launch {
    /// Texts that each end in a NUL, which none of them can hold: the magic, whether it is kept, the directory,
    /// the number of words of the command and those, and then names and values in turn.
    fn parse(text: &[u8]) -> Option<Self> {
        let mut fields = text.strip_suffix(b"\0")?.split(|byte| *byte == 0);
        let owned = |field: &[u8]| OsStr::from_bytes(field).to_owned();
        if fields.next()? != MAGIC {
            return None;
        }
        let kept = match fields.next()? {
            KEPT => true,
            b"" => false,
            _ => return None,
        };
        let cwd = owned(fields.next()?);
        let words = std::str::from_utf8(fields.next()?).ok()?.parse::<usize>().ok()?;
        let argv: Vec<_> = fields.by_ref().take(words).map(owned).collect();
        if argv.len() != words || words == 0 {
            return None;
        }
        let mut env = BTreeMap::new();
        while let Some(name) = fields.next() {
            env.insert(owned(name), owned(fields.next()?));
        }
        Some(Self { kept, cwd, argv, env })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tx\nUid:\t1000\t1000\t1000\t1000\nGid:\t7\t7\t7\t7\nCapInh:\t0000000000000000\n\
        CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\n\
        CapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";
    const MAP: &str = "         0    1000000      65536\n";

    #[test]
    fn nothing_is_started_that_is_not_bound_in_every_way() {
        assert_eq!(missing(STATUS, MAP), None);
        for (from, to) in [
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            ("NoNewPrivs:\t1\n", ""),
            ("Seccomp:\t2", "Seccomp:\t0"),
            ("CapEff:\t0000000000000000", "CapEff:\t0000000000000400"),
            ("CapBnd:\t0000000000000000", "CapBnd:\t000001ffffffffff"),
            ("CapAmb:\t0000000000000000\n", ""),
            ("Uid:\t1000\t1000", "Uid:\t1000\t0"),
            ("Gid:\t7", "Gid:\t0"),
            ("Uid:\t1000\t1000\t1000\t1000\n", ""),
        ] {
            assert!(STATUS.contains(from), "{from}");
            assert!(missing(&STATUS.replace(from, to), MAP).is_some(), "{from} as {to:?}");
        }
        assert!(missing(STATUS, "         0          0 4294967295\n").is_some());
        assert!(missing(STATUS, "").is_some());
    }

    #[test]
    fn what_cannot_be_understood_is_not_started() {
        let whole = b"skyclaw-launch 2\0kept\0/tmp\x002\0sh\0-c\0A\x001\0B\0\0";
        let launch = Launch::parse(whole).expect("it is whole");
        assert!(launch.kept);
        assert_eq!(launch.argv, ["sh", "-c"]);
        assert_eq!(launch.env, BTreeMap::from([("A".into(), "1".into()), ("B".into(), "".into())]));
        for cut in 0..whole.len() - 1 {
            // Cut between two variables it would be whole as well.
            let same = Launch::parse(&whole[..cut]).is_some_and(|found| found.argv.len() != 2);
            assert!(!same, "cut at {cut}");
        }
        for broken in [
            "",
            "\0",
            "skyclaw-launch 1\0\0/\x001\0sh\0",
            "skyclaw-launch 2\0otherwise\0/\x001\0sh\0",
            "skyclaw-launch 2\0\0/\x000\0",
            "skyclaw-launch 2\0\0/\x009\0sh\0",
        ] {
            assert_eq!(Launch::parse(broken.as_bytes()), None, "{broken:?}");
        }
        assert_eq!(Launch::parse(b"skyclaw-launch 2\0\0/\x001\0sh\0A\0"), None, "a name without a value");
        assert!(Launch::parse(b"skyclaw-launch 2\0\0/\x001\0sh\0").is_some_and(|launch| !launch.kept));
    }

    #[test]
    fn a_code_is_what_a_shell_would_say() {
        for (status, want) in [(0, 0), (7 << 8, 7), (255 << 8, 255), (9, 137), (15, 143), (11 | 0x80, 139)] {
            assert_eq!(signals::code(status), want);
        }
    }
}
