//! Which hosts are heard of, on the leader's monotonic clock.
//!
//! That a host is down, or up again, is written down, as it changes what is told of it; each sign of life is
//! not. A new leader gives every host a full period before it says that one is down.

use std::time::{Duration, Instant};

use skyclaw_core::{ById, State};
use skyclaw_proto::{HostId, Timestamp};

/// However short leases are: a host may be silent for some heartbeats at their usual pace.
const LEAST: Duration = Duration::from_secs(15);

/// Which hosts are heard of.
#[derive(Debug)]
pub(crate) struct Hearing {
    heard: ById<HostId, Heard>,
    /// Since when this node listens.
    since: Instant,
    /// How long a host may be silent.
    patience: Duration,
}

/// When a host was heard of last.
#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Instant,
    /// When it sent its last heartbeat, by the wall clock: for people.
    beat: Option<Timestamp>,
}

/// Hosts of which something else is known than is written down.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) up: Vec<HostId>,
    pub(crate) down: Vec<HostId>,
}

impl News {
    pub(crate) fn is_empty(&self) -> bool {
        self.up.is_empty() && self.down.is_empty()
    }
}

impl Hearing {
    /// A host that renewed no lease for a whole period holds none any more.
    pub(super) fn new(lease: Duration, now: Instant) -> Self {
        Self { heard: ById::default(), since: now, patience: lease.max(LEAST) }
    }

    /// Listens anew.
    pub(super) fn restart(&mut self, now: Instant) {
        self.heard.clear();
        self.since = now;
    }

    /// A host gave a sign of life.
    pub(super) fn heard(&mut self, host: &HostId, now: Instant) {
        match self.heard.get_mut(host) {
            Some(heard) => heard.at = now,
            None => drop(self.heard.insert(host.clone(), Heard { at: now, beat: None })),
        }
    }

    /// How long a host has been silent, as far as this node has listened.
    pub(super) fn silent_for(&self, host: &HostId, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard.get(host).map_or(self.since, |heard| heard.at))
    }

    /// A host sent a heartbeat.
    pub(super) fn beat(&mut self, host: &HostId, now: Instant, at: Timestamp) {
        let beat = Heard { at: now, beat: Some(at) };
        match self.heard.get_mut(host) {
            Some(heard) => *heard = beat,
            None => drop(self.heard.insert(host.clone(), beat)),
        }
    }

    /// When a host sent its last heartbeat.
    pub(super) fn last_beat(&self, host: &HostId) -> Option<Timestamp> {
        self.heard.get(host)?.beat
    }

    /// A host is no more.
    pub(super) fn forget(&mut self, host: &HostId) {
        self.heard.remove(host);
    }

    /// Of how many hosts something is kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heard.len()
    }

    /// What is to be written down, at most `limit` hosts of each kind. `waits` says of a host whether a
    /// request of it waits here, which is a sign of life too.
    pub(super) fn news(
        &self,
        state: &State,
        now: Instant,
        limit: usize,
        waits: impl Fn(&HostId) -> bool,
    ) -> News {
        let mut news = News::default();
        for host in state.hosts() {
            let last = self.heard.get(&host.id).map(|heard| heard.at);
            let is_silent =
                now.duration_since(last.unwrap_or(self.since)) > self.patience && !waits(&host.id);
            match (host.down_since().is_some(), is_silent) {
                (false, true) if news.down.len() < limit => news.down.push(host.id.clone()),
                (true, false) if last.is_some() && news.up.len() < limit => news.up.push(host.id.clone()),
                _ => {}
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use skyclaw_core::{Condition, Counters, Host};
    use skyclaw_proto::{Capabilities, NodeId};

    use super::*;

    const LEASE: Duration = Duration::from_secs(60);

    fn id(name: &str) -> HostId {
        HostId::parse(name).expect("an id")
    }

    fn state(hosts: &[(&str, bool)]) -> State {
        let host = |(name, is_down): &(&str, bool)| {
            let down_since = is_down.then_some(Timestamp::EPOCH);
            Arc::new(Host {
                id: id(name),
                name: (*name).to_owned(),
                capabilities: Capabilities::default(),
                max_parallel: 1,
                active_leases: 0,
                last_seen_at: Timestamp::EPOCH,
                registered_at: Timestamp::EPOCH,
                updated_by: NodeId::parse("n").expect("an id"),
                version: 1,
                condition: Some(Box::new(Condition { down_since, ..Condition::default() })),
                enforces: None,
            })
        };
        State::load(hosts.iter().map(host), [], [], Counters::default())
    }

    #[test]
    fn a_host_is_down_once_it_was_silent_for_a_period_and_up_when_it_is_heard_of() {
        let start = Instant::now();
        let (state, late) =
            (state(&[("silent", false), ("waits", false), ("heard", false)]), start + LEASE * 2);
        let mut hearing = Hearing::new(LEASE, start);
        let waits = |host: &HostId| *host == id("waits");
        assert!(hearing.news(&state, start + LEASE, 9, waits).is_empty(), "each has a full period");
        hearing.heard(&id("heard"), late);
        assert_eq!(hearing.news(&state, late, 9, waits), News { up: vec![], down: vec![id("silent")] });
        hearing.restart(late);
        assert!(hearing.news(&state, late, 9, waits).is_empty(), "a new leader listens first");
    }

    #[test]
    fn a_host_that_is_down_is_up_only_when_it_was_heard_of_by_who_says_so() {
        let start = Instant::now();
        let state = state(&[("gone", true), ("back", true)]);
        let mut hearing = Hearing::new(LEASE, start);
        hearing.heard(&id("back"), start);
        assert_eq!(hearing.news(&state, start, 9, |_| false), News { up: vec![id("back")], down: vec![] });
    }

    #[test]
    fn short_leases_do_not_make_hosts_look_down() {
        let start = Instant::now();
        let hearing = Hearing::new(Duration::from_millis(300), start);
        assert!(
            hearing.news(&state(&[("a", false)]), start + Duration::from_secs(10), 9, |_| false).is_empty()
        );
    }
}
