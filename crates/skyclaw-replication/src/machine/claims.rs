//! Claims: whether one finds something, and who of those that wait is woken for what.

use std::time::Instant;

use skyclaw_core::{Claimable, State, Turn};
use skyclaw_proto::{Capabilities, HostId};
use tokio::sync::oneshot;

use super::memory::Memory;
use super::parking::Woken;

/// How many jobs, and how many claims, are looked at for one that fits the other.
const SEARCHED: usize = 256;

/// Whether a claim finds something, or what to wait for.
#[derive(Debug)]
pub(crate) enum ClaimLook {
    UnknownHost,
    Found,
    Wait(oneshot::Receiver<Woken>),
}

impl Memory {
    /// Looks whether a claim would find something. If not, and it may wait, says what for.
    pub(crate) fn look_for_claim(&mut self, host: &HostId) -> ClaimLook {
        let claimable = self.state.claimable(host);
        if claimable != Claimable::UnknownHost {
            self.hearing.heard(host, Instant::now());
        }
        match claimable {
            Claimable::UnknownHost => ClaimLook::UnknownHost,
            Claimable::Yes if !self.holds_claims() => ClaimLook::Found,
            _ if self.closing => ClaimLook::Wait(oneshot::channel().1),
            // What is there is held back, which ends for all hosts at once.
            Claimable::Yes | Claimable::Full => ClaimLook::Wait(self.claims.park_full(host.clone())),
            Claimable::Nothing => {
                let Some(set) = self.state.offers(host).cloned() else { return ClaimLook::UnknownHost };
                ClaimLook::Wait(self.claims.park(host.clone(), &set))
            }
        }
    }

    /// Calls claims that wait for jobs that ask for these and are about to be queued.
    pub(crate) fn call_claims(
        &mut self,
        wanted: &[Capabilities],
    ) -> Vec<oneshot::Receiver<crate::proposer::Waiting>> {
        if self.holds_claims() || self.state.claims_stopped() {
            return Vec::new();
        }
        let state = &self.state;
        self.claims.call(wanted, |host| has_room(state, host))
    }

    /// A job that asks for this waits: wakes who has waited longest of those that could take it.
    pub(super) fn wake_for_job(&mut self, required: &Capabilities) {
        let state = &self.state;
        self.claims.wake_one(required, |host| has_room(state, host));
    }

    /// Wakes a claim that waits and could take one of the jobs that have this turn. There may be very many of these, and
    /// very many who wait: so it is asked who could take the first jobs, and what there is for those who have waited
    /// longest. Where neither finds anybody it is left to [`Self::wake_who_was_missed`].
    pub(super) fn wake_for_turn(&mut self, turn: &Turn) {
        let Self { state, claims, .. } = self;
        for required in state.have_turn(turn).take(SEARCHED) {
            if claims.wake_one(required, |host| has_room(state, host)) {
                return;
            }
        }
        let sets: Vec<_> = claims.longest_waiting_sets().take(SEARCHED).cloned().collect();
        for set in sets {
            if state.queued_for(&set) && claims.wake_one(&set, |host| has_room(state, host)) {
                return;
            }
        }
    }

    /// Wakes who waits although there is something for it.
    pub(super) fn wake_who_was_missed(&mut self) {
        // Ten thousand hosts may wait, each with a set of its own: one job is no reason to wake them all.
        let mut left = self.state.in_queue();
        if left == 0 {
            return;
        }
        let sets: Vec<_> = self.claims.longest_waiting_sets().cloned().collect();
        for set in sets {
            if left == 0 {
                break;
            }
            if self.state.queued_for(&set) {
                let state = &self.state;
                left -= usize::from(self.claims.wake_one(&set, |host| has_room(state, host)));
            }
        }
    }

    /// Lets no claim find anything until then, or lets all of them look again.
    pub(crate) fn hold_claims(&mut self, until: Option<Instant>) {
        let was_held = std::mem::replace(&mut self.held_until, until).is_some();
        if was_held && until.is_none() {
            self.claims.wake_all();
        }
    }

    fn holds_claims(&self) -> bool {
        self.held_until.is_some()
    }

    /// Whether claims find nothing at the moment, as somebody waits for all leases to be over.
    pub(super) fn is_held(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }
}

fn has_room(state: &State, host: &HostId) -> bool {
    state.host(host).is_some_and(|host| host.active_leases < host.max_parallel && host.takes_work())
}

#[cfg(test)]
#[path = "claims_tests.rs"]
mod tests;
