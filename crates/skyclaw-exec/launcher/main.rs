//! The first program of every container: becomes the job's command.
//!
//! A container is created before its job is known, and what is created cannot be changed. So this is what
//! it was created with. It reads the command, the environment and the directory from a file that the host
//! wrote into the run's folder, and becomes that command. What the file says is in no list of processes,
//! and in no record that Podman keeps.
//!
//! It also has the last look: what must bind the job must bind this process already, as the job inherits
//! it and cannot shake it off. If any of it is missing, the job is not started.
//!
//! It knows nothing but the standard library, and is linked statically.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Where the host says what to run.
const FILE: &str = "/.skyclaw/run/launch";
/// What the file begins with; a version of its own, as host and launcher may differ for a moment.
const MAGIC: &[u8] = b"skyclaw-launch 1";

/// The exit code of a run that was refused here.
const REFUSED: u8 = 125;
/// As shells give it: there is such a program, but it cannot be run.
const NOT_STARTED: u8 = 126;
/// As shells give it: there is no such program.
const NOT_FOUND: u8 = 127;

fn main() -> ExitCode {
    let (code, why) = match run() {
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

fn run() -> Result<std::convert::Infallible, Failure> {
    let read = |path: &str| {
        std::fs::read(path).map_err(|error| Failure::Refused(format!("{path} cannot be read: {error}")))
    };
    let status = String::from_utf8_lossy(&read("/proc/self/status")?).into_owned();
    let uid_map = String::from_utf8_lossy(&read("/proc/self/uid_map")?).into_owned();
    if let Some(missing) = missing(&status, &uid_map) {
        return Err(Failure::Refused(format!("refused to start: {missing}")));
    }
    let text = read(FILE)?;
    let launch =
        Launch::parse(&text).ok_or_else(|| Failure::Refused(format!("{FILE} cannot be understood")))?;
    let shown = |text: &OsStr| text.to_string_lossy().into_owned();
    std::env::set_current_dir(&launch.cwd).map_err(|error| Failure::Start(shown(&launch.cwd), error))?;
    let mut command = Command::new(&launch.argv[0]);
    let error = command.args(&launch.argv[1..]).envs(&launch.env).exec();
    Err(Failure::Start(shown(&launch.argv[0]), error))
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

#[derive(Debug, PartialEq, Eq)]
struct Launch {
    cwd: OsString,
    argv: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
}

impl Launch {
    /// Texts that each end in a NUL, which none of them can hold: the magic, the directory, the number of
    /// words of the command and those, and then names and values in turn.
    fn parse(text: &[u8]) -> Option<Self> {
        let mut fields = text.strip_suffix(b"\0")?.split(|byte| *byte == 0);
        let owned = |field: &[u8]| OsStr::from_bytes(field).to_owned();
        if fields.next()? != MAGIC {
            return None;
        }
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
        Some(Self { cwd, argv, env })
    }
}
