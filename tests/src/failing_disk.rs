//! A disk whose writes can be made to fail, as those of a dying one: a compressed block device in memory
//! (zram) with a file system. With no memory granted, the kernel answers writes with an I/O error.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::net_ns::find;

const CONTROL: &str = "/sys/class/zram-control";

/// A mounted disk of its own. Unmounted and removed when this is dropped.
#[derive(Debug)]
pub struct FailingDisk {
    number: String,
    dir: tempfile::TempDir,
}

impl FailingDisk {
    /// Makes one of `bytes`. Only root can.
    ///
    /// # Panics
    /// When the kernel has no such devices, or refuses.
    #[must_use]
    pub fn mount(bytes: u64) -> Self {
        if !Path::new(CONTROL).is_dir() {
            // Part of some kernels, a module of others.
            let _ = Command::new(find("modprobe")).arg("zram").status();
        }
        let number = fs::read_to_string(format!("{CONTROL}/hot_add"))
            .expect("zram devices; the tests of failing disks need root and a kernel that has them");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let disk = Self { number: number.trim().to_owned(), dir };
        disk.set("disksize", &bytes.to_string());
        // Made without a journal, which would make the whole of it read-only after a failure: so it is a
        // disk that fails for a while.
        let mut format = Command::new(find("mkfs.ext4"));
        format.args(["-q", "-F", "-E", "nodiscard", "-O", "^has_journal"]).arg(disk.device());
        let formatted = format.output().expect("mkfs.ext4 starts");
        assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
        mount(Some(&disk.device()), disk.path(), Some("ext4"), MsFlags::empty(), None::<&str>)
            .expect("the disk can be mounted");
        disk
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// From now on every write to the device fails. What is there can be read.
    pub fn fail(&self) {
        self.set("mem_limit", "1");
    }

    /// From now on writes work again.
    pub fn heal(&self) {
        self.set("mem_limit", "0");
    }

    fn device(&self) -> PathBuf {
        PathBuf::from(format!("/dev/zram{}", self.number))
    }

    fn set(&self, what: &str, value: &str) {
        let path = format!("/sys/block/zram{}/{what}", self.number);
        fs::write(&path, value).unwrap_or_else(|e| panic!("{path}: {e}"));
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        let _ = umount2(self.path(), MntFlags::empty());
        if fs::write(format!("{CONTROL}/hot_remove"), &self.number).is_err() {
            // Somebody still holds it open.
            let _ = umount2(self.path(), MntFlags::MNT_DETACH);
        }
    }
}
