//! A disk in memory that knows what was made durable and can lose the rest, sector by sector and name by name.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

use crate::log::disk::{Disk, DiskFile};

const SECTOR: usize = 512;

/// How the machine or the process ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// The process is killed: the system keeps what it has, durable or not.
    Kill,
    /// The power goes: of what is not durable, any part may be lost.
    Power,
}

#[derive(Clone)]
pub(crate) struct SimDisk {
    sim: Arc<Mutex<Sim>>,
    /// Held while nothing may be synced.
    syncs: Arc<Mutex<()>>,
}

#[derive(Clone)]
struct Sim {
    files: Vec<SimFile>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Changes of names since the last sync of the directory; each is atomic.
    pending: Vec<Vec<(String, Option<usize>)>>,
    /// Operations until everything fails; none while the disk is well.
    fuse: Option<u64>,
    full: bool,
    /// How long a sync takes.
    sync_time: Duration,
}

#[derive(Clone, Default)]
struct SimFile {
    current: Vec<u8>,
    durable: Vec<u8>,
    /// What dirty sectors held since the last sync.
    dirty: BTreeMap<usize, Vec<Vec<u8>>>,
}

struct Handle {
    disk: SimDisk,
    file: usize,
}

impl SimDisk {
    pub(crate) fn new() -> Self {
        Self::of(Sim {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            fuse: None,
            full: false,
            sync_time: Duration::ZERO,
        })
    }

    fn of(sim: Sim) -> Self {
        Self { sim: Arc::new(Mutex::new(sim)), syncs: Arc::default() }
    }

    fn sim(&self) -> MutexGuard<'_, Sim> {
        self.sim.lock().expect("no panic")
    }

    /// Lets no sync end before what is returned is dropped.
    pub(crate) fn hold_syncs(&self) -> MutexGuard<'_, ()> {
        self.syncs.lock().expect("no panic")
    }

    /// Lets everything fail after so many operations.
    pub(crate) fn set_fuse(&self, operations: Option<u64>) {
        self.sim().fuse = operations;
    }

    pub(crate) fn blown(&self) -> bool {
        self.sim().fuse == Some(0)
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.sim().full = full;
    }

    pub(crate) fn set_sync_time(&self, time: Duration) {
        self.sim().sync_time = time;
    }

    /// Takes the disk away from whoever has it, whose operations fail from now on, and returns it as it is
    /// found after the machine or process has ended.
    pub(crate) fn taken_by(&self, end: End, rng: &mut StdRng) -> Self {
        let mut sim = self.sim();
        let left = Self::of(sim.clone());
        sim.fuse = Some(0);
        drop(sim);
        left.crash(end, rng);
        left
    }

    /// Ends the machine or process; the disk is well again afterwards.
    pub(crate) fn crash(&self, end: End, rng: &mut StdRng) {
        let mut sim = self.sim();
        sim.fuse = None;
        if let End::Kill = end {
            return;
        }
        // All lost, all kept, or each by itself: the extremes are likely in life and rare among coin tosses.
        let keep = [0.0, 1.0, 0.5, 0.9, 0.1][rng.random_range(0..5)];
        for file in &mut sim.files {
            file.lose(keep, rng);
        }
        let pending = std::mem::take(&mut sim.pending);
        for change in pending {
            if rng.random_bool(keep) {
                sim.durable_names = apply(std::mem::take(&mut sim.durable_names), change);
            }
        }
        sim.names = sim.durable_names.clone();
    }

    /// One operation: burns the fuse.
    fn operate(&self) -> io::Result<MutexGuard<'_, Sim>> {
        let mut sim = self.sim();
        match &mut sim.fuse {
            Some(0) => return Err(io::Error::other("the power is gone")),
            Some(left) => *left -= 1,
            None => {}
        }
        if sim.fuse == Some(0) { Err(io::Error::other("the power is gone")) } else { Ok(sim) }
    }
}

fn apply(
    mut names: BTreeMap<String, usize>,
    change: Vec<(String, Option<usize>)>,
) -> BTreeMap<String, usize> {
    for (name, file) in change {
        match file {
            Some(file) => names.insert(name, file),
            None => names.remove(&name),
        };
    }
    names
}

impl Sim {
    fn change(&mut self, change: Vec<(String, Option<usize>)>) {
        self.names = apply(std::mem::take(&mut self.names), change.clone());
        self.pending.push(change);
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl SimFile {
    fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        if self.current.len() < end {
            self.current.resize(end, 0);
        }
        self.current[offset..end].copy_from_slice(bytes);
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            let bytes = self.sector(sector);
            self.dirty.entry(sector).or_default().push(bytes);
        }
    }

    fn sector(&self, sector: usize) -> Vec<u8> {
        let end = self.current.len().min((sector + 1) * SECTOR);
        self.current[sector * SECTOR..end].to_vec()
    }

    /// Makes durable what was written since the last time.
    fn settle(&mut self) {
        let Self { current, durable, dirty } = self;
        durable.resize(current.len(), 0);
        for sector in std::mem::take(dirty).into_keys() {
            let end = current.len().min((sector + 1) * SECTOR);
            durable[sector * SECTOR..end].copy_from_slice(&current[sector * SECTOR..end]);
        }
    }

    fn lose(&mut self, keep: f64, rng: &mut StdRng) {
        let mut left = self.durable.clone();
        if rng.random_bool(keep) {
            left.resize(self.current.len(), 0);
        }
        for (sector, versions) in std::mem::take(&mut self.dirty) {
            let at = sector * SECTOR;
            if !rng.random_bool(keep) || at >= left.len() {
                continue;
            }
            // Mostly the newest, at times one that was written back before it was changed again.
            let nth =
                if rng.random_bool(0.7) { versions.len() - 1 } else { rng.random_range(0..versions.len()) };
            let length = versions[nth].len().min(left.len() - at);
            left[at..at + length].copy_from_slice(&versions[nth][..length]);
        }
        self.current.clone_from(&left);
        self.durable = left;
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.operate()?.names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.operate()?.find(name)?;
        Ok(Arc::new(Handle { disk: self.clone(), file }))
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut sim = self.operate()?;
        if sim.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = sim.files.len();
        let current = vec![0; usize::try_from(bytes).expect("a small file")];
        sim.files.push(SimFile { current, ..SimFile::default() });
        sim.change(vec![(name.to_owned(), Some(file))]);
        Ok(Arc::new(Handle { disk: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut sim = self.operate()?;
        let file = sim.find(from)?;
        sim.change(vec![(from.to_owned(), None), (to.to_owned(), Some(file))]);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut sim = self.operate()?;
        sim.find(name)?;
        sim.change(vec![(name.to_owned(), None)]);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut sim = self.operate()?;
        sim.pending.clear();
        sim.durable_names = sim.names.clone();
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("sim").join(name)
    }

    fn fresh_id(&self) -> u64 {
        0x5eed
    }

    fn release(&self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for Handle {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.operate()?.files[self.file].current.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let sim = self.disk.sim();
        let at = usize::try_from(offset).expect("a small file");
        let found = sim.files[self.file].current.get(at..at + bytes.len());
        bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let at = usize::try_from(offset).expect("a small file");
        let was_well = !self.disk.blown();
        match self.disk.operate() {
            Ok(mut sim) => {
                sim.files[self.file].write(bytes, at);
                Ok(())
            }
            Err(error) => {
                // The write that the end falls into may be done in part.
                if was_well {
                    let mut sim = self.disk.sim();
                    sim.files[self.file].write(&bytes[..bytes.len() / 2], at);
                }
                Err(error)
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        drop(self.disk.hold_syncs());
        let sync_time = self.disk.sim().sync_time;
        if !sync_time.is_zero() {
            std::thread::sleep(sync_time);
        }
        let mut sim = self.disk.operate()?;
        sim.files[self.file].settle();
        Ok(())
    }
}
