//! Why a program cannot start with the settings it was given.

use std::path::PathBuf;

/// A setting or file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value is not one of those allowed.
    #[error("{origin}: {value} is not allowed for `{key}`: must be {allowed}")]
    BadValue {
        /// The variable, flag or file it came from.
        origin: String,
        /// The key of the setting.
        key: &'static str,
        /// The value, or `<redacted>`.
        value: String,
        /// What would do.
        allowed: &'static str,
    },
    /// A setting without a default was given nowhere.
    #[error("`{key}` is not set: set {env}, or `{key}` in the configuration file")]
    Missing {
        /// The key of the setting.
        key: &'static str,
        /// Its variable.
        env: &'static str,
    },
    /// The file has a key nobody reads.
    #[error("{}: unknown key `{key}`{}", path.display(), nearest.map(|n| format!(" (did you mean `{n}`?)")).unwrap_or_default())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The known key that is most like it.
        nearest: Option<&'static str>,
    },
    /// The file is no TOML. The line itself is not shown: it may hold a secret.
    #[error("{}: line {line}: {fault}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong there.
        fault: String,
    },
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The configuration file that was asked for does not exist.
    #[error("the configuration file {} does not exist", path.display())]
    NoFile {
        /// The file.
        path: PathBuf,
    },
    /// A file that should hold a secret cannot be read.
    #[error("{origin}: cannot read the secret in {}", path.display())]
    SecretFile {
        /// The variable or file that names it.
        origin: String,
        /// The file with the secret.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file that should hold a secret is empty.
    #[error("{origin}: the secret file {} is empty", path.display())]
    EmptySecret {
        /// The variable or file that names it.
        origin: String,
        /// The file.
        path: PathBuf,
    },
    /// A secret was given both as a value and as a file.
    #[error("both {first} and {second} are set: keep one of them")]
    Twice {
        /// One of the two.
        first: String,
        /// The other.
        second: String,
    },
}
