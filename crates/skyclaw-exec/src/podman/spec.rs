//! What to run in a container, and what bounds it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Error, Limits};

/// The folder in a container that is the driver's.
pub(crate) const OWN_FOLDER: &str = "/.skyclaw";
/// Where a run finds its secrets, as files.
pub const SECRETS_FOLDER: &str = "/.skyclaw/run/secrets";
/// How many bytes the command, its arguments and the environment may have together. The kernel takes
/// 2 MiB at most.
const MAX_WORDS_BYTES: usize = 1 << 20;
/// The largest limit of any kind: far beyond any machine, and nothing is out of range when it is counted
/// in other units.
const MOST: u64 = 1 << 50;
/// How many secrets a run may have.
const MAX_SECRETS: usize = 64;
/// How many mounts a run may have.
const MAX_MOUNTS: usize = 32;

/// A run in a container.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    /// A reference (`localhost/tool:1`) or a digest (`sha256:…`, `name@sha256:…`).
    pub image: String,
    /// The program; the image's own when there is none.
    pub command: Option<String>,
    /// Its arguments; the image's own when neither these nor a command are given.
    pub args: Vec<String>,
    /// Variables, over those of the image. They are in no record of Podman.
    pub env: BTreeMap<String, String>,
    /// Files in [`SECRETS_FOLDER`], readable by the run alone.
    pub secrets: BTreeMap<String, Secret>,
    /// Where it starts: the image's own working directory when there is none, and `/tmp` when that has
    /// none either.
    pub cwd: Option<String>,
    /// What this run may use.
    pub limits: Limits,
    /// The agent it belongs to. All runs of one agent share one bound.
    pub agent: Option<Agent>,
    /// Folders and files of the host.
    pub mounts: Vec<Mount>,
    /// What it can reach.
    pub network: Network,
    /// Who it runs as, in its own user namespace; the policy's default when there is none.
    pub user: Option<User>,
    /// Whose it is.
    pub identity: Identity,
}

/// An agent, whose runs share a bound.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Agent {
    /// Its id.
    pub id: String,
    /// What its runs may use together.
    pub limits: Limits,
}

/// A folder or file of the host within a container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mount {
    /// On the host. Absolute.
    pub source: PathBuf,
    /// In the container. Absolute.
    pub target: PathBuf,
    /// Whether the run may write there.
    pub writable: bool,
}

/// What a run can reach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Network {
    /// Nothing but itself.
    #[default]
    None,
    /// What the host can reach.
    Host,
    /// What a network that Podman knows by this name can reach. An allowlist of what may be reached there
    /// is to be a further variant, beside this one.
    Named(String),
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Host => "host",
            Self::Named(name) => name,
        })
    }
}

/// A user within a container, never root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Whose a run is. Kept beside the run on the host, and in the labels of its container unless that was
/// made ahead.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The job or service.
    pub job: String,
    /// The fencing token of its lease.
    pub fence: u64,
    /// Which attempt it is.
    pub attempt: u32,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Keeps these bytes to itself.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Spec {
    /// Whether it makes sense, whatever a host allows.
    ///
    /// # Errors
    /// Names the field and the fault.
    pub fn validate(&self) -> Result<(), Error> {
        if self.image.is_empty() || !self.image.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::refused("image", "is not the reference of an image"));
        }
        if self.command.as_ref().is_some_and(String::is_empty) {
            return Err(Error::refused("command", "is empty"));
        }
        self.check_words()?;
        for name in self.secrets.keys() {
            let fine = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            if name.is_empty() || name.len() > 128 || name.starts_with('.') || !name.bytes().all(fine) {
                return Err(Error::refused(
                    "secrets",
                    "a name is 1 to 128 of A-Z a-z 0-9 . _ - without a dot first",
                ));
            }
        }
        if self.secrets.len() > MAX_SECRETS {
            return Err(Error::refused("secrets", format!("there are more than {MAX_SECRETS}")));
        }
        if self.cwd.as_ref().is_some_and(|cwd| !cwd.starts_with('/')) {
            return Err(Error::refused("cwd", "must be absolute, as it is a path in the container"));
        }
        if self.mounts.len() > MAX_MOUNTS {
            return Err(Error::refused("mounts", format!("there are more than {MAX_MOUNTS}")));
        }
        if self
            .user
            .is_some_and(|user| user.uid == 0 || user.gid == 0 || user.uid > 65_535 || user.gid > 65_535)
        {
            return Err(Error::refused("user", "ids must be between 1 and 65535: nothing runs as root"));
        }
        if self.agent.as_ref().is_some_and(|agent| agent.id.is_empty() || agent.id.len() > 128) {
            return Err(Error::refused("agentId", "must have 1 to 128 characters"));
        }
        if let Some(agent) = &self.agent {
            agent.limits.validate()?;
        }
        self.limits.validate()
    }

    fn check_words(&self) -> Result<(), Error> {
        let mut bytes = 0;
        let words = self.command.iter().chain(&self.args).map(|word| ("args", word));
        let env = self.env.iter().flat_map(|(name, value)| [("env", name), ("env", value)]);
        for (field, text) in words.chain(env).chain(self.cwd.iter().map(|cwd| ("cwd", cwd))) {
            if text.contains('\0') {
                return Err(Error::refused(field, "must not contain a NUL character"));
            }
            bytes += text.len() + 1;
        }
        if self.env.keys().any(|name| name.is_empty() || name.contains('=')) {
            return Err(Error::refused("env", "a name must not be empty or contain `=`"));
        }
        if bytes > MAX_WORDS_BYTES {
            return Err(Error::refused(
                "args",
                "command, arguments and environment are larger than 1 MiB together",
            ));
        }
        Ok(())
    }
}

impl Limits {
    fn validate(&self) -> Result<(), Error> {
        let faults = [
            ("resources.cpuMillis", self.cpu_millis, 10),
            ("resources.memoryBytes", self.memory_bytes, 6 << 20),
            ("resources.pids", self.pids, 4),
            ("resources.tmpfsBytes", self.tmpfs_bytes, 4096),
        ];
        for (field, given, least) in faults {
            if given.is_some_and(|given| given < least) {
                return Err(Error::refused(field, format!("must be at least {least}")));
            }
            if given.is_some_and(|given| given > MOST) {
                return Err(Error::refused(field, "is too large"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_by_the_name_of_its_field() {
        let fine = || Spec { image: "i".to_owned(), command: Some("c".to_owned()), ..Spec::default() };
        fine().validate().expect("it makes sense");
        type Break = fn(&mut Spec);
        let cases: &[(&str, Break)] = &[
            ("image", |s| s.image = "a b".to_owned()),
            ("command", |s| s.command = Some(String::new())),
            ("args", |s| s.args = vec!["a\0b".to_owned()]),
            ("args", |s| s.args = vec!["x".repeat(MAX_WORDS_BYTES)]),
            ("env", |s| drop(s.env.insert("A=B".to_owned(), String::new()))),
            ("env", |s| drop(s.env.insert("A".to_owned(), "\0".to_owned()))),
            ("secrets", |s| drop(s.secrets.insert("../x".to_owned(), Secret::new("")))),
            ("secrets", |s| drop(s.secrets.insert(String::new(), Secret::new("")))),
            ("cwd", |s| s.cwd = Some("here".to_owned())),
            ("user", |s| s.user = Some(User { uid: 0, gid: 1 })),
            ("agentId", |s| s.agent = Some(Agent { id: String::new(), limits: Limits::default() })),
            ("resources.memoryBytes", |s| s.limits.memory_bytes = Some(0)),
            ("resources.cpuMillis", |s| s.limits.cpu_millis = Some(0)),
            ("resources.pids", |s| s.limits.pids = Some(u64::MAX)),
        ];
        for (field, spoil) in cases {
            let mut spec = fine();
            spoil(&mut spec);
            let error = spec.validate().expect_err(field).to_string();
            assert!(error.starts_with(&format!("{field}: ")), "{field}: {error}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let mut spec = Spec::default();
        spec.secrets.insert("key".to_owned(), Secret::new("hidden"));
        assert!(!format!("{spec:?}").contains("hidden"));
    }
}
