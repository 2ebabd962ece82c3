//! What clients did and were told, with the time of both.

use std::collections::{BTreeMap, BTreeSet};

use skyclaw_core::model::Phase;
use skyclaw_core::{Job, Refusal};
use skyclaw_proto::{HostId, JobId, JobStatus};

/// Nanoseconds since the simulation began.
pub(super) type Time = u64;

/// What a client saw of a job.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct View {
    pub(super) status: JobStatus,
    pub(super) host: Option<HostId>,
    pub(super) fence: u64,
    pub(super) stopping: bool,
}

impl View {
    pub(super) fn of(job: &Job) -> Self {
        Self {
            status: job.status(),
            host: job.host().cloned(),
            fence: job.fence,
            stopping: matches!(&job.phase, Phase::Leased(lease) if lease.cancel_requested_at.is_some()),
        }
    }
}

/// What a job is to be, beside run once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Asks {
    /// How often it may be tried in all.
    pub(super) tries: Option<u32>,
    /// Not to be claimed before.
    pub(super) not_before: Option<Time>,
    /// How long it may wait for its first claim.
    pub(super) ttl: Option<Time>,
    /// What it ends as when the job that it depends on does not complete, if it depends on one.
    pub(super) fails_as: Option<JobStatus>,
}

/// What a client wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    /// The ids of all attempts; one of them, or none, becomes a job.
    Enqueue {
        ids: Vec<JobId>,
        asks: Asks,
        /// The job that it depends on.
        after: Option<JobId>,
    },
    Claim {
        host: HostId,
    },
    Complete {
        job: JobId,
        host: HostId,
        fence: u64,
        success: bool,
    },
    Cancel {
        job: JobId,
    },
    Retry {
        job: JobId,
    },
    Read {
        job: JobId,
    },
}

/// What it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// Nobody knows whether it was done, or when it will be.
    Unknown,
    /// It was done: the job as it was then.
    Job(JobId, View),
    /// These were claimed.
    Claimed(Vec<(JobId, View)>),
    /// It was refused.
    Refused(Refusal),
    /// There is no such job.
    Nothing,
}

/// Something that was asked for, once or again and again with one idempotency key.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) asked: Time,
    /// Never, when nobody knows.
    pub(super) told_at: Time,
    pub(super) keyed: bool,
    pub(super) act: Act,
    pub(super) told: Told,
}

/// Everything that was done.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) events: Vec<Event>,
}

/// An event as far as it concerns one job.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) asked: Time,
    pub(super) told_at: Time,
    /// Whether it has surely been done.
    pub(super) certain: bool,
    pub(super) act: StepAct,
}

/// What was done to one job, and what came of it; no view where nobody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StepAct {
    Enqueue(Option<View>),
    Claim { host: HostId, view: Option<View> },
    Complete { host: HostId, fence: u64, success: bool, told: Option<Result<View, Refusal>> },
    Cancel(Option<Result<View, Refusal>>),
    Retry(Option<Result<View, Refusal>>),
    Read(Option<View>),
}

impl StepAct {
    fn views(&self) -> Option<&View> {
        match self {
            Self::Enqueue(view) | Self::Claim { view, .. } | Self::Read(view) => view.as_ref(),
            Self::Complete { told, .. } | Self::Cancel(told) | Self::Retry(told) => {
                told.as_ref()?.as_ref().ok()
            }
        }
    }
}

impl History {
    /// The jobs that surely exist.
    pub(super) fn jobs(&self) -> BTreeSet<JobId> {
        let known = self.events.iter().flat_map(|event| match &event.told {
            Told::Job(job, _) => vec![job.clone()],
            Told::Claimed(jobs) => jobs.iter().map(|(job, _)| job.clone()).collect(),
            Told::Unknown | Told::Refused(_) | Told::Nothing => Vec::new(),
        });
        known.collect()
    }

    /// What was asked for when a job was enqueued.
    pub(super) fn asks(&self, job: &JobId) -> Asks {
        let asks = self.events.iter().find_map(|event| match &event.act {
            Act::Enqueue { ids, asks, .. } if ids.contains(job) => Some(*asks),
            _ => None,
        });
        asks.unwrap_or_default()
    }

    /// The jobs that were to depend on another, and on which.
    pub(super) fn dependents(&self) -> BTreeMap<&JobId, &JobId> {
        let tied = self.events.iter().filter_map(|event| match &event.act {
            Act::Enqueue { ids, after: Some(after), .. } => Some(ids.iter().map(move |id| (id, after))),
            _ => None,
        });
        tied.flatten().collect()
    }

    /// Whether a job may have been completed by then.
    pub(super) fn may_be_completed(&self, wanted: &JobId, by: Time) -> bool {
        self.events.iter().any(|event| {
            matches!(&event.act, Act::Complete { job, success: true, .. } if job == wanted)
                && event.asked < by
                && !matches!(event.told, Told::Refused(_))
        })
    }

    /// What concerns one job, in the order it was asked for.
    pub(super) fn steps(&self, job: &JobId) -> Vec<Step> {
        let mut steps: Vec<Step> = self.events.iter().filter_map(|event| step(event, job)).collect();
        let lost = self.lost_claims(job, &steps);
        steps.extend(lost);
        steps.sort_by_key(|step| (step.asked, step.told_at));
        steps
    }

    /// Claims that may have taken the job without anyone having been told. Only those of hosts that were seen to
    /// have had it in a way that no known claim explains: others are of no consequence.
    fn lost_claims(&self, job: &JobId, steps: &[Step]) -> Vec<Step> {
        let mut explained = BTreeSet::new();
        for step in steps {
            if let StepAct::Claim { host, view: Some(view) } = &step.act {
                explained.insert((host.clone(), view.fence));
            }
        }
        let holders = steps.iter().filter_map(|step| match &step.act {
            StepAct::Complete { told: Some(Err(Refusal::AssignedElsewhere { holder, .. })), .. }
                if !explained.iter().any(|(host, _)| Some(host) == holder.as_ref()) =>
            {
                holder.clone()
            }
            act => {
                let view = act.views().filter(|view| view.fence > 0)?;
                let host = view.host.clone()?;
                (!explained.contains(&(host.clone(), view.fence))).then_some(host)
            }
        });
        let suspects: BTreeSet<HostId> = holders.collect();
        let lost = self.events.iter().filter_map(|event| {
            let Act::Claim { host } = &event.act else { return None };
            let may_have_it = match &event.told {
                Told::Unknown => true,
                // A repeated claim leaves out the leases that are over by then.
                Told::Claimed(jobs) => event.keyed && jobs.iter().all(|(claimed, _)| claimed != job),
                Told::Job(..) | Told::Refused(_) | Told::Nothing => false,
            };
            let act = StepAct::Claim { host: host.clone(), view: None };
            (may_have_it && suspects.contains(host)).then_some(Step {
                asked: event.asked,
                told_at: event.told_at,
                certain: false,
                act,
            })
        });
        lost.collect()
    }

    /// For each acknowledged claim of a job its fencing token and when it was asked for and told of.
    pub(super) fn fences(&self) -> BTreeMap<u64, Vec<(JobId, HostId, Time, Time)>> {
        let mut fences: BTreeMap<u64, Vec<_>> = BTreeMap::new();
        for event in &self.events {
            let (Act::Claim { host }, Told::Claimed(jobs)) = (&event.act, &event.told) else { continue };
            for (job, view) in jobs {
                let claim = (job.clone(), host.clone(), event.asked, event.told_at);
                fences.entry(view.fence).or_default().push(claim);
            }
        }
        fences
    }
}

fn step(event: &Event, job: &JobId) -> Option<Step> {
    let known = event.told != Told::Unknown;
    let (told_at, view) = match &event.told {
        Told::Job(told, view) if told == job => (event.told_at, Some(view.clone())),
        _ => (event.told_at, None),
    };
    let result = || match &event.told {
        Told::Job(_, view) => Some(Ok(view.clone())),
        Told::Refused(refusal) => Some(Err(refusal.clone())),
        Told::Unknown | Told::Claimed(_) | Told::Nothing => None,
    };
    let act = match &event.act {
        Act::Enqueue { ids, .. } if ids.contains(job) => {
            if known && view.is_none() {
                return None;
            }
            StepAct::Enqueue(view)
        }
        Act::Claim { host } => {
            let Told::Claimed(jobs) = &event.told else { return None };
            let view = jobs.iter().find(|(claimed, _)| claimed == job)?.1.clone();
            StepAct::Claim { host: host.clone(), view: Some(view) }
        }
        Act::Complete { job: named, host, fence, success } if named == job => {
            StepAct::Complete { host: host.clone(), fence: *fence, success: *success, told: result() }
        }
        Act::Cancel { job: named } if named == job => StepAct::Cancel(result()),
        Act::Retry { job: named } if named == job => StepAct::Retry(result()),
        Act::Read { job: named } if named == job && known => StepAct::Read(view),
        _ => return None,
    };
    Some(Step { asked: event.asked, told_at, certain: known, act })
}
