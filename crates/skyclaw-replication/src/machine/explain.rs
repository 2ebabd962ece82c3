//! Why a job is not running, with what only the leader knows: which hosts are heard of, and that claims are held back.

use std::time::{Duration, Instant};

use skyclaw_core::{Host, Phase, State};
use skyclaw_proto::explanation::{Reason, ReasonCode};
use skyclaw_proto::{Explanation, JobId, Timestamp};

use super::memory::{Lookup, Memory};

/// How long a host may keep silent before that is worth telling: two heartbeats at their usual pace.
const SILENT: Duration = Duration::from_secs(10);

impl Memory {
    /// As the records tell.
    pub(crate) fn explain(&self, id: &JobId) -> Lookup<Explanation> {
        self.job(id).map(|job| self.state.explain(&job))
    }

    /// The same at the leader. Both are now: one tells how long nothing was heard, the other when a host registered.
    pub(crate) fn explain_leading(&self, id: &JobId, now: Instant, at: Timestamp) -> Option<Explanation> {
        let Lookup::Here(job) = self.job(id) else { return None };
        let mut told = self.state.explain(&job);
        if !matches!(job.phase, Phase::Queued) {
            return Some(told);
        }
        let free = self.state.free_hosts(&job);
        let silence = |host: &Host| match self.waits(&host.id) {
            true => Duration::ZERO,
            false => self.hearing.silent_for(&host.id, now).min(at.since(host.registered_at)),
        };
        let shortest = free.iter().map(|host| silence(host)).min();
        let mut found = Vec::new();
        if self.is_held(now) {
            let message =
                "no job is given to anybody: the restore of a snapshot waits until nothing runs any more";
            found.push(Reason::new(ReasonCode::ClaimsHeld, message));
        }
        if let Some(shortest) = shortest.filter(|shortest| *shortest > SILENT) {
            found.push(State::explain_silence(&free, shortest));
        }
        if !found.is_empty() {
            told.reasons.retain(|reason| reason.code != ReasonCode::Claimable);
            told.reasons.extend(found);
        }
        Some(told)
    }
}

#[cfg(test)]
mod tests {
    use skyclaw_core::{Command, NoArchive, Operation};
    use skyclaw_proto::request::EnqueueJobBody;
    use skyclaw_proto::{Capabilities, HostId, NodeId};

    use super::*;

    /// An hour later.
    fn at() -> Timestamp {
        Timestamp::from_millis(3_600_000)
    }

    fn memory() -> Memory {
        let mut memory = Memory::new(State::default(), Duration::from_secs(60));
        let body = r#"{"payload":{"kind":"shell","command":"true"}}"#;
        let body: EnqueueJobBody = serde_json::from_str(body).expect("a body");
        for operation in [
            Operation::RegisterHost {
                id: HostId::parse("h1").expect("an id"),
                name: "h1".into(),
                capabilities: Capabilities::default(),
                max_parallel: 1,
                enforces: None,
            },
            Operation::enqueue(job_id(), body.check().expect("a job")),
        ] {
            let (at, node) = (Timestamp::from_millis(1), NodeId::parse("n").expect("an id"));
            let command = Command { at, node, idempotency: None, by: None, operation };
            memory.state.apply(&command, &NoArchive).reply.expect("done");
        }
        memory
    }

    fn job_id() -> JobId {
        JobId::parse("j").expect("an id")
    }

    fn codes(memory: &Memory, now: Instant) -> Vec<ReasonCode> {
        let told = memory.explain_leading(&job_id(), now, at()).expect("it is known");
        told.reasons.iter().map(|reason| reason.code).collect()
    }

    #[test]
    fn hosts_that_keep_silent_are_told_of_until_they_are_heard_again() {
        let mut memory = memory();
        let began = Instant::now();
        memory.begin_leading(began);
        assert_eq!(codes(&memory, began), [ReasonCode::Claimable]);
        let later = began + SILENT + Duration::from_secs(2);
        assert_eq!(codes(&memory, later), [ReasonCode::HostsSilent]);
        let told = memory.explain_leading(&job_id(), later, at()).expect("it is known");
        assert_eq!(told.reasons[0].message, "the host h1 could take it and has not been heard of for 12 s");
        memory.hearing.heard(&HostId::parse("h1").expect("an id"), later);
        assert_eq!(codes(&memory, later), [ReasonCode::Claimable]);
        let just_now = memory.explain_leading(&job_id(), later + SILENT * 2, Timestamp::from_millis(5));
        let just_now = just_now.expect("it is known").reasons[0].code;
        assert_eq!(just_now, ReasonCode::Claimable, "one that has just registered was heard");
        assert!(memory.explain_leading(&JobId::parse("other").expect("an id"), later, at()).is_none());
    }
}
