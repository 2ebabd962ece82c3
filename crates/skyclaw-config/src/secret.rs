//! Values that must not be shown.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use crate::field::{Field, Raw};

/// A secret text. Its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Keeps a text secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// For libraries that take a [`SecretString`].
    #[must_use]
    pub fn into_inner(self) -> SecretString {
        self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Field for Secret {
    const ALLOWED: &'static str = "a text that is not blank";
    const SECRET: bool = true;
    fn read(raw: Raw<'_>) -> Option<Self> {
        raw.text().map(Self::new)
    }
    fn write(&self) -> Option<toml::Value> {
        None
    }
}

/// A secret from a file, without the white space around it, and whether others than its owner and
/// group may read that file. The group may: that is how systemd and packages hand secrets to a user.
pub(crate) fn read_file(path: &Path) -> io::Result<(String, bool)> {
    let text = fs::read_to_string(path)?;
    let exposed = fs::metadata(path)?.permissions().mode() & 0o007 != 0;
    Ok((text.trim().to_owned(), exposed))
}
