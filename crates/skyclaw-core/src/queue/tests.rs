use std::sync::Arc;

use proptest::prelude::*;
use skyclaw_proto::{NodeId, Payload, ShellPayload, Timestamp};

use super::*;
use crate::model::Phase;

pub(crate) fn job(seq: u64, priority: u8, required: Capabilities) -> Job {
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
        origin: None,
        phase: Phase::Queued,
    }
}

fn caps() -> impl Strategy<Value = Capabilities> {
    prop::collection::vec("[a-e]", 0..4).prop_map(Capabilities::new)
}

#[derive(Debug, Clone)]
enum Step {
    /// Into the queue itself, or one of the groups.
    Insert(Option<usize>, u8, Capabilities),
    Take(Capabilities),
    /// Takes a job out and puts it back some time later, as when its lease runs out.
    Lend(usize),
    Return,
    RemoveNth(usize),
    DropEmpty,
    DropViews,
    OpenOrClose(usize),
    /// Puts a new group in the place of one, without what is in there.
    DropGroup(usize),
}

const GROUPS: usize = 3;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        prop_oneof![
            5 => (0u8..3, caps()).prop_map(|(p, c)| Step::Insert(None, p, c)),
            5 => (0..GROUPS, 0u8..3, caps()).prop_map(|(g, p, c)| Step::Insert(Some(g), p, c)),
            5 => caps().prop_map(Step::Take),
            2 => any::<usize>().prop_map(Step::Lend),
            2 => Just(Step::Return),
            1 => any::<usize>().prop_map(Step::RemoveNth),
            1 => Just(Step::DropEmpty),
            1 => Just(Step::DropViews),
            3 => (0..GROUPS).prop_map(Step::OpenOrClose),
            1 => (0..GROUPS).prop_map(Step::DropGroup),
        ],
        0..80,
    )
}

/// A view knows one place of each bucket where it finds a job, and never one behind the first.
fn assert_views_are_true(queue: &mut Queue) {
    for (id, view) in &queue.views {
        let pairs = view.place_of.iter().map(|(bucket, place)| (*place, *bucket)).collect();
        assert_eq!(view.heads, pairs);
        for (bucket_id, bucket) in &mut queue.buckets {
            let is_covered = view.set.covers(&bucket.content.required());
            assert_eq!(bucket.views.contains(id), is_covered);
            let known = view.place_of.get(bucket_id).copied();
            assert_eq!(bucket.unaware.contains(id), is_covered && known.is_none());
            assert!(known.is_none() || known <= bucket.latest_known);
            // A set with what nobody asked for when it was made is asked for no more.
            let is_in_use = view.set.iter().all(|capability| queue.asked.contains_key(capability));
            if let (true, Some((head, _))) = (is_covered && is_in_use, bucket.content.first(&view.set)) {
                assert!(known.is_some_and(|known| known <= head));
            }
        }
        assert!(view.place_of.keys().all(|bucket| queue.buckets.contains_key(bucket)));
    }
    for bucket in queue.buckets.values_mut() {
        if let Content::Group(group) = &mut bucket.content {
            assert_eq!(group.needs.len(), group.jobs.len());
            assert_views_are_true(&mut group.jobs);
        }
    }
}

/// The queue, and what should be in it.
#[derive(Default)]
struct Tried {
    queue: Queue,
    groups: Vec<(GroupId, bool)>,
    all: Vec<(Option<usize>, Job)>,
}

impl Tried {
    fn new() -> Self {
        let mut tried = Self::default();
        tried.groups = (0..GROUPS).map(|_| (tried.queue.add_group(), false)).collect();
        tried
    }

    fn insert(&mut self, group: Option<usize>, job: Job) {
        match group {
            Some(group) => self.queue.put_in(self.groups[group].0, Kind::of(&job), Place::of(&job), &job.id),
            None => self.queue.insert(&job),
        }
        self.all.push((group, job));
    }

    fn remove(&mut self, n: usize) -> (Option<usize>, Job) {
        let (group, job) = self.all.swap_remove(n);
        match group {
            Some(group) => self.queue.take_from(self.groups[group].0, &Kind::of(&job), Place::of(&job)),
            None => self.queue.remove(&job),
        }
        (group, job)
    }

    fn is_found(&self, group: Option<usize>) -> bool {
        group.is_none_or(|group| self.groups[group].1)
    }

    fn open_or_close(&mut self, n: usize) {
        let (group, is_open) = &mut self.groups[n];
        *is_open = !*is_open;
        if *is_open { self.queue.open(*group) } else { self.queue.close(*group) }
    }

    fn drop_group(&mut self, n: usize) {
        self.queue.drop_group(self.groups[n].0);
        self.all.retain(|(group, _)| *group != Some(n));
        self.groups[n] = (self.queue.add_group(), false);
    }

    /// Which is the first that a host with these capabilities may have.
    fn first(&self, have: &Capabilities) -> Option<usize> {
        let fits = |(group, job): &(Option<usize>, Job)| self.is_found(*group) && have.covers(&job.required);
        let fitting = self.all.iter().enumerate().filter(|(_, one)| fits(one));
        fitting.min_by_key(|(_, (_, job))| Place::of(job)).map(|(n, _)| n)
    }

    fn assert_true(&mut self) {
        let found = self.all.iter().filter(|(group, _)| self.is_found(*group));
        let mut ids: Vec<_> = found.map(|(_, job)| &job.id).collect();
        let mut got = self.queue.jobs();
        assert_eq!(self.queue.len(), ids.len());
        ids.sort();
        got.sort();
        assert_eq!(got, ids);
        for (n, (group, _)) in self.groups.iter().enumerate() {
            let mut inside: Vec<_> = self.all.iter().filter(|(group, _)| *group == Some(n)).collect();
            inside.sort_by_key(|(_, job)| Place::of(job));
            assert!(self.queue.needs_in(*group).eq(inside.iter().map(|(_, job)| &job.required)));
        }
        assert_views_are_true(&mut self.queue);
    }
}

proptest! {
    #[test]
    fn the_first_job_is_what_a_search_through_all_would_find(steps in steps()) {
        let (mut tried, mut lent) = (Tried::new(), Vec::new());
        for (seq, step) in steps.into_iter().enumerate() {
            let count = tried.all.len();
            match step {
                Step::Insert(group, priority, required) => tried.insert(group, job(seq as u64, priority, required)),
                Step::Take(have) => {
                    let want = tried.first(&have);
                    let id = want.map(|n| &tried.all[n].1.id);
                    prop_assert_eq!(tried.queue.first(&have), id);
                    if let Some(n) = want {
                        tried.remove(n);
                    }
                }
                Step::Lend(n) if count > 0 => lent.push(tried.remove(n % count)),
                Step::Return => {
                    if let Some((group, job)) = lent.pop() {
                        tried.insert(group, job);
                    }
                }
                Step::RemoveNth(n) if count > 0 => drop(tried.remove(n % count)),
                Step::Lend(_) | Step::RemoveNth(_) => {}
                Step::DropEmpty => tried.queue.drop_empty_buckets(),
                Step::DropViews => tried.queue.drop_idle_views(),
                Step::OpenOrClose(n) => tried.open_or_close(n),
                Step::DropGroup(n) => tried.drop_group(n),
            }
            tried.assert_true();
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
