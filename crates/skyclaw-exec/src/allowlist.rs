//! Which commands may be started, and which file a name stands for.
//!
//! A bare name is looked up once per run, in the search path of the daemon: neither the job's `PATH`
//! nor its working directory has a say in what a permitted name means. A command with a slash is only
//! permitted when that very text is listed.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::Error;

/// The commands a host may start.
#[derive(Debug, Clone)]
pub struct Allowlist {
    commands: BTreeSet<String>,
    path: OsString,
}

impl Allowlist {
    /// A list of names, and the search path (`a:b:c`) they are looked up in. Blank names and directories
    /// that are not absolute are ignored.
    pub fn new<I>(commands: I, search_path: &OsStr) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let commands = commands.into_iter().map(|name| name.as_ref().trim().to_owned());
        let directories = std::env::split_paths(search_path).filter(|dir| dir.is_absolute());
        Self {
            commands: commands.filter(|name| !name.is_empty()).collect(),
            // What was split at colons holds none, so it can be joined again.
            path: std::env::join_paths(directories).unwrap_or_default(),
        }
    }

    /// Whether `command` is listed, whatever it stands for on this machine.
    #[must_use]
    pub fn lists(&self, command: &str) -> bool {
        self.commands.contains(command)
    }

    /// The search path a run is given, absolute directories only.
    pub(crate) fn search_path(&self) -> &OsStr {
        &self.path
    }

    /// The file to start for `command`.
    ///
    /// # Errors
    /// [`Error::NotAllowed`] when it is not listed, [`Error::NotFound`] when no such program exists.
    pub(crate) fn resolve(&self, command: &str) -> Result<PathBuf, Error> {
        if !self.commands.contains(command) {
            return Err(Error::NotAllowed { command: command.to_owned() });
        }
        let found = if command.contains('/') {
            Some(PathBuf::from(command)).filter(|path| path.is_absolute() && is_program(path))
        } else {
            std::env::split_paths(&self.path).map(|dir| dir.join(command)).find(|path| is_program(path))
        };
        found.ok_or_else(|| Error::NotFound { command: command.to_owned() })
    }
}

/// Whether there is a regular file here that somebody may execute.
fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temp dir");
        for (name, mode) in [("tool", 0o755), ("plain", 0o644)] {
            std::fs::write(dir.path().join(name), "#!/bin/sh\n").expect("write");
            std::fs::set_permissions(dir.path().join(name), PermissionsExt::from_mode(mode)).expect("chmod");
        }
        std::fs::create_dir(dir.path().join("folder")).expect("mkdir");
        dir
    }

    fn verdict(list: &Allowlist, command: &str) -> &'static str {
        match list.resolve(command) {
            Ok(_) => "runs",
            Err(Error::NotAllowed { .. }) => "not allowed",
            Err(Error::NotFound { .. }) => "not found",
            Err(_) => "other",
        }
    }

    #[test]
    fn only_what_is_listed_and_executable_runs() {
        let dir = tools();
        let by_path = dir.path().join("tool").display().to_string();
        let listed = ["tool", "plain", "folder", "gone", " ", "./tool", by_path.as_str()];
        let list = Allowlist::new(listed, dir.path().as_os_str());
        let other_path = format!("{}/./tool", dir.path().display());
        for (command, want) in [
            ("tool", "runs"),
            (by_path.as_str(), "runs"),
            (other_path.as_str(), "not allowed"),
            ("plain", "not found"),
            ("folder", "not found"),
            ("gone", "not found"),
            ("./tool", "not found"),
            ("sh", "not allowed"),
            ("/bin/sh", "not allowed"),
            ("../tool", "not allowed"),
            ("", "not allowed"),
            (" tool", "not allowed"),
            ("TOOL", "not allowed"),
        ] {
            assert_eq!(verdict(&list, command), want, "{command:?}");
        }
    }

    #[test]
    fn directories_that_are_not_absolute_are_not_searched() {
        let list = Allowlist::new(["Cargo.toml", "sh"], OsStr::new(":.:src::relative:/bin"));
        assert_eq!(list.search_path(), "/bin");
        assert_eq!(list.resolve("sh").expect("sh"), PathBuf::from("/bin/sh"));
    }
}
