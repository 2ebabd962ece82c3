//! Takes away what a run mounted in its own directories.
//!
//! A run of root may mount what it likes, and a directory of it may be the root of the whole machine by then:
//! who removes the run's files must never walk into that.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};

/// Detaches all that is mounted below `dir`. The processes that could mount more must be gone.
///
/// # Errors
/// When something stays mounted there, or nobody can tell.
pub(crate) fn below(dir: &Path) -> io::Result<()> {
    let dir = dir.canonicalize()?;
    // The latest first: what lies on others, or in others, goes before them.
    for point in mounted(&dir)?.iter().rev() {
        tracing::warn!(path = %point.display(), "a run has left a mount; it is taken away");
        umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    match mounted(&dir)?.first() {
        None => Ok(()),
        Some(point) => Err(io::Error::other(format!("{} stays mounted", point.display()))),
    }
}

fn mounted(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut points = parse(&fs::read("/proc/self/mountinfo")?);
    points.retain(|point| point.starts_with(dir) && point != dir);
    Ok(points)
}

/// The mount points of `/proc/self/mountinfo`: its fifth word, in which four characters are written in octal.
fn parse(mountinfo: &[u8]) -> Vec<PathBuf> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    let points = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    points.map(|point| PathBuf::from(OsString::from_vec(unescaped(point)))).collect()
}

fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| first == b'\\');
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = &after[3..];
            }
            None => {
                plain.push(first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::mount::{MsFlags, mount};

    #[test]
    fn mount_points_are_read_whatever_their_names_hold() {
        let info = b"36 35 98:0 / /a rw - ext4 /dev/x rw\n37 36 0:1 /x /a\\040b\\134c\\012 rw shared:1 - tmpfs t rw\nodd\n";
        assert_eq!(
            parse(info),
            [PathBuf::from("/a"), PathBuf::from(OsString::from_vec(b"/a b\\c\n".to_vec()))]
        );
        assert_eq!(unescaped(b"a\\9x\\04"), b"a\\9x\\04");
    }

    #[test]
    fn all_that_is_mounted_below_is_detached_and_what_it_showed_stays_as_it_is() {
        let base = tempfile::tempdir().expect("temp dir");
        let (precious, dir) = (base.path().join("precious"), base.path().join("dir"));
        let (one, other) = (dir.join("one"), dir.join("with blank"));
        for made in [&precious, &dir, &one, &other] {
            fs::create_dir(made).expect("mkdir");
        }
        fs::write(precious.join("file"), "x").expect("write");
        let bind = |from: &Path, to: &Path| {
            mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("root can mount");
        };
        bind(&precious, &one);
        bind(&precious, &other);
        bind(&precious, &other);
        below(&dir).expect("all is taken away");
        assert!(fs::read_dir(&one).expect("list").next().is_none());
        assert!(fs::read_dir(&other).expect("list").next().is_none());
        assert!(precious.join("file").exists());
        below(&dir).expect("nothing is there");
    }
}
