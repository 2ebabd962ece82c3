//! A wall clock of a process's own, that can jump while the process runs (libfaketime). The monotonic
//! clock is left alone, as the system does when somebody sets the time.

use std::fs;
use std::path::Path;

use crate::coordinator::Options;

/// Where Debian has it, and where others have it.
const LIBRARIES: &[&str] = &[
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// The clock of one process, or of several.
#[derive(Debug)]
pub struct FakeClock {
    dir: tempfile::TempDir,
}

impl FakeClock {
    /// One that is right.
    ///
    /// # Panics
    /// When there is no room for its file.
    #[must_use]
    pub fn new() -> Self {
        let clock = Self { dir: tempfile::tempdir().expect("a temporary directory") };
        clock.jump(0);
        clock
    }

    /// Moves it to so many seconds from the right time.
    ///
    /// # Panics
    /// When its file cannot be written.
    pub fn jump(&self, seconds: i64) {
        let [new, file] = ["new", "offset"].map(|name| self.dir.path().join(name));
        // In one step, as it is read at any time.
        fs::write(&new, format!("{seconds:+}\n")).expect("the clock can be set");
        fs::rename(new, file).expect("the clock can be set");
    }

    /// A coordinator that goes by this clock.
    ///
    /// # Panics
    /// When the library is missing.
    #[must_use]
    pub fn given_to(&self, options: Options) -> Options {
        let library = LIBRARIES.iter().find(|path| Path::new(path).is_file());
        let library = library.expect("libfaketime: tests/run.sh installs what the tests need");
        options
            .env("LD_PRELOAD", *library)
            .env("FAKETIME_TIMESTAMP_FILE", self.dir.path().join("offset").display().to_string())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1")
    }
}

impl Default for FakeClock {
    fn default() -> Self {
        Self::new()
    }
}
