//! What a run might try in order to get out, to see what is not its own, or to become what it is not.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::kill;
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::{Pid, Uid, setuid};

/// Tries one thing, and gives its name with what came of it: `done`, or the name of the kernel's error.
pub(crate) fn attempt(what: &str) -> String {
    let (name, argument) = what.split_once('=').unwrap_or((what, ""));
    let outcome = match tried(name, argument) {
        Ok(()) => "done".to_owned(),
        Err(error) => error.raw_os_error().map_or(error.to_string(), |number| {
            nix::errno::Errno::from_raw(number).to_string().split(':').next().unwrap_or_default().to_owned()
        }),
    };
    format!("{name} {outcome}")
}

fn tried(name: &str, argument: &str) -> io::Result<()> {
    let path = Path::new(argument);
    match name {
        "read" => File::open(path)?.read(&mut [0; 1]).map(drop),
        "list" => fs::read_dir(path).map(drop),
        "write" => OpenOptions::new().create(true).append(true).open(path).map(drop),
        "make" => fs::create_dir(path),
        "remove" => fs::remove_file(path),
        "device" => Ok(mknod(path, SFlag::S_IFCHR, Mode::S_IRUSR, nix::sys::stat::makedev(1, 3))?),
        "memory" => OpenOptions::new().read(true).write(true).open(format!("/proc/{argument}/mem")).map(drop),
        "environment" => File::open(format!("/proc/{argument}/environ"))?.read(&mut [0; 1]).map(drop),
        "files" => fs::read_dir(format!("/proc/{argument}/fd")).map(drop),
        "trace" => trace(pid(argument)?),
        // The signal that does nothing needs the same rights as any other.
        "signal" => Ok(kill(Pid::from_raw(pid(argument)?), None)?),
        "mount" => Ok(mount(Some("none"), path, Some("tmpfs"), MsFlags::empty(), None::<&str>)?),
        "bind" => {
            let (from, to) = argument.split_once(':').ok_or(io::ErrorKind::InvalidInput)?;
            Ok(mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
        }
        "unmount" => Ok(umount2(path, MntFlags::MNT_DETACH)?),
        "raw-socket" => socket(libc::AF_INET, libc::IPPROTO_ICMP),
        "packet-socket" => socket(libc::AF_PACKET, 0),
        "become-root" => Ok(setuid(Uid::from_raw(0))?),
        "setuid-program" => setuid_program(path),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn pid(text: &str) -> io::Result<libc::pid_t> {
    text.parse().map_err(io::Error::other)
}

fn trace(pid: libc::pid_t) -> io::Result<()> {
    #[expect(unsafe_code, reason = "there is no safe wrapper in what is used here")]
    // SAFETY: only numbers are passed.
    let traced = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) };
    // The end of this process lets go of it again.
    if traced == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn socket(family: libc::c_int, protocol: libc::c_int) -> io::Result<()> {
    #[expect(unsafe_code, reason = "the safe wrapper knows no protocol of this kind")]
    // SAFETY: only numbers are passed; the descriptor lives as long as this process.
    let made = unsafe { libc::socket(family, libc::SOCK_RAW, protocol) };
    if made == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether a setuid copy of `id` says that it runs as root.
fn setuid_program(path: &Path) -> io::Result<()> {
    let said = Command::new(path).arg("-u").stdin(Stdio::null()).output()?;
    if said.stdout == b"0\n" { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EPERM)) }
}
