//! Claims that wait for a job.
//!
//! Waiting claims are kept by the capabilities of their hosts, in the order they came. A job that is
//! queued wakes one of them: the longest waiting of those that could take it. Being woken is a hint,
//! not a reservation: whoever is woken claims like everybody else, and waits again if it came too late.
//!
//! A job that is only about to be queued calls one already: its claim then goes into the same entry of the log
//! ([`Parking::call`]).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use skyclaw_core::Supersets;
use skyclaw_proto::{Capabilities, HostId};
use tokio::sync::oneshot;

use crate::proposer::Seat;

type ClassId = u64;
type Ticket = u64;

/// What a claim that waits is told.
#[derive(Debug)]
pub(crate) enum Woken {
    /// There may be something for it.
    Look,
    /// There will be something in an entry of the log that is about to leave, with a seat for the claim.
    Ride(Seat),
}

type Wake = oneshot::Sender<Woken>;

#[derive(Debug)]
struct Waiting {
    host: HostId,
    wake: Wake,
}

#[derive(Debug)]
struct Class {
    set: Capabilities,
    waiting: BTreeMap<Ticket, Waiting>,
}

/// All claims that wait.
#[derive(Debug, Default)]
pub(crate) struct Parking {
    classes: HashMap<ClassId, Class>,
    class_of: HashMap<Capabilities, ClassId>,
    /// The set of each class under the ticket of whoever waits longest in it, so that those that have waited longest
    /// are found first, however many sets there are.
    fronts: Supersets<(Ticket, ClassId)>,
    /// Where the claims of each host wait.
    of_host: HashMap<HostId, Vec<(ClassId, Ticket)>>,
    /// Claims of hosts that hold as many jobs as they may: woken only by a change of their own host.
    full: HashMap<HostId, Vec<Wake>>,
    /// How many wait for a job; others read it.
    waiting: Arc<AtomicUsize>,
    next: u64,
}

impl Parking {
    /// Lets a claim wait for a job its host could take.
    pub(crate) fn park(&mut self, host: HostId, set: &Capabilities) -> oneshot::Receiver<Woken> {
        let (wake, woken) = oneshot::channel();
        self.next += 1;
        let ticket = self.next;
        let class = match self.class_of.get(set) {
            Some(class) => *class,
            None => self.open_class(set.clone(), ticket),
        };
        if let Some(found) = self.classes.get_mut(&class) {
            self.of_host.entry(host.clone()).or_default().push((class, ticket));
            found.waiting.insert(ticket, Waiting { host, wake });
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
        woken
    }

    /// Lets a claim wait for its host to have room.
    pub(crate) fn park_full(&mut self, host: HostId) -> oneshot::Receiver<Woken> {
        let (wake, woken) = oneshot::channel();
        self.full.entry(host).or_default().push(wake);
        woken
    }

    /// A job that asks for `required` was queued: wakes the longest waiting claim that could take it
    /// and whose host has room. Those found without room wait on for their own host to change.
    pub(crate) fn wake_one(&mut self, required: &Capabilities, has_room: impl Fn(&HostId) -> bool) -> bool {
        self.take_one(required, has_room).is_some_and(|wake| wake.send(Woken::Look).is_ok())
    }

    /// The different sets of capabilities for which somebody waits, beginning with who has waited longest.
    pub(crate) fn longest_waiting_sets(&self) -> impl Iterator<Item = &Capabilities> {
        self.fronts.iter()
    }

    /// Jobs that ask for these are about to be queued: calls for each a claim that could take it, as
    /// [`Self::wake_one`] does. Where they will be, unless they are gone by then.
    pub(crate) fn call(
        &mut self,
        wanted: &[Capabilities],
        has_room: impl Fn(&HostId) -> bool,
    ) -> Vec<oneshot::Receiver<crate::proposer::Waiting>> {
        let mut called = Vec::new();
        for required in wanted {
            let Some(wake) = self.take_one(required, &has_room) else { continue };
            let (seat, passenger) = oneshot::channel();
            if wake.send(Woken::Ride(seat)).is_ok() {
                called.push(passenger);
            }
        }
        called
    }

    /// How many wait for a job, to be read by others: a hint.
    pub(crate) fn count(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.waiting)
    }

    fn take_one(&mut self, required: &Capabilities, has_room: impl Fn(&HostId) -> bool) -> Option<Wake> {
        while let Some((ticket, class)) = self.longest_waiting(required) {
            let waiting = self.take(class, ticket)?;
            if waiting.wake.is_closed() {
                continue;
            }
            if has_room(&waiting.host) {
                return Some(waiting.wake);
            }
            self.full.entry(waiting.host).or_default().push(waiting.wake);
        }
        None
    }

    /// A host changed: wakes all its claims.
    pub(crate) fn wake_host(&mut self, host: &HostId) {
        for wake in self.full.remove(host).unwrap_or_default() {
            let _ = wake.send(Woken::Look);
        }
        for (class, ticket) in self.of_host.get(host).cloned().unwrap_or_default() {
            if let Some(waiting) = self.take(class, ticket) {
                let _ = waiting.wake.send(Woken::Look);
            }
        }
    }

    /// Whether a claim of this host waits whose client is still there.
    pub(crate) fn has(&self, host: &HostId) -> bool {
        let full = self.full.get(host).into_iter().flatten().any(|wake| !wake.is_closed());
        let mut places = self.of_host.get(host).into_iter().flatten();
        let is_open = |(class, ticket): &(ClassId, Ticket)| {
            self.classes
                .get(class)
                .and_then(|class| class.waiting.get(ticket))
                .is_some_and(|w| !w.wake.is_closed())
        };
        full || places.any(is_open)
    }

    /// Wakes everyone.
    pub(crate) fn wake_all(&mut self) {
        for class in std::mem::take(&mut self.classes).into_values() {
            for waiting in class.waiting.into_values() {
                let _ = waiting.wake.send(Woken::Look);
            }
        }
        for wake in std::mem::take(&mut self.full).into_values().flatten() {
            let _ = wake.send(Woken::Look);
        }
        self.waiting.store(0, Ordering::Relaxed);
        *self = Self { next: self.next, waiting: Arc::clone(&self.waiting), ..Self::default() };
    }

    /// Forgets the claims whose clients are gone or have waited long enough.
    pub(crate) fn sweep(&mut self) {
        self.full.retain(|_, wakes| {
            wakes.retain(|wake| !wake.is_closed());
            !wakes.is_empty()
        });
        let gone: Vec<(ClassId, Ticket)> = self
            .classes
            .iter()
            .flat_map(|(class, found)| {
                let closed = found.waiting.iter().filter(|(_, waiting)| waiting.wake.is_closed());
                closed.map(|(ticket, _)| (*class, *ticket))
            })
            .collect();
        for (class, ticket) in gone {
            self.take(class, ticket);
        }
    }

    /// How many claims wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.of_host.values().map(Vec::len).sum::<usize>() + self.full.values().map(Vec::len).sum::<usize>()
    }

    fn longest_waiting(&self, required: &Capabilities) -> Option<(Ticket, ClassId)> {
        self.fronts.covering(required).next()
    }

    /// A class for this set, in which `first` will wait longest.
    fn open_class(&mut self, set: Capabilities, first: Ticket) -> ClassId {
        self.next += 1;
        let id = self.next;
        self.fronts.insert((first, id), set.clone());
        self.class_of.insert(set.clone(), id);
        self.classes.insert(id, Class { set, waiting: BTreeMap::new() });
        id
    }

    fn take(&mut self, class: ClassId, ticket: Ticket) -> Option<Waiting> {
        let found = self.classes.get_mut(&class)?;
        let was_first = found.waiting.first_key_value().is_some_and(|(first, _)| *first == ticket);
        let waiting = found.waiting.remove(&ticket)?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        if was_first {
            self.fronts.remove((ticket, class));
            if let Some((next, _)) = found.waiting.first_key_value() {
                self.fronts.insert((*next, class), found.set.clone());
            } else {
                self.class_of.remove(&found.set);
                self.classes.remove(&class);
            }
        }
        if let Some(places) = self.of_host.get_mut(&waiting.host) {
            places.retain(|(_, other)| *other != ticket);
            if places.is_empty() {
                self.of_host.remove(&waiting.host);
            }
        }
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> HostId {
        HostId::parse(name).expect("an id")
    }

    fn caps(list: &[&str]) -> Capabilities {
        Capabilities::new(list)
    }

    fn woken(receiver: &mut oneshot::Receiver<Woken>) -> bool {
        receiver.try_recv().is_ok()
    }

    #[test]
    fn a_job_wakes_one_claim_the_longest_waiting_that_could_take_it() {
        let mut parking = Parking::default();
        let mut cannot = parking.park(host("a"), &caps(&["gpu"]));
        let mut first = parking.park(host("b"), &caps(&["shell", "gpu"]));
        let mut second = parking.park(host("c"), &caps(&["shell"]));
        assert!(parking.wake_one(&caps(&["shell"]), |_| true));
        assert!(!woken(&mut cannot) && woken(&mut first) && !woken(&mut second));
        assert!(parking.wake_one(&caps(&["shell"]), |_| true));
        assert!(woken(&mut second));
        assert!(!parking.wake_one(&caps(&["shell"]), |_| true));
        assert_eq!(parking.len(), 1);
    }

    #[test]
    fn a_claim_whose_client_is_gone_is_passed_over() {
        let mut parking = Parking::default();
        drop(parking.park(host("a"), &caps(&[])));
        let mut alive = parking.park(host("b"), &caps(&[]));
        assert!(parking.wake_one(&caps(&[]), |_| true));
        assert!(woken(&mut alive));
    }

    #[test]
    fn a_host_without_room_is_passed_over_and_woken_when_it_has_room_again() {
        let mut parking = Parking::default();
        let mut full = parking.park(host("full"), &caps(&[]));
        let mut free = parking.park(host("free"), &caps(&[]));
        assert!(parking.wake_one(&caps(&[]), |id| *id == host("free")));
        assert!(!woken(&mut full) && woken(&mut free));
        parking.wake_host(&host("full"));
        assert!(woken(&mut full));
        assert_eq!(parking.len(), 0);
    }

    #[test]
    fn jobs_that_are_about_to_be_queued_call_a_claim_each_and_how_many_wait_is_known() {
        let mut parking = Parking::default();
        let count = parking.count();
        let mut first = parking.park(host("a"), &caps(&["x"]));
        let mut other = parking.park(host("b"), &caps(&["y"]));
        let mut second = parking.park(host("c"), &caps(&["x"]));
        assert_eq!(count.load(Ordering::Relaxed), 3);
        let wanted = [caps(&["x"]), caps(&["x"]), caps(&["x"]), caps(&["z"])];
        assert_eq!(parking.call(&wanted, |_| true).len(), 2);
        for called in [&mut first, &mut second] {
            assert!(matches!(called.try_recv(), Ok(Woken::Ride(_))));
        }
        assert!(!woken(&mut other));
        assert_eq!(count.load(Ordering::Relaxed), 1);
        parking.wake_all();
        assert!(woken(&mut other));
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_sweep_forgets_what_nobody_waits_for() {
        let mut parking = Parking::default();
        drop(parking.park(host("a"), &caps(&["x"])));
        drop(parking.park_full(host("b")));
        let _kept = parking.park(host("c"), &caps(&["x"]));
        parking.sweep();
        assert_eq!(parking.len(), 1);
        assert_eq!(parking.longest_waiting_sets().count(), 1);
    }

    proptest::proptest! {
        /// Against a list: claims come and go in any order, and the first of the list that fits is woken.
        #[test]
        fn the_longest_waiting_of_those_that_could_take_it_is_woken_whatever_came_before(
            steps in proptest::collection::vec((0..3_u8, proptest::collection::btree_set("[a-c]", 0..3)), 0..60),
        ) {
            let mut parking = Parking::default();
            let mut waiting = Vec::new();
            for (n, (what, set)) in steps.iter().enumerate() {
                let set = Capabilities::new(set);
                match what {
                    0 | 1 if waiting.len() < 10 => {
                        waiting.push((parking.park(host(&format!("h{n}")), &set), set));
                    }
                    // Somebody in the middle goes.
                    0 => {
                        waiting.remove(waiting.len() / 2);
                        parking.sweep();
                    }
                    _ => {
                        let first = waiting.iter().position(|(_, offered)| offered.covers(&set));
                        proptest::prop_assert_eq!(parking.wake_one(&set, |_| true), first.is_some());
                        if let Some(first) = first {
                            proptest::prop_assert!(woken(&mut waiting.remove(first).0));
                        }
                    }
                }
                proptest::prop_assert_eq!(parking.len(), waiting.len());
            }
        }
    }
}
