//! How much of the log a command takes.

use std::collections::BTreeMap;

use skyclaw_proto::{Capabilities, record};

use super::{Command, Operation};
use crate::history::Event;

impl Command {
    /// About how many bytes it takes in the log. Never far too little.
    #[must_use]
    pub fn approx_bytes(&self) -> usize {
        const FIXED: usize = 512;
        let key =
            self.idempotency.as_ref().map_or(0, |key| key.caller.len() + key.route.len() + key.key.len());
        let by = self.by.as_ref().map_or(0, |by| by.approx_bytes());
        FIXED + key + by + self.operation.approx_bytes()
    }
}

impl Operation {
    fn approx_bytes(&self) -> usize {
        match self {
            Self::RegisterHost { name, capabilities, enforces, .. } => {
                let enforces = enforces.as_ref().map_or(0, |enforces| enforces.approx_bytes());
                name.len() + set_bytes(capabilities) + enforces
            }
            Self::Enqueue { payload, required, labels, terms, links, plan, .. } => {
                let terms = terms.as_ref().map_or(0, |terms| terms.approx_bytes());
                let plan = plan.as_ref().map_or(0, |plan| plan.approx_bytes());
                let links = links.as_ref().map_or(0, |links| links.approx_bytes());
                payload.approx_bytes() + set_bytes(required) + pairs_bytes(labels) + terms + links + plan
            }
            Self::Complete(done) => {
                let texts =
                    done.stdout.len() + done.stderr.len() + done.error.as_ref().map_or(0, String::len);
                texts + events_bytes(&done.events)
            }
            Self::SettleDependents { ended } => ended.len() * 136,
            Self::PruneJobs(prune) => prune.jobs.len() * 160,
            Self::Claim { .. }
            | Self::Cancel { .. }
            | Self::PruneReplies
            | Self::PassTime { .. }
            | Self::CancelRestore { .. }
            | Self::ReleaseClaims { .. }
            | Self::UndrainHost { .. }
            | Self::RemoveHost { .. }
            | Self::DeleteSchedule { .. } => 0,
            Self::ResolveJob { reason, by, result, .. } => {
                let output = result.as_ref().map_or(0, |result| result.stdout.len() + result.stderr.len());
                said_bytes(reason.as_ref(), by.as_ref()) + output
            }
            Self::TellEvents { events, .. } => events_bytes(events),
            Self::Freeze { scope, reason, by, .. } => {
                pairs_bytes(&scope.labels) + said_bytes(reason.as_ref(), by.as_ref())
            }
            Self::Thaw { by, .. } | Self::ResumeSchedule { by, .. } => said_bytes(None, by.as_ref()),
            Self::DrainHost { reason, by, .. }
            | Self::RetryJob { reason, by, .. }
            | Self::PauseSchedule { reason, by, .. } => said_bytes(reason.as_ref(), by.as_ref()),
            Self::NoteSwitch { frozen, by, .. } => {
                let frozen = frozen.as_ref().map_or(0, |it| said_bytes(it.reason.as_ref(), it.by.as_ref()));
                said_bytes(None, by.as_ref()) + frozen
            }
            Self::CreateSchedule { spec, by, .. } => spec.approx_bytes() + said_bytes(None, by.as_ref()),
            Self::FireSchedule(fire) => fire.job.as_ref().map_or(0, |job| job.approx_bytes()),
            Self::SubmitWaiting { job, .. } => job.approx_bytes(),
            Self::TriggerSchedule { job, by, .. } => {
                job.as_ref().map_or(0, |job| job.approx_bytes()) + said_bytes(None, by.as_ref())
            }
            Self::NoteHosts { up, down } => (up.len() + down.len()) * 136,
            Self::StageRestore(part) => part.bytes.len(),
            Self::RollBack(back) => back.requested_by.as_ref().map_or(0, String::len),
            Self::RenewLeases { leases, .. } | Self::ExpireLeases { leases } => leases.len() * 160,
            Self::DeployService { service, .. } => {
                let args: usize = service.args.iter().map(|arg| arg.len() + 8).sum();
                let env: usize = service.env.iter().flatten().map(|(k, v)| k.len() + v.len() + 8).sum();
                service.name.len()
                    + service.command.len()
                    + args
                    + env
                    + set_bytes(&service.required_capabilities)
                    + pairs_bytes(&service.labels)
            }
            Self::ClaimService { running, .. } => running.as_ref().map_or(0, |ids| ids.len() * 136),
            Self::ReportService { report, .. } => {
                let texts = [&report.endpoint, &report.error];
                texts.into_iter().flatten().map(String::len).sum()
            }
            Self::Merge { hosts, jobs, services } => {
                let jobs: usize = jobs.iter().map(merged_job_bytes).sum();
                hosts.iter().map(|host| FIXED_RECORD + set_bytes(&host.capabilities)).sum::<usize>()
                    + jobs
                    + services.iter().map(merged_service_bytes).sum::<usize>()
            }
        }
    }
}

fn pairs_bytes(pairs: &BTreeMap<String, String>) -> usize {
    pairs.iter().map(|(key, value)| key.len() + value.len() + 8).sum()
}

fn events_bytes(events: &[Event]) -> usize {
    events.iter().map(Event::approx_bytes).sum()
}

fn said_bytes(reason: Option<&String>, by: Option<&String>) -> usize {
    reason.into_iter().chain(by).map(String::len).sum()
}

/// What the fixed fields of a record take.
const FIXED_RECORD: usize = 1024;

fn set_bytes(set: &Capabilities) -> usize {
    set.iter().map(|capability| capability.len() + 8).sum()
}

fn merged_job_bytes(job: &record::Job) -> usize {
    let output = job.result.as_ref().map_or(0, |result| result.stdout.len() + result.stderr.len());
    let results = job.attempt_results.iter();
    let attempts: usize = results
        .map(|attempt| {
            let error = attempt.error.as_ref().map_or(0, String::len);
            FIXED_RECORD + error + attempt.stdout.len() + attempt.stderr.len()
        })
        .sum();
    FIXED_RECORD
        + output
        + job.payload.approx_bytes()
        + set_bytes(&job.requirement.required_capabilities)
        + job.terms().approx_bytes()
        + job.plan().approx_bytes()
        + attempts
}

fn merged_service_bytes(service: &record::Service) -> usize {
    let args: usize = service.args.iter().map(|arg| arg.len() + 8).sum();
    let env: usize = service.env.iter().flatten().map(|(k, v)| k.len() + v.len() + 8).sum();
    let errors: usize = service.assignments.iter().filter_map(|a| a.error.as_ref()).map(String::len).sum();
    FIXED_RECORD + args + env + errors + service.assignments.len() * FIXED_RECORD
}
