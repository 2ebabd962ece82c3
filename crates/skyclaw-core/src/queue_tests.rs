use std::sync::Arc;

use proptest::prelude::*;
use skyclaw_proto::{NodeId, Payload, ShellPayload, Timestamp};

use super::*;
use crate::model::Phase;

fn job(seq: u64, priority: u8, required: Capabilities) -> Job {
    Job {
        id: JobId::parse(&format!("job_{seq}")).expect("an id"),
        seq,
        created_at: Timestamp::default(),
        updated_at: Timestamp::default(),
        updated_by: NodeId::parse("n").expect("an id"),
        version: 1,
        attempts: 0,
        priority,
        required,
        payload: Arc::new(Payload::Shell(ShellPayload::default())),
        labels: Default::default(),
        submitted_by: None,
        fence: 0,
        terms: None,
        life: None,
        bonds: None,
        history: None,
        phase: Phase::Queued,
    }
}

fn caps() -> impl Strategy<Value = Capabilities> {
    prop::collection::vec("[a-e]", 0..4).prop_map(Capabilities::new)
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u8, Capabilities),
    Take(Capabilities),
    /// Takes a job out and puts it back some time later, as when its lease runs out.
    Lend(usize),
    Return,
    RemoveNth(usize),
    DropEmpty,
    DropViews,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        prop_oneof![
            5 => (0u8..3, caps()).prop_map(|(p, c)| Step::Insert(p, c)),
            5 => caps().prop_map(Step::Take),
            2 => any::<usize>().prop_map(Step::Lend),
            2 => Just(Step::Return),
            1 => any::<usize>().prop_map(Step::RemoveNth),
            1 => Just(Step::DropEmpty),
            1 => Just(Step::DropViews),
        ],
        0..80,
    )
}

/// A view knows one place of each bucket with jobs that it covers, and never one behind the first job.
fn assert_views_are_true(queue: &Queue) {
    for (id, view) in &queue.views {
        let pairs = view.place_of.iter().map(|(bucket, place)| (*place, *bucket)).collect();
        assert_eq!(view.heads, pairs);
        for (bucket_id, bucket) in &queue.buckets {
            let is_covered = view.set.covers(&bucket.kind.required);
            assert_eq!(bucket.views.contains(id), is_covered);
            let known = view.place_of.get(bucket_id).copied();
            assert_eq!(bucket.unaware.contains(id), is_covered && known.is_none());
            assert!(known.is_none() || known <= bucket.latest_known);
            if let (true, Some(head)) = (is_covered, bucket.head()) {
                assert!(known.is_some_and(|known| known <= head));
            }
        }
        assert!(view.place_of.keys().all(|bucket| queue.buckets.contains_key(bucket)));
    }
}

proptest! {
    #[test]
    fn the_first_job_is_what_a_search_through_all_would_find(steps in steps()) {
        let mut queue = Queue::default();
        let (mut all, mut lent): (Vec<Job>, Vec<Job>) = (Vec::new(), Vec::new());
        for (seq, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert(priority, required) => {
                    let job = job(seq as u64, priority, required);
                    queue.insert(&job);
                    all.push(job);
                }
                Step::Take(have) => {
                    let want = all
                        .iter()
                        .filter(|j| have.covers(&j.required))
                        .min_by_key(|j| (Reverse(j.priority), j.seq))
                        .map(|j| j.id.clone());
                    prop_assert_eq!(queue.first(&have), want.as_ref());
                    if let Some(i) = all.iter().position(|j| Some(&j.id) == want.as_ref()) {
                        queue.remove(&all.swap_remove(i));
                    }
                }
                Step::Lend(n) if !all.is_empty() => {
                    let n = n % all.len();
                    lent.push(all.swap_remove(n));
                    queue.remove(&lent[lent.len() - 1]);
                }
                Step::Return => all.extend(lent.pop().inspect(|job| queue.insert(job))),
                Step::RemoveNth(n) if !all.is_empty() => {
                    let n = n % all.len();
                    queue.remove(&all.swap_remove(n));
                }
                Step::Lend(_) | Step::RemoveNth(_) => {}
                Step::DropEmpty => queue.drop_empty_buckets(),
                Step::DropViews => queue.drop_idle_views(),
            }
            prop_assert_eq!(queue.len(), all.len());
            assert_views_are_true(&queue);
        }
    }
}

#[test]
fn removing_what_is_not_there_changes_nothing() {
    let mut queue = Queue::default();
    let absent = job(1, 50, Capabilities::new(["a"]));
    queue.remove(&absent);
    queue.insert(&absent);
    queue.remove(&absent);
    queue.remove(&absent);
    assert_eq!(queue.len(), 0);
}

#[test]
fn hosts_that_differ_in_what_nobody_asks_for_share_a_view() {
    let mut queue = Queue::default();
    queue.insert(&job(1, 50, Capabilities::new(["shell"])));
    for i in 0..100 {
        let host = Capabilities::new(["shell".to_owned(), format!("host-{i}")]);
        assert!(queue.first(&host).is_some());
    }
    assert_eq!(queue.views.len(), 1);
}

#[test]
fn unique_requirements_do_not_pile_up() {
    let mut queue = Queue::default();
    for seq in 0..20_000 {
        let job = job(seq, 50, Capabilities::new([format!("only-{seq}")]));
        queue.insert(&job);
        queue.remove(&job);
    }
    assert!(queue.buckets.len() < 2 * SPARE_BUCKETS + 2, "{} buckets", queue.buckets.len());
    assert_eq!(queue.asked.len(), queue.buckets.len());
}
