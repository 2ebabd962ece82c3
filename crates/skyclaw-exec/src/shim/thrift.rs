//! Gives back the memory that only the start of a program needs.
//!
//! The shim is a small part of a large program. What the loader read of it to start is not needed again, yet
//! counts as resident as long as nobody takes it away. It is read from the file anew where it is needed.

use std::fs;
use std::time::{Duration, Instant};

use nix::libc;

/// A run that is over sooner is not worth the trouble.
const PATIENCE: Duration = Duration::from_millis(200);
/// How much later it is done once more: by then all that a run's keepers do has been done for a first time.
const AGAIN: Duration = Duration::from_secs(3);

/// When memory is given back.
#[derive(Debug)]
pub(super) struct Thrift {
    next: Option<Instant>,
    again: bool,
}

impl Thrift {
    /// A while from now.
    pub(super) fn new() -> Self {
        Self { next: Some(Instant::now() + PATIENCE), again: true }
    }

    /// How long it is until then; `None` when all was done.
    pub(super) fn left(&self) -> Option<Duration> {
        self.next.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Does it when it is time.
    pub(super) fn look_at_clock(&mut self) {
        if self.next.is_some_and(|at| at <= Instant::now()) {
            self.next = std::mem::take(&mut self.again).then(|| Instant::now() + AGAIN);
            give_back();
        }
    }
}

/// Gives back what of the program's files is in memory and can be read again.
fn give_back() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, end) in maps.lines().filter_map(range) {
        #[expect(unsafe_code, reason = "there is no safe wrapper")]
        // SAFETY: a private mapping of a file that was never written to: whoever reads it again finds what
        // was there.
        unsafe {
            libc::madvise(std::ptr::with_exposed_provenance_mut(start), end - start, libc::MADV_DONTNEED);
        }
    }
}

/// The addresses of a mapping that is certainly as it is in its file: code, and what lies before the code. What
/// lies behind it was written to by the loader, even where it is read-only now.
fn range(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, rights, offset) = (fields.next()?, fields.next()?, fields.next()?);
    let path = fields.nth(2)?;
    let before_code = rights == "r--p" && offset.trim_start_matches('0').is_empty();
    if !path.starts_with('/') || !(rights == "r-xp" || before_code) {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_in_its_file_is_given_back() {
        let maps = [
            ("1000-2000 r--p 00000000 fe:00 12 /usr/bin/x", Some((0x1000, 0x2000))),
            ("2000-5000 r-xp 00001000 fe:00 12 /usr/bin/x", Some((0x2000, 0x5000))),
            ("5000-6000 r--p 00004000 fe:00 12 /usr/bin/x", None),
            ("6000-7000 rw-p 00005000 fe:00 12 /usr/bin/x", None),
            ("7000-8000 r-xp 00000000 00:00 0 [vdso]", None),
            ("8000-9000 r--p 00000000 00:00 0", None),
        ];
        for (line, want) in maps {
            assert_eq!(range(line), want, "{line}");
        }
        give_back();
    }
}
