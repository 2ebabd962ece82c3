//! The few file operations that the log needs, behind a trait so that tests can take the power away between
//! any two of them.
//!
//! What implementations promise: bytes written are durable after [`DiskFile::sync`]; names made, changed or
//! removed are durable after [`Disk::sync_dir`]; before that, any part of either may be lost.

use std::fs::{DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

/// Bytes written at once when a file is filled with zeros.
const ZEROS: usize = 1 << 20;

/// One directory of files.
pub(crate) trait Disk: Send + Sync {
    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// An existing file, to read and write.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// A new file in place of any of that name, with `bytes` of space taken for it where the file system can.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    fn sync_dir(&self) -> io::Result<()>;
    /// Where a file is, for people.
    fn path(&self, name: &str) -> PathBuf;
    /// A number that no other log has.
    fn fresh_id(&self) -> u64;
    /// Lets others have the directory.
    fn release(&self) -> io::Result<()>;
}

/// An open file. Reads and writes are whole or an error.
pub(crate) trait DiskFile: Send + Sync {
    fn size(&self) -> io::Result<u64>;
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the bytes durable, and of the metadata what is needed to read them back.
    fn sync(&self) -> io::Result<()>;
}

/// Writes zeros over `from..to` and makes them durable.
pub(super) fn zero_fill(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS.min(usize::try_from(to.saturating_sub(from)).unwrap_or(ZEROS))];
    let mut at = from;
    while at < to {
        let part = usize::try_from(to - at).unwrap_or(ZEROS).min(zeros.len());
        file.write_at(&zeros[..part], at)?;
        at += part as u64;
    }
    file.sync()
}

/// All bytes of a file.
pub(super) fn read_all(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let size = usize::try_from(file.size()?).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let mut bytes = vec![0; size];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// A directory of the file system, locked against other processes until it is released or dropped.
pub(super) struct Directory {
    path: PathBuf,
    handle: File,
}

impl Directory {
    /// Makes the directory if need be (0700) and locks it.
    ///
    /// # Errors
    /// `WouldBlock` when another process holds it, else what the file system says.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if !path.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                File::open(parent)?.sync_all()?;
            }
        }
        let handle = File::open(path)?;
        handle.try_lock().map_err(io::Error::from)?;
        Ok(Self { path: path.to_owned(), handle })
    }
}

impl Disk for Directory {
    fn list(&self) -> io::Result<Vec<String>> {
        // Our names are ASCII; what is not UTF-8 is none of ours.
        let entries = std::fs::read_dir(&self.path)?;
        entries
            .filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose())
            .collect()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(self.path.join(name))?))
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut how = OpenOptions::new();
        how.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = how.open(self.path.join(name))?;
        // Only to learn early, and in one step, whether there is room; the zeros are written all the same.
        match fallocate(&file, FallocateFlags::empty(), 0, i64::try_from(bytes).unwrap_or(i64::MAX)) {
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(Arc::new(file)),
            Err(errno) => Err(errno.into()),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn fresh_id(&self) -> u64 {
        // The keys of a new state are random; the hash of nothing under them is as good as a drawn number.
        std::hash::RandomState::new().build_hasher().finish()
    }

    fn release(&self) -> io::Result<()> {
        self.handle.unlock()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Closing alone would leave the lock to a child process that is being started at this moment.
        let _ = self.handle.unlock();
    }
}

impl DiskFile for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
