//! Each change is told once and in order, whatever happens to reader and state meanwhile.

use std::sync::Arc;
use std::time::Duration;

use skyclaw_core::{Command, Counters, Operation, State};
use skyclaw_proto::{Capabilities, HostId, NodeId, Timestamp};
use skyclaw_store::{Options, Position, Retention, Store};
use tempfile::TempDir;
use tokio_util::task::TaskTracker;

use super::*;
use crate::machine::{self, Applier};

/// A machine that is told what the log has committed.
struct Ground {
    machine: Machine,
    applier: Applier,
    store: Store,
    index: u64,
    dir: TempDir,
}

impl Ground {
    async fn new(events: Retention) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let tracker = TaskTracker::new();
        let options = Options { events, ..Options::default() };
        let store =
            Store::open(&dir.path().join("state.db"), options, &tracker).await.expect("a store").store;
        let state = State::load(Vec::new(), Vec::new(), Vec::new(), Counters::default());
        let options = machine::Options { state, position: None, lease: Duration::from_secs(60) };
        let (machine, applier) = Machine::start(options, store.clone(), &tracker);
        Self { machine, applier, store, index: 0, dir }
    }

    /// Applies so many entries, each of which registers two hosts.
    async fn apply(&mut self, entries: u64) {
        let entries: Vec<_> = (0..entries).map(|_| Arc::new(vec![command(1), command(2)])).collect();
        self.index += entries.len() as u64;
        let position = Position { index: self.index, bytes: Vec::new() };
        self.applier.apply(position, entries).await.expect("applied");
    }

    async fn follow(&self, after: EventId) -> Follow {
        Follow::begin(self.machine.clone(), Some(after)).await.expect("a reader")
    }

    fn all(&self, after: EventId) -> Vec<EventId> {
        let all = (1..=self.index).flat_map(|index| [EventId::new(index, 0), EventId::new(index, 1)]);
        all.filter(|id| *id > after).collect()
    }
}

fn command(host: u32) -> Command {
    let operation = Operation::RegisterHost {
        id: HostId::parse(&format!("h{host}")).expect("an id"),
        name: "a host".to_owned(),
        capabilities: Capabilities::default(),
        max_parallel: 1,
        enforces: None,
    };
    let node = NodeId::parse("n").expect("an id");
    Command { at: Timestamp::from_millis(1), node, idempotency: None, by: None, operation }
}

/// Takes what is told until it is caught up. Gaps are told as places.
async fn told(follow: &mut Follow) -> (Vec<EventId>, Vec<(EventId, EventId)>) {
    let (mut ids, mut gaps) = (Vec::new(), Vec::new());
    loop {
        match follow.next().await.expect("it goes on") {
            Told::Changes(changes) => ids.extend(changes.iter().map(|change| change.id)),
            Told::Gap { after, kept_after } => gaps.push((after, kept_after)),
            Told::CaughtUp => return (ids, gaps),
        }
    }
}

/// Takes so many changes as they are told.
async fn heard(follow: &mut Follow, count: usize) -> Vec<EventId> {
    let mut ids = Vec::new();
    while ids.len() < count {
        match follow.next().await.expect("it goes on") {
            Told::Changes(changes) => ids.extend(changes.iter().map(|change| change.id)),
            Told::CaughtUp => {}
            Told::Gap { after, kept_after } => panic!("a gap from {after} to {kept_after}"),
        }
    }
    ids
}

#[tokio::test]
async fn what_is_applied_is_told_at_once_after_what_was_applied_before() {
    let mut ground = Ground::new(Retention::default()).await;
    ground.apply(3).await;
    let mut follow = ground.follow(EventId::new(1, 0)).await;
    assert_eq!(told(&mut follow).await, (ground.all(EventId::new(1, 0)), Vec::new()));
    let before = EventId::after(ground.index);
    ground.apply(2).await;
    assert_eq!(heard(&mut follow, 4).await, ground.all(before));
    assert_eq!(follow.place(), EventId::new(5, 1));
    let mut new = Follow::begin(ground.machine.clone(), None).await.expect("a reader");
    assert_eq!(told(&mut new).await, (Vec::new(), Vec::new()), "without a place, from now on");
    ground.apply(1).await;
    assert_eq!(heard(&mut new, 2).await, ground.all(EventId::after(5)));
}

#[tokio::test]
async fn a_reader_that_falls_behind_finds_the_rest_in_the_database() {
    let mut ground = Ground::new(Retention::default()).await;
    let mut follow = ground.follow(EventId::START).await;
    assert_eq!(told(&mut follow).await, (Vec::new(), Vec::new()));
    // Many more parts than are kept for it.
    for _ in 0..600 {
        ground.apply(1).await;
    }
    assert_eq!(heard(&mut follow, 1200).await, ground.all(EventId::START));
    let before = EventId::after(ground.index);
    ground.apply(1).await;
    assert_eq!(heard(&mut follow, 2).await, ground.all(before), "it goes on as before");
}

#[tokio::test]
async fn what_is_applied_while_the_database_is_read_is_told_once() {
    let mut ground = Ground::new(Retention::default()).await;
    for _ in 0..20 {
        ground.apply(50).await;
    }
    let mut follow = ground.follow(EventId::START).await;
    let mut ids = Vec::new();
    while ids.len() < 2 * 20 * 50 {
        match follow.next().await.expect("it goes on") {
            Told::Changes(changes) => ids.extend(changes.iter().map(|change| change.id)),
            other => panic!("{other:?}"),
        }
        // In the midst of it, and in the database or not by the time of the next look.
        ground.apply(1).await;
        if ids.len() < 1500 {
            ground.machine.settle().await.expect("settled");
        }
    }
    let left = ground.all(EventId::START).len() - ids.len();
    ids.extend(heard(&mut follow, left).await);
    assert_eq!(ids, ground.all(EventId::START));
}

#[tokio::test]
async fn what_is_not_kept_is_told_as_a_gap_before_what_is() {
    let mut ground = Ground::new(Retention { count: 4, age: Duration::from_secs(3600) }).await;
    let mut live = ground.follow(EventId::START).await;
    assert_eq!(told(&mut live).await, (Vec::new(), Vec::new()));
    for _ in 0..10 {
        ground.apply(1).await;
        ground.machine.settle().await.expect("settled");
    }
    assert_eq!(heard(&mut live, 20).await, ground.all(EventId::START), "who is there is told all of it");
    let mut late = ground.follow(EventId::new(2, 0)).await;
    let kept_after = EventId::new(8, 1);
    let gap = (EventId::new(2, 0), kept_after);
    assert_eq!(told(&mut late).await, (ground.all(kept_after), vec![gap]));
    let mut in_time = ground.follow(kept_after).await;
    assert_eq!(told(&mut in_time).await, (ground.all(kept_after), Vec::new()));
}

#[tokio::test]
async fn a_copy_that_is_installed_brings_what_happened_meanwhile_or_says_that_it_does_not() {
    let mut ahead = Ground::new(Retention { count: 40, age: Duration::from_secs(3600) }).await;
    let mut behind = Ground::new(Retention::default()).await;
    ahead.apply(3).await;
    behind.apply(3).await;
    let mut follow = behind.follow(EventId::START).await;
    assert_eq!(told(&mut follow).await, (behind.all(EventId::START), Vec::new()));
    for (applied, missed) in [(10, None), (100, Some(EventId::new(94, 1)))] {
        let before = follow.place();
        for _ in 0..applied {
            ahead.apply(1).await;
            ahead.machine.settle().await.expect("settled");
        }
        let copy = behind.dir.path().join(format!("{applied}.copy"));
        ahead.store.copy_to(&copy).await.expect("a copy");
        behind.applier.install(copy).await.expect("installed");
        behind.index = ahead.index;
        let gaps: Vec<_> = missed.map(|kept_after| (before, kept_after)).into_iter().collect();
        let after = missed.unwrap_or(before);
        assert_eq!(told(&mut follow).await, (behind.all(after), gaps), "after {applied}");
        // And the log goes on.
        behind.apply(1).await;
        ahead.apply(1).await;
        assert_eq!(heard(&mut follow, 2).await, behind.all(EventId::after(behind.index - 1)));
    }
}

#[tokio::test]
async fn a_reader_ends_with_the_node() {
    let ground = Ground::new(Retention::default()).await;
    let mut follow = ground.follow(EventId::START).await;
    told(&mut follow).await;
    let ended = TaskTracker::new().spawn(async move { follow.next().await });
    drop(ground.applier);
    assert!(matches!(ended.await.expect("no panic"), Err(ReadError::ShuttingDown)));
}
