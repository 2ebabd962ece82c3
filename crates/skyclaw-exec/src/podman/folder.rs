//! What lies on the host for a run: the folder that its container has mounted, and the record by which a
//! later daemon takes it up again.
//!
//! ```text
//! RUNS/                  the daemon's; others can go through it and not look
//!    RUN.json            the record
//!    RUN/                the service's user alone can go in
//!       box/             mounted in the container, read-only
//!          launch        the command and the environment
//!          life          a pipe that is held open by whoever keeps the run
//!          secrets/
//! ```
//!
//! It should be in memory (`/run`), as it holds secrets.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid};
use serde::{Deserialize, Serialize};

use super::container::Image;
use super::{Error, Identity, Limits, Spec};
use crate::cgroup::Group;
use crate::tree::Process;

/// What the launcher expects at the beginning.
const MAGIC: &str = "skyclaw-launch 2";
/// What says to it that the run is kept.
const KEPT: &str = "kept";
/// The launcher's own bytes.
const LAUNCHER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/launcher"));

/// What a later daemon must know of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The version of this form.
    pub(crate) form: u32,
    pub(crate) container: String,
    pub(crate) identity: Identity,
    pub(crate) agent: Option<String>,
    pub(crate) limits: Limits,
    /// What holds for it, in words.
    #[serde(default)]
    pub(crate) in_force: Vec<String>,
    pub(crate) main: Process,
    pub(crate) conmon: Process,
    pub(crate) exit_file: Option<PathBuf>,
    pub(crate) groups: Vec<Group>,
    pub(crate) cpu_before_ns: u64,
}

/// The version of [`Record`] that is written.
pub(crate) const FORM: u32 = 1;

/// Where the folders of all runs are.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    runs: PathBuf,
    launcher: PathBuf,
    /// The user of the Podman service, when that is not the daemon's own.
    service: Option<(Uid, Gid)>,
}

impl Folders {
    /// Makes what is not there: the folder of all runs, and the launcher.
    pub(crate) fn make(runs: &Path, state: &Path, service: Option<(Uid, Gid)>) -> Result<Self, Error> {
        // Only when somebody else must find the way to their folder.
        let mode = if service.is_some() { 0o711 } else { 0o700 };
        for dir in [runs, state] {
            let made = fs::create_dir_all(dir)
                .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(mode)));
            made.map_err(|source| Error::Folder { path: dir.to_owned(), source })?;
        }
        // Another version of the daemon has another launcher, and containers that still use it.
        let launcher = state.join(format!("launcher-{}", env!("CARGO_PKG_VERSION")));
        install(&launcher).map_err(|source| Error::Folder { path: launcher.clone(), source })?;
        Ok(Self { runs: runs.to_owned(), launcher, service })
    }

    pub(crate) fn launcher(&self) -> &Path {
        &self.launcher
    }

    pub(crate) fn mounted(&self, run: &str) -> PathBuf {
        self.runs.join(run).join("box")
    }

    /// The pipe that those who keep a run hold open.
    pub(crate) fn life(&self, run: &str) -> PathBuf {
        self.mounted(run).join("life")
    }

    /// Makes the folder of a run.
    pub(crate) fn create(&self, run: &str) -> Result<(), Error> {
        let dir = self.runs.join(run);
        let made = (|| {
            DirBuilder::new().mode(0o700).create(&dir)?;
            folder_for_all(&dir.join("box"))?;
            folder_for_all(&dir.join("box/secrets"))?;
            if let Some((uid, gid)) = self.service {
                nix::unistd::chown(&dir, Some(uid), Some(gid))?;
            }
            Ok(())
        })();
        made.map_err(|source| Error::Folder { path: dir, source })
    }

    /// Says what is to be run. The container reads it when it is started.
    ///
    /// A run that is `kept` ends when nobody has its pipe open any more.
    pub(crate) fn write_launch(
        &self,
        run: &str,
        spec: &Spec,
        image: &Image,
        kept: bool,
    ) -> Result<(), Error> {
        let dir = self.mounted(run);
        let text = launch(spec, image, kept)?;
        let written = (|| {
            for (name, secret) in &spec.secrets {
                write(&dir.join("secrets").join(name), secret.bytes(), 0o444)?;
            }
            if kept {
                // Read by anybody, held open by its owner alone: the job could keep itself otherwise.
                let life = self.life(run);
                nix::unistd::mkfifo(&life, nix::sys::stat::Mode::from_bits_truncate(0o600))?;
                fs::set_permissions(&life, fs::Permissions::from_mode(0o644))?;
            }
            write(&dir.join("launch"), &text, 0o444)
        })();
        written.map_err(|source| Error::Folder { path: dir, source })
    }

    pub(crate) fn write_record(&self, run: &str, record: &Record) -> Result<(), Error> {
        let path = self.record(run);
        let written = (|| {
            let half = path.with_extension("half");
            let _ = fs::remove_file(&half);
            write(&half, &serde_json::to_vec(record)?, 0o600)?;
            fs::rename(&half, &path)
        })();
        written.map_err(|source| Error::Folder { path, source })
    }

    pub(crate) fn read_record(&self, run: &str) -> Result<Record, Error> {
        let gone = |why: String| Error::Gone { run: run.to_owned(), why };
        let bytes =
            fs::read(self.record(run)).map_err(|e| gone(format!("its record cannot be read: {e}")))?;
        let record: Record = serde_json::from_slice(&bytes)
            .map_err(|e| gone(format!("its record cannot be understood: {e}")))?;
        if record.form == FORM {
            Ok(record)
        } else {
            Err(gone("its record is of another version".to_owned()))
        }
    }

    /// Removes what lies here for a run.
    pub(crate) fn remove(&self, run: &str) -> Result<(), Error> {
        let dir = self.runs.join(run);
        let missing =
            |error: io::Error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) };
        let removed = fs::remove_dir_all(&dir).or_else(missing);
        let removed = removed.and_then(|()| fs::remove_file(self.record(run)).or_else(missing));
        removed.map_err(|source| Error::Folder { path: dir, source })
    }

    /// The runs for which anything lies here.
    pub(crate) fn found(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let all =
            fs::read_dir(&self.runs).map_err(|source| Error::Folder { path: self.runs.clone(), source })?;
        let mut found: Vec<_> = all
            .flatten()
            .filter_map(|entry| Path::new(&entry.file_name()).file_stem()?.to_str().map(str::to_owned))
            .filter(|name| name.starts_with(prefix))
            .collect();
        found.sort();
        found.dedup();
        Ok(found)
    }

    fn record(&self, run: &str) -> PathBuf {
        self.runs.join(format!("{run}.json"))
    }
}

/// Puts the launcher in its place, unless it is there already.
fn install(path: &Path) -> io::Result<()> {
    if fs::read(path).is_ok_and(|found| found == LAUNCHER) {
        return Ok(());
    }
    // A daemon that starts beside this one may do the same; one that runs must not be written to.
    let half = path.with_extension(uuid::Uuid::new_v4().simple().to_string());
    write(&half, LAUNCHER, 0o555)?;
    fs::rename(&half, path)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // Whatever the daemon's mask takes away.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)
}

fn folder_for_all(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// What the launcher reads: texts that each end in a NUL.
fn launch(spec: &Spec, image: &Image, kept: bool) -> Result<Vec<u8>, Error> {
    let argv: Vec<&String> = match &spec.command {
        Some(command) => std::iter::once(command).chain(&spec.args).collect(),
        // As Podman does it: arguments take the place of the image's own.
        None if spec.args.is_empty() => image.entrypoint.iter().chain(&image.command).collect(),
        None => image.entrypoint.iter().chain(&spec.args).collect(),
    };
    if argv.is_empty() {
        return Err(Error::refused("command", "is missing, and the image has none of its own"));
    }
    let cwd = spec.cwd.as_deref().or(Some(image.folder.as_str()).filter(|dir| !dir.is_empty()));
    let words = argv.len().to_string();
    // Nothing but `/tmp` can be written to, and most programs want to keep something.
    let basic = [("HOME", "/tmp"), ("TMPDIR", "/tmp")];
    let basic = basic.into_iter().filter(|(name, _)| !spec.env.contains_key(*name));
    let own = spec.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let env = basic.chain(own).flat_map(|(name, value)| [name, value]);
    let kept = if kept { KEPT } else { "" };
    let texts = [MAGIC, kept, cwd.unwrap_or("/tmp"), &words].into_iter();
    let mut out = Vec::new();
    for text in texts.chain(argv.into_iter().map(String::as_str)).chain(env) {
        out.extend_from_slice(text.as_bytes());
        out.push(0);
    }
    Ok(out)
}
