//! The wall clock of one node jumps by an hour, forth and back: no lease ends earlier for it, none is
//! given to two, and in no record does time run back.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use skyclaw_tests::fake_clock::FakeClock;
use skyclaw_tests::mesh::id;
use skyclaw_tests::{Plan, Value, Wire, json, outside};

use super::load::{CLIENTS, with_leases, withstand};
use super::state;

const HOUR: i64 = 3600;

#[test]
fn a_clock_that_jumps_neither_ends_leases_nor_turns_records_back() {
    let mut rng = StdRng::seed_from_u64(outside::seed(rand::random()));
    let clock = FakeClock::new();
    let jumps = |i, options| if i == 1 { clock.given_to(options) } else { options };
    let cluster = with_leases(Plan::on_loopback(3)).each(jumps).start();
    let wires = cluster.wires();
    let histories = Histories::default();
    withstand(cluster, CLIENTS, &mut rng, |cluster, rng| {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watching = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    for wire in &wires {
                        histories.see(wire);
                    }
                }
            });
            for leader in [1, 0] {
                cluster.transfer(leader);
                for offset in [HOUR, 0, -HOUR, 0] {
                    clock.jump(offset);
                    last(rng, 500..2_000);
                }
            }
            clock.jump(-HOUR);
            // Who comes next goes by it.
            cluster.transfer(1);
            last(rng, 500..1_500);
            cluster.transfer(2);
            clock.jump(0);
            over.store(true, Ordering::Relaxed);
            watching.join().expect("the watch");
        });
    });
    histories.check();
}

/// Every version of every record that was seen, with its times.
#[derive(Debug, Default)]
struct Histories(Mutex<BTreeMap<String, BTreeMap<u64, Times>>>);

/// When a record was made and when it was changed.
type Times = (String, String);

impl Histories {
    fn see(&self, wire: &Wire) {
        let Some(state) = state(wire) else { return };
        let mut histories = self.0.lock().expect("the histories");
        for job in state["jobs"].as_array().into_iter().flatten() {
            let text = |field: &str| job[field].as_str().expect("a time").to_owned();
            let version = job["version"].as_u64().expect("a version");
            let times = (text("createdAt"), text("updatedAt"));
            let before = histories.entry(id(job)).or_default().insert(version, times.clone());
            assert!(before.is_none_or(|before| before == times), "two records of one version: {job}");
        }
    }

    fn check(self) {
        let histories = self.0.into_inner().expect("the histories");
        let changed = histories.values().filter(|versions| versions.len() > 1).count();
        println!("{} jobs seen, {changed} of them in more than one version", histories.len());
        assert!(changed > 0, "no change was seen");
        let (mut all, mut apart) = (Vec::new(), 0);
        for (job, versions) in &histories {
            for times in versions.values() {
                assert!(times.0 <= times.1, "{job} was changed before it was made: {versions:?}");
                all.push(json!(times.0));
            }
            let updates: Vec<&String> = versions.values().map(|times| &times.1).collect();
            assert!(updates.is_sorted(), "time runs back in {job}: {versions:?}");
            apart += usize::from(versions.values().any(|times| times.0[..13] != times.1[..13]));
        }
        // Otherwise no clock has jumped at all.
        assert!(hours(&all) > 1, "all is of the same hour, {apart} jobs aside");
    }
}

fn hours(times: &[Value]) -> usize {
    let hours = times.iter().filter_map(|time| time.as_str()?.get(..13));
    hours.collect::<std::collections::BTreeSet<_>>().len()
}

/// Not to wait for anything: this is how long a state of things lasts.
fn last(rng: &mut StdRng, ms: Range<u64>) {
    std::thread::sleep(Duration::from_millis(rng.random_range(ms)));
}
