use std::collections::BTreeMap;

use proptest::prelude::*;
use skyclaw_proto::JobId;

use super::*;
use crate::queue::tests::job;

#[derive(Debug, Clone)]
enum Step {
    /// A job with a key and limit, of a priority, that asks for something.
    Enter(usize, u32, u8, Capabilities),
    /// One that waits does so no more, and perhaps runs.
    Leave(usize, bool),
    /// One of a key runs no more.
    End(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let capabilities = prop::collection::vec("[a-d]", 0..2).prop_map(Capabilities::new);
    prop::collection::vec(
        prop_oneof![
            4 => (0..2_usize, 1..3_u32, 0..2_u8, capabilities).prop_map(|(k, l, p, c)| Step::Enter(k, l, p, c)),
            3 => (any::<usize>(), any::<bool>()).prop_map(|(n, runs)| Step::Leave(n, runs)),
            2 => (0..2_usize).prop_map(Step::End),
        ],
        0..80,
    )
}

#[derive(Default)]
struct Tried {
    lanes: Lanes,
    queue: Queue,
    waiting: Vec<(Turn, Job)>,
    running: [u32; 2],
}

fn key(n: usize) -> OwnedKey {
    OwnedKey::new(&format!("k{n}").into(), None)
}

impl Tried {
    fn step(&mut self, seq: u64, step: Step) {
        let Self { lanes, queue, waiting, running } = self;
        match step {
            Step::Enter(k, limit, priority, required) => {
                let (turn, job) = (Turn { key: key(k), limit }, job(seq, priority, required));
                lanes.enter(queue, &turn, &job);
                waiting.push((turn, job));
            }
            Step::Leave(n, runs) if !waiting.is_empty() => {
                let (turn, job) = waiting.swap_remove(n % waiting.len());
                lanes.leave(queue, &turn, &job);
                if runs {
                    lanes.begin(queue, &turn.key);
                    running[usize::from(turn.key == key(1))] += 1;
                }
            }
            Step::End(k) if running[k] > 0 => {
                running[k] -= 1;
                lanes.end(queue, &key(k));
            }
            Step::Leave(..) | Step::End(_) => {}
        }
    }

    /// Whom a claim may find: the first of each lane whose key has room.
    fn found(&self) -> BTreeMap<JobId, (Turn, Capabilities)> {
        let mut firsts: BTreeMap<(Turn, Kind), &Job> = BTreeMap::new();
        for (turn, job) in &self.waiting {
            if self.running[usize::from(turn.key == key(1))] < turn.limit {
                let first = firsts.entry((turn.clone(), Kind::of(job))).or_insert(job);
                *first = std::cmp::min_by_key(*first, job, |job| Place::of(job));
            }
        }
        let found = firsts.into_iter().map(|((turn, kind), job)| (job.id.clone(), (turn, kind.required)));
        found.collect()
    }
}

proptest! {
    /// However many lanes there are with one key and limit, and however often that crosses what makes them many.
    #[test]
    fn the_first_of_each_open_lane_is_found_and_somebody_is_woken_for_it(steps in steps()) {
        let mut tried = Tried::default();
        for (seq, step) in steps.into_iter().enumerate() {
            let before = tried.found();
            tried.step(seq as u64, step);
            let found = tried.found();
            prop_assert_eq!(tried.queue.len(), found.len());
            let mut got = tried.queue.jobs();
            got.sort();
            prop_assert_eq!(got, found.keys().collect::<Vec<_>>());
            let woken: Vec<_> = tried.lanes.take_opened().collect();
            for (id, (turn, required)) in found.iter().filter(|(id, _)| !before.contains_key(*id)) {
                let is_told = woken.iter().any(|effect| match effect {
                    Effect::JobQueued { required: of } => of == required,
                    Effect::TurnCame { turn: of } => {
                        of == turn && tried.lanes.firsts(&tried.queue, of).any(|needs| needs == required)
                    }
                    _ => false,
                });
                prop_assert!(is_told, "nobody is woken for {}", id);
            }
        }
        for (turn, job) in std::mem::take(&mut tried.waiting) {
            tried.lanes.leave(&mut tried.queue, &turn, &job);
        }
        for (key, running) in [(key(0), tried.running[0]), (key(1), tried.running[1])] {
            for _ in 0..running {
                tried.lanes.end(&mut tried.queue, &key);
            }
        }
        prop_assert!(tried.lanes.keys.is_empty(), "nothing is kept of what is over");
        prop_assert_eq!(tried.queue.len(), 0);
    }
}

/// Asked for with each job that ends: as many looks as lanes would make that as dear as there are lanes.
#[test]
fn that_a_group_opened_is_told_without_a_look_at_its_lanes() {
    let mut tried = Tried::default();
    for seq in 0..100_u64 {
        let required = Capabilities::new([format!("pin-{seq}")]);
        tried.step(seq, Step::Enter(0, 1, 0, required));
    }
    let turn = Turn { key: key(0), limit: 1 };
    let opened = tried.lanes.keys[&turn.key].groups[&turn.limit].opened(&turn);
    assert_eq!(opened.size_hint(), (1, Some(1)));
    assert_eq!(opened.collect::<Vec<_>>(), [(turn, None)]);
}
