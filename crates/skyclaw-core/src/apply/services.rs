//! Services and their replicas.

use std::sync::Arc;

use skyclaw_proto::request::{DeployService, ReportService};
use skyclaw_proto::{AssignmentStatus, HostId, ServiceId, ServiceStatus};

use super::Draft;
use crate::model::{Assignment, Service};
use crate::outcome::{Refusal, Reply};
use crate::state::{ServiceOffer, longest_failed};

impl Draft<'_> {
    /// Under an id that exists the service is replaced: it keeps its place and starts without replicas.
    pub(super) fn deploy_service(&mut self, id: &ServiceId, service: &DeployService) -> Reply {
        let known = self.state.services.get(id).cloned();
        let seq = match &known {
            Some(old) => old.seq,
            None => self.state.next_seq(),
        };
        let service = Service {
            id: id.clone(),
            seq,
            name: service.name.clone(),
            command: service.command.clone(),
            args: service.args.clone(),
            cwd: service.cwd.clone(),
            env: service.env.clone(),
            replicas: service.replicas.max(1),
            required: service.required_capabilities.clone(),
            status: ServiceStatus::Pending,
            created_at: known.map_or(self.stamp.at, |old| old.created_at),
            updated_at: self.stamp.at,
            updated_by: self.stamp.node.clone(),
            version: 0,
            assignments: Vec::new(),
            labels: service.labels.clone(),
            agent: service.agent_id.clone(),
        };
        Reply::Service(self.put_service(service))
    }

    pub(super) fn claim_service(
        &mut self,
        host: &HostId,
        running: Option<&[ServiceId]>,
        after: Option<&ServiceId>,
    ) -> Result<Reply, Refusal> {
        let id = match self.state.service_offer(host, running, after, self.stamp.at) {
            ServiceOffer::UnknownHost => return Err(Refusal::UnknownHost(host.clone())),
            ServiceOffer::Nothing => return Ok(Reply::ClaimedService(None)),
            ServiceOffer::Held(service) => return Ok(Reply::ClaimedService(Some(service))),
            ServiceOffer::Free(id) => id,
        };
        let Some(service) = self.state.services.get(&id) else { return Ok(Reply::ClaimedService(None)) };
        let mut service = (**service).clone();
        let at = self.stamp.at;
        match service.assignments.iter_mut().find(|a| a.host == *host) {
            Some(own) => {
                own.status = AssignmentStatus::Pending;
                own.error = None;
                own.endpoint = None;
                own.updated_at = at;
            }
            None => {
                let failures = make_room(&mut service);
                service.assignments.push(Assignment {
                    host: host.clone(),
                    status: AssignmentStatus::Pending,
                    endpoint: None,
                    error: None,
                    started_at: None,
                    updated_at: at,
                    failures,
                });
            }
        }
        service.status = overall(&service);
        Ok(Reply::ClaimedService(Some(self.put_service(service))))
    }

    /// A report that says nothing new changes nothing.
    pub(super) fn report_service(
        &mut self,
        id: &ServiceId,
        report: &ReportService,
    ) -> Result<Reply, Refusal> {
        let service = self.state.services.get(id).ok_or_else(|| Refusal::UnknownService(id.clone()))?;
        let mut service = Arc::clone(service);
        let host = &report.host_id;
        let Some(index) = service.assignments.iter().position(|a| a.host == *host) else {
            return Err(Refusal::NotAssigned { service: id.clone(), host: host.clone() });
        };
        let old = &service.assignments[index];
        if (old.status, &old.endpoint, &old.error) == (report.status, &report.endpoint, &report.error) {
            return Ok(Reply::Service(service));
        }
        let at = self.stamp.at;
        // It failed because it was told to stop: it may start again as soon as that is over.
        let was_told = self.state.freeze_of_service(&service).is_some()
            || self.state.hosts.get(host).is_some_and(|host| !host.takes_work());
        let changed = Arc::make_mut(&mut service);
        let own = &mut changed.assignments[index];
        if own.status == AssignmentStatus::Running && at.since(own.updated_at) > RECOVERED_AFTER {
            own.failures = 0;
        }
        if own.status != AssignmentStatus::Failed && report.status == AssignmentStatus::Failed && !was_told {
            own.failures = own.failures.saturating_add(1);
        }
        own.status = report.status;
        own.endpoint.clone_from(&report.endpoint);
        own.error.clone_from(&report.error);
        own.updated_at = at;
        if report.status == AssignmentStatus::Running && own.started_at.is_none() {
            own.started_at = Some(at);
        }
        changed.status = overall(changed);
        let changed = changed.clone();
        Ok(Reply::Service(self.put_service(changed)))
    }
}

/// A replica that ran this long before it failed starts its backoff anew.
const RECOVERED_AFTER: std::time::Duration = std::time::Duration::from_secs(300);

/// Failed replicas of other hosts are kept for people to see, as long as no other takes their place.
///
/// Gives how often those that made room failed: whoever takes the place goes on counting, or a service
/// that cannot run would go round between hosts without ever waiting.
fn make_room(service: &mut Service) -> u32 {
    let mut failures = 0;
    while service.assignments.len() >= service.replicas as usize {
        let Some(failed) = longest_failed(service) else { break };
        failures = failures.max(service.assignments.remove(failed).failures);
    }
    failures
}

/// `running` if any replica is, else `pending` if any is, else `failed`.
pub(super) fn overall(service: &Service) -> ServiceStatus {
    let any = |status| service.assignments.iter().any(|a| a.status == status);
    if any(AssignmentStatus::Running) {
        ServiceStatus::Running
    } else if any(AssignmentStatus::Pending) || service.assignments.is_empty() {
        ServiceStatus::Pending
    } else {
        ServiceStatus::Failed
    }
}
