//! What is told of a change to whoever follows all of them.
//!
//! A [`Notice`] is made of a command and one of its changes when the command is applied, which costs a few words
//! of memory: the record is shared, not copied. It becomes a record of the wire where it is written down.
//!
//! Two kinds of changes are not told, as nothing happened but what others tell already: that a lease was
//! renewed, and that the number of leases in a host's record follows from its jobs.

use std::collections::BTreeMap;
use std::sync::Arc;

use skyclaw_proto::{Actor, EventId, HostId, HostState, NoticeKind, ScheduleId, Timestamp, record};

use crate::command::{Command, Operation};
use crate::freeze::Freeze;
use crate::history::{Event, SUBMITTED};
use crate::model::{Host, Job, Service};
use crate::outcome::Change;
use crate::restore::Restore;
use crate::retention::Pruned;
use crate::schedule::Schedule;

/// Longest detail that is told, in bytes.
const MAX_DETAIL_BYTES: usize = 256;
/// What stands in the place of an id where many records are spoken of.
const PRUNED_RECORDS: &str = "jobs";
/// About how much room one takes beside its texts, in memory and on disk.
const FIXED_BYTES: usize = 320;

/// A change, as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    at: Timestamp,
    cause: Cause,
    /// The host whose doing it is, where the record does not say.
    host: Option<HostId>,
    /// Who asked for it.
    by: Option<Arc<Actor>>,
    about: About,
}

/// What brought it about, as far as the record itself does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Whatever the record tells.
    Any,
    /// A host told how a run goes.
    Told,
    /// A record of another mesh was taken over.
    Merged,
    /// The word for what happened to a record that keeps no history.
    Word(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum About {
    Job(Arc<Job>),
    Host(Arc<Host>),
    NoHost(HostId),
    Service(Arc<Service>),
    Freeze(Arc<Freeze>),
    Restore(Arc<Restore>),
    Schedule(Arc<Schedule>),
    NoSchedule(ScheduleId),
    /// All at once, and not each: there are as many as there were jobs.
    Pruned(Arc<Pruned>),
}

impl Notice {
    /// What is told of a change that a command brought about; `None` when that is nothing.
    #[must_use]
    pub fn of(command: &Command, change: &Change) -> Option<Self> {
        let operation = &command.operation;
        let merged = matches!(operation, Operation::Merge { .. });
        let cause = if merged { Cause::Merged } else { Cause::Any };
        let notice =
            |cause, about| Some(Self { at: command.at, cause, host: None, by: command.by.clone(), about });
        match change {
            Change::Job(job) => match operation {
                Operation::RenewLeases { .. } => None,
                Operation::TellEvents { .. } => notice(Cause::Told, About::Job(Arc::clone(job))),
                _ => notice(cause, About::Job(Arc::clone(job))),
            },
            Change::Host(host) => {
                let word = if merged { Cause::Merged } else { Cause::Word(host_word(operation, host)?) };
                notice(word, About::Host(Arc::clone(host)))
            }
            Change::RemoveHost(id) => notice(Cause::Word("removed"), About::NoHost(id.clone())),
            Change::Service(service) => {
                let (word, host) = service_word(operation);
                let cause = if merged { Cause::Merged } else { Cause::Word(word) };
                let by = command.by.clone();
                Some(Self { at: command.at, cause, host, by, about: About::Service(Arc::clone(service)) })
            }
            Change::Freeze(freeze) => {
                let word = if freeze.is_in_force() { "frozen" } else { "thawed" };
                notice(Cause::Word(word), About::Freeze(Arc::clone(freeze)))
            }
            Change::Restore(restore) => {
                let released = matches!(operation, Operation::ReleaseClaims { .. });
                let word = if released { "claims_released" } else { "restored" };
                notice(Cause::Word(word), About::Restore(Arc::clone(restore)))
            }
            Change::Schedule(schedule) => notice(Cause::Any, About::Schedule(Arc::clone(schedule))),
            Change::RemoveSchedule(id) => notice(Cause::Word("deleted"), About::NoSchedule(id.clone())),
            Change::PruneJobs(pruned) => notice(Cause::Word("pruned"), About::Pruned(Arc::clone(pruned))),
            // What is kept of these is nobody's affair but the coordinators'.
            Change::Reply(_)
            | Change::PruneReplies(_)
            | Change::Stage(_)
            | Change::DropStaged
            | Change::ForgetFreeze(_) => None,
        }
    }

    /// About how many bytes it takes until it is written down, and then.
    #[must_use]
    pub fn approx_bytes(&self) -> usize {
        let labels = match &self.about {
            // An older record of the job is kept alive, which shares all that is large but its history.
            About::Job(job) => {
                let attempts = job.life.as_ref().map_or(0, |life| life.approx_bytes());
                job.history.as_ref().map_or(0, |history| history.approx_bytes())
                    + attempts
                    + pairs(&job.labels)
            }
            About::Service(service) => pairs(&service.labels),
            About::Freeze(freeze) => pairs(&freeze.scope.labels),
            About::Schedule(schedule) => schedule.events.iter().map(Event::approx_bytes).sum(),
            About::Host(_)
            | About::NoHost(_)
            | About::Restore(_)
            | About::NoSchedule(_)
            | About::Pruned(_) => 0,
        };
        FIXED_BYTES + labels + self.by.as_ref().map_or(0, |by| by.approx_bytes())
    }

    /// As it is told, with its place.
    #[must_use]
    pub fn told(&self, id: EventId) -> record::Notice {
        let told = self.told_of_record(id);
        match &self.by {
            Some(by) => record::Notice { by: Some((**by).clone()), ..told },
            None => told,
        }
    }

    fn told_of_record(&self, id: EventId) -> record::Notice {
        let at = self.at;
        match &self.about {
            About::Job(job) => self.of_job(job, id),
            About::Host(host) => {
                let told = record::Host::from(&**host);
                record::Notice {
                    status: Some(told.state.unwrap_or(HostState::Up).to_string()),
                    version: Some(host.version),
                    host_id: Some(host.id.clone()),
                    detail: bounded(told.state_reason),
                    ..bare(id, at, NoticeKind::Host, self.word(""), host.id.to_string())
                }
            }
            About::NoHost(host) => record::Notice {
                host_id: Some(host.clone()),
                ..bare(id, at, NoticeKind::Host, self.word(""), host.to_string())
            },
            About::Service(service) => self.of_service(service, id),
            About::Freeze(freeze) => record::Notice {
                detail: bounded(Some(freeze.described())),
                labels: freeze.scope.labels.clone(),
                agent_id: freeze.scope.agent_id.clone(),
                ..bare(id, at, NoticeKind::Freeze, self.word(""), freeze.id.to_string())
            },
            About::Restore(restore) => {
                let by = restore.requested_by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
                let of = &restore.snapshot;
                record::Notice {
                    detail: bounded(Some(format!("index {} of cluster {}{by}", of.index, of.cluster))),
                    ..bare(id, at, NoticeKind::Restore, self.word(""), restore.id.to_string())
                }
            }
            About::Schedule(schedule) => self.of_schedule(schedule, id),
            About::NoSchedule(schedule) => {
                bare(id, at, NoticeKind::Schedule, self.word(""), schedule.to_string())
            }
            About::Pruned(pruned) => record::Notice {
                detail: bounded(Some(pruned.described())),
                ..bare(id, at, NoticeKind::Retention, self.word(""), PRUNED_RECORDS.to_owned())
            },
        }
    }

    fn of_job(&self, job: &Job, id: EventId) -> record::Notice {
        let status = job.status().as_str();
        let newest: Vec<&Event> = job.history.iter().flat_map(|history| history.newest()).collect();
        let mut by = None;
        let (what, detail) = match self.cause {
            Cause::Told => newest.first().map_or((status, None), |event| (&*event.kind, detail_of(event))),
            Cause::Any => {
                // What a coordinator itself remembered of this very change.
                let mut own = newest.iter().take_while(|event| event.at == self.at).peekable();
                by = own.peek().and_then(|event| event.by.as_deref().cloned());
                // Of a job that joins the queue it is told that it did.
                let what = own.peek().map_or(status, |event| &*event.kind);
                let what = if what == SUBMITTED { status } else { what };
                (what, own.find_map(|event| detail_of(event)))
            }
            Cause::Merged | Cause::Word(_) => (self.word(status), None),
        };
        record::Notice {
            status: Some(status.to_owned()),
            version: Some(job.version),
            host_id: job.host().cloned(),
            attempt: Some(job.attempts).filter(|attempts| *attempts != 0),
            fence: Some(job.fence).filter(|fence| *fence != 0),
            detail: bounded(detail.map(str::to_owned)),
            labels: job.labels.clone(),
            submitted_by: job.submitted_by.clone(),
            agent_id: job.agent().cloned(),
            by,
            ..bare(id, self.at, NoticeKind::Job, what, job.id.to_string())
        }
    }

    fn of_service(&self, service: &Service, id: EventId) -> record::Notice {
        let own = self.host.as_ref().and_then(|host| service.assignment(host));
        let detail = own.map(|own| match (&own.error, &own.endpoint) {
            (Some(error), _) => format!("{}: {error}", own.status),
            (None, Some(endpoint)) => format!("{} at {endpoint}", own.status),
            (None, None) => own.status.to_string(),
        });
        record::Notice {
            status: Some(service.status.to_string()),
            version: Some(service.version),
            host_id: self.host.clone(),
            detail: bounded(detail),
            labels: service.labels.clone(),
            agent_id: service.agent.clone(),
            ..bare(id, self.at, NoticeKind::Service, self.word(""), service.id.to_string())
        }
    }

    /// A schedule remembers everything but that a job was submitted, which is the rule.
    fn of_schedule(&self, schedule: &Schedule, id: EventId) -> record::Notice {
        let newest = schedule.events.last().filter(|event| event.at == self.at);
        let what = newest.map_or("fired", |event| &*event.kind);
        record::Notice {
            version: Some(schedule.version),
            by: newest.and_then(|event| event.by.as_deref().cloned()),
            detail: bounded(newest.and_then(|event| detail_of(event)).map(str::to_owned)),
            ..bare(id, self.at, NoticeKind::Schedule, what, schedule.id.to_string())
        }
    }

    fn word<'a>(&self, otherwise: &'a str) -> &'a str {
        match self.cause {
            Cause::Word(word) => word,
            Cause::Merged => "merged",
            Cause::Any | Cause::Told => otherwise,
        }
    }
}

/// What a command did to a host; `None` when only its leases were counted anew.
fn host_word(operation: &Operation, host: &Host) -> Option<&'static str> {
    Some(match operation {
        Operation::RegisterHost { .. } => "registered",
        Operation::DrainHost { .. } => "draining",
        Operation::UndrainHost { .. } => "undrained",
        Operation::NoteHosts { .. } if host.down_since().is_some() => "down",
        Operation::NoteHosts { .. } => "up",
        Operation::NoteSwitch { frozen: Some(_), .. } => "frozen",
        Operation::NoteSwitch { frozen: None, .. } => "thawed",
        _ => return None,
    })
}

/// What a command did to a service, and which host did.
fn service_word(operation: &Operation) -> (&'static str, Option<HostId>) {
    match operation {
        Operation::DeployService { .. } => ("deployed", None),
        Operation::ClaimService { host, .. } => ("claimed", Some(host.clone())),
        Operation::ReportService { report, .. } => ("reported", Some(report.host_id.clone())),
        Operation::RemoveHost { id, .. } => ("host_removed", Some(id.clone())),
        _ => ("changed", None),
    }
}

fn bare(id: EventId, at: Timestamp, kind: NoticeKind, what: &str, record_id: String) -> record::Notice {
    record::Notice {
        id,
        at,
        kind,
        what: what.to_owned(),
        record_id,
        status: None,
        version: None,
        host_id: None,
        attempt: None,
        fence: None,
        detail: None,
        labels: BTreeMap::new(),
        submitted_by: None,
        agent_id: None,
        by: None,
    }
}

fn detail_of(event: &Event) -> Option<&str> {
    event.detail.as_deref()
}

fn bounded(text: Option<String>) -> Option<String> {
    text.map(|mut text| {
        text.truncate(text.floor_char_boundary(MAX_DETAIL_BYTES));
        text
    })
}

fn pairs(map: &BTreeMap<String, String>) -> usize {
    map.iter().map(|(key, value)| key.len() + value.len() + 6).sum()
}
