//! Whatever is lost in a crash, the log is what it was after some request: after the last acknowledged one or one
//! that came later, never anything between, before or beside.

use std::sync::Mutex;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::log::sim_disk::{End, SimDisk};

/// How many seeds are run. Each is a life of a log with several crashes.
const SEEDS: u64 = 4000;
const STEPS: usize = 60;

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    first: u64,
    entries: Vec<Bytes>,
    purged: Option<Mark>,
    vote: Option<Bytes>,
}

/// A life of a log and the model beside it.
struct Life {
    rng: StdRng,
    disk: SimDisk,
    parts: Parts,
    /// What the log held after each request since the last start, records one by one; the last is what it holds.
    states: Vec<Model>,
    /// The newest state whose request was acknowledged.
    acknowledged: Arc<Mutex<usize>>,
    drawn: u64,
}

impl Model {
    fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    fn of(shared: &Shared, log: u64) -> Self {
        let state = shared.lock();
        let (range, purged, vote) =
            (state.index.first()..state.index.next(), state.index.purged().cloned(), state.vote.clone());
        let plan = Plan::new(&state, range.clone(), usize::MAX).expect("the range is there");
        drop(state);
        let entries = plan.carry_out(shared, log).expect("all entries can be read");
        assert!(entries.iter().map(|entry| entry.index).eq(range.clone()));
        Self {
            first: range.start,
            entries: entries.into_iter().map(|entry| entry.payload).collect(),
            purged,
            vote,
        }
    }
}

impl Life {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::new();
        let parts = Parts::open(Arc::new(disk.clone()), SMALL, None).expect("a new log");
        let rng = StdRng::seed_from_u64(seed);
        let states = vec![Model::default()];
        Self { rng, disk, parts, states, acknowledged: Arc::default(), drawn: 0 }
    }

    fn now(&self) -> &Model {
        self.states.last().expect("there is always one")
    }

    fn bytes(&mut self, longest: usize) -> Bytes {
        self.drawn += 1;
        let mut bytes = self.drawn.to_le_bytes().to_vec();
        bytes.resize(self.rng.random_range(8..=longest), self.drawn.to_le_bytes()[0]);
        bytes.into()
    }

    /// A callback that takes note of the success of the request whose state is the last one then.
    fn done(&self) -> impl FnOnce(usize) -> Done + use<> {
        let acknowledged = self.acknowledged.clone();
        move |state| {
            Box::new(move |result| {
                if result.is_ok() {
                    let mut acknowledged = acknowledged.lock().expect("no panic");
                    *acknowledged = state.max(*acknowledged);
                }
            })
        }
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..35 => self.append(),
            35..42 => self.truncate(),
            42..48 => self.purge(),
            48..53 => self.save(),
            53..75 => self.turn(),
            75..85 => drop(self.parts.preparer.turn()),
            85..90 => self.check_read(),
            90..92 => self.restart(),
            92..94 => {
                let full = self.rng.random_bool(0.5);
                self.disk.set_full(full);
            }
            _ => {
                let operations = self.rng.random_range(1..20);
                self.disk.set_fuse(Some(operations));
            }
        }
        // Again and again, for the power may go while the log is being opened.
        while self.disk.blown() {
            self.crash();
        }
    }

    fn append(&mut self) {
        let mut after = self.now().clone();
        let mut records = Vec::new();
        let mut states = Vec::new();
        let longest = [40, 40, 300, 1024][self.rng.random_range(0..4)];
        for _ in 0..self.rng.random_range(0..5) {
            let payload = self.bytes(longest);
            records.push(record(after.next(), payload.clone()));
            after.entries.push(payload);
            states.push(after.clone());
        }
        let cost: u64 = records.iter().map(|record| Log::cost(record.payload.len())).sum();
        let fits = cost <= self.parts.shared.lock().room();
        let last = self.states.len() - 1 + states.len();
        let refused = Arc::new(Mutex::new(None));
        let (note, done) = (refused.clone(), self.done()(last));
        let tell = move |result: io::Result<()>| {
            *note.lock().expect("no panic") = result.as_ref().err().map(io::Error::kind);
            done(result);
        };
        self.parts.shared.append(records, Box::new(tell));
        let refused = refused.lock().expect("no panic").take();
        match refused {
            None => self.states.extend(states),
            Some(kind) => assert!(kind == io::ErrorKind::StorageFull && !fits, "{kind:?} with room"),
        }
    }

    fn truncate(&mut self) {
        let mut after = self.now().clone();
        let index = self.rng.random_range(after.first..=after.next());
        after.entries.truncate(usize::try_from(index - after.first).expect("small"));
        self.request(after, |shared, done| shared.truncate(index, done));
    }

    fn purge(&mut self) {
        let mut after = self.now().clone();
        let index = self.rng.random_range(0..after.next() + 2);
        let mark = Mark { index, bytes: self.bytes(100) };
        if index >= after.first {
            let gone = usize::try_from(index + 1 - after.first).expect("small").min(after.entries.len());
            after.entries.drain(..gone);
            after.first = index + 1;
            after.purged = Some(mark.clone());
        }
        self.request(after, |shared, done| shared.purge(mark, done));
    }

    fn save(&mut self) {
        let mut after = self.now().clone();
        let value = self.bytes(60);
        let cell = if self.rng.random_bool(0.5) { Cell::Vote } else { Cell::Committed };
        if cell == Cell::Vote {
            after.vote = Some(value.clone());
        }
        self.request(after, |shared, done| shared.save(cell, value, done));
    }

    /// A request that is only ever refused when the reserve is used up.
    fn request(&mut self, after: Model, start: impl FnOnce(&Shared, Done)) {
        let refused = Arc::new(Mutex::new(false));
        let (note, done) = (refused.clone(), self.done()(self.states.len()));
        start(
            &self.parts.shared,
            Box::new(move |result| {
                *note.lock().expect("no panic") =
                    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull);
                done(result);
            }),
        );
        if !*refused.lock().expect("no panic") {
            self.states.push(after);
        }
    }

    fn turn(&mut self) {
        let batch = self.parts.shared.take();
        self.parts.writer.turn(batch);
    }

    fn check_read(&mut self) {
        let found = Model::of(&self.parts.shared, self.parts.log);
        assert_eq!(&found, self.now(), "what was asked for can be read at once");
    }

    /// Closes the log and opens it again: nothing may be missing.
    fn restart(&mut self) {
        self.turn();
        if self.disk.blown() {
            return;
        }
        let disk = self.disk.clone();
        let fresh = || Parts::open(Arc::new(SimDisk::new()), SMALL, None).expect("a new log");
        let parts = std::mem::replace(&mut self.parts, fresh());
        let closed = parts.writer.close();
        if disk.blown() {
            return;
        }
        closed.expect("the disk is well");
        let before = self.now().clone();
        self.open(None);
        if !self.disk.blown() {
            assert_eq!(&before, self.now(), "a clean restart loses nothing");
            assert_eq!(self.parts.recovered.cut_bytes, 0, "a clean end has nothing torn");
        }
    }

    fn crash(&mut self) {
        let end = if self.rng.random_bool(0.3) { End::Kill } else { End::Power };
        self.disk.crash(end, &mut self.rng);
        let known = *self.acknowledged.lock().expect("no panic");
        let certain = self.states[known..].iter().map(Model::next).min().and_then(|next| next.checked_sub(1));
        if self.rng.random_bool(0.3) {
            let operations = self.rng.random_range(1..30);
            self.disk.set_fuse(Some(operations));
        }
        self.open(certain);
    }

    fn open(&mut self, must_reach: Option<u64>) {
        match Parts::open(Arc::new(self.disk.clone()), SMALL, must_reach) {
            Ok(parts) => {
                self.parts = parts;
                let found = Model::of(&self.parts.shared, self.parts.log);
                let known = *self.acknowledged.lock().expect("no panic");
                let possible = &self.states[known..];
                assert!(possible.contains(&found), "{found:#?}\nis none of\n{possible:#?}");
                self.states = vec![found];
                self.acknowledged = Arc::default();
            }
            Err(error) => assert!(self.disk.blown(), "the log cannot be opened: {error}"),
        }
    }
}

/// Prints the seed of a life that ends in a panic.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("failed with seed {}", self.0);
        }
    }
}

#[test]
fn after_any_crash_the_log_is_what_it_was_after_a_request_not_before_the_last_acknowledged() {
    for seed in 0..SEEDS {
        let _seed = Seed(seed);
        let mut life = Life::new(seed);
        for _ in 0..STEPS {
            life.step();
        }
    }
}

#[test]
fn a_spare_whose_name_was_not_durable_when_the_process_died_is_made_so_before_it_is_used() {
    let disk = SimDisk::new();
    let mut rng = StdRng::seed_from_u64(0);
    let parts = Parts::open(Arc::new(disk.clone()), SMALL, None).expect("a new log");
    // Create, four operations of filling, rename: the sync of the directory is what fails.
    let spares = || parts.shared.lock().spares.len();
    let named =
        |disk: &SimDisk| disk.list().expect("well").iter().filter(|name| name.ends_with(".segment")).count();
    let mut operations = 1;
    while named(&disk) == 1 {
        disk.set_fuse(Some(operations));
        parts.preparer.turn().expect_err("the fuse is short");
        disk.crash(End::Kill, &mut rng);
        operations += 1;
    }
    assert_eq!(spares(), 1, "the second spare has its name and is not announced");

    let mut parts = Parts::open(Arc::new(disk.clone()), SMALL, None).expect("a sound log");
    let records: Vec<_> = (0..6).map(|index| record(index, vec![7; 1000])).collect();
    let kept = Arc::new(Mutex::new(None));
    let told = kept.clone();
    let done = move |result: io::Result<()>| *told.lock().expect("no panic") = Some(result.is_ok());
    parts.shared.append(records, Box::new(done));
    let batch = parts.shared.take();
    parts.writer.turn(batch);
    assert_eq!(*kept.lock().expect("no panic"), Some(true));
    for _ in 0..10 {
        disk.crash(End::Power, &mut rng);
    }
    let parts = Parts::open(Arc::new(disk), SMALL, Some(5)).expect("a sound log");
    assert_eq!(parts.recovered.last, Some(5));
}
