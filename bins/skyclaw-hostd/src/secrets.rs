//! Keeps the daemon's secrets from what it runs.
//!
//! What is run has the daemon's user, so it may read `/proc/PID/environ` and the memory of the daemon
//! unless something is in the way. Two things are:
//! - The process is made not dumpable: its files in `/proc` belong to root then.
//! - A secret given in the environment is put into a file in memory, and the daemon starts itself anew
//!   without it: not even root finds it in `/proc/PID/environ`. The file is closed once it was read.
//!
//! What this cannot do: root can read the daemon's memory, and a secret in a *file* can be read by who
//! may read that file. Where jobs must not have the token, keep its file from the daemon's user (a
//! systemd credential does that after start) or let jobs run as another user.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::memfd::{MFdFlags, memfd_create};
use skyclaw_config::{Environment, Settings, otlp};

const MEMORY_FILE: &str = "/proc/self/fd/";

/// Makes the process not dumpable. To be called first of all: until then what runs as the same user may look into it.
/// From the very start only a program that its user cannot read is closed, as docs/systemd.md has it.
///
/// # Errors
/// When the kernel refuses.
pub fn seal() -> io::Result<()> {
    Ok(nix::sys::prctl::set_dumpable(false)?)
}

/// Starts the process anew without the secrets in its environment, if there are any: those of the settings, and the
/// headers for a collector of spans under their standard names, which become the setting. To be called before there is a
/// second thread.
///
/// # Errors
/// When the kernel refuses; the secret is still where it was then.
pub fn hide<S: Settings>(env: &Environment) -> io::Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    // Open until the new start has taken over.
    let mut files = Vec::new();
    for setting in S::TABLE.iter().filter(|setting| setting.secret) {
        let named = format!("{}_FILE", setting.env);
        // With both set, the settings say what is wrong.
        if let (Some(secret), None) = (env.get(setting.env), env.get(&named)) {
            let file = memory_file(secret)?;
            command.env_remove(setting.env).env(named, format!("{MEMORY_FILE}{}", file.as_raw_fd()));
            files.push(file);
        }
    }
    let own = otlp::OWN_HEADERS;
    let mut is_told = env.get(own).is_some() || env.get(&format!("{own}_FILE")).is_some();
    // The first of these that is set counts, after ours.
    for (name, secret) in otlp::STANDARD_HEADERS.iter().filter_map(|name| Some((name, env.get(name)?))) {
        let file = memory_file(secret)?;
        command.env_remove(name);
        if !std::mem::replace(&mut is_told, true) {
            command.env(format!("{own}_FILE"), format!("{MEMORY_FILE}{}", file.as_raw_fd()));
        }
        files.push(file);
    }
    if files.is_empty() {
        return Ok(());
    }
    let mut args = std::env::args_os();
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    Err(command.args(args).exec())
}

/// Closes what [`hide`] left open, once the settings were read.
pub fn forget<S: Settings>(env: &Environment) {
    for setting in S::TABLE.iter().filter(|setting| setting.secret) {
        let file = env.get(&format!("{}_FILE", setting.env));
        if let Some(number) = file.and_then(|path| path.strip_prefix(MEMORY_FILE)?.parse::<RawFd>().ok()) {
            // An error means that it was not open.
            let _ = nix::unistd::close(number);
        }
    }
}

/// A file in memory that outlives an exec.
fn memory_file(text: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create("secret", MFdFlags::empty())?);
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}
