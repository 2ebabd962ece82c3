//! Runs the services this host was given, each on a port of its own.
//!
//! ```text
//! claimed ── start ──> running (reported, with its endpoint) ── ends ──> failed (reported)
//!              └─ could not be started ─────────────────────────────────────┘
//! ```
//! A service that ended is not started again here: the coordinator hands it out anew, after a pause.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use skyclaw_exec::{BootTime, Deadline, Driver, Ending, Outcome, RunSpec, Running, stop_channel};
use skyclaw_proto::record::Service;
use skyclaw_proto::request::{ClaimServiceBody, ReportServiceBody};
use skyclaw_proto::response::{StopReason, StopService};
use skyclaw_proto::{AssignmentStatus, ServiceId};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::containers::Containers;
use crate::coordinator::{ChangeLog, Coordinator, Said, is_unknown_host};
use crate::ports;
use crate::stopping::Why;
use crate::switch::Switch;
use crate::ticket::{ServiceTicket, Ticket};

/// How long a last report is offered to the coordinators when everything must stop.
const LAST_WORD: Duration = Duration::from_secs(5);
/// How much of a service's last words goes into the report, in bytes.
const LAST_OUTPUT: usize = 500;

/// How long a service goes on without any daemon of its host: long enough for an upgrade, and not for ever.
const ORPHANED: Duration = Duration::from_secs(600);
/// How often a daemon that lives lets it go on.
const ATTENDED: Duration = Duration::from_secs(60);

/// Where services run and who is told of them.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) coordinator: Coordinator,
    pub(crate) driver: Driver,
    pub(crate) containers: Containers,
    /// The first port.
    pub(crate) base_port: u16,
    /// What the port is appended to.
    pub(crate) public_base_url: Option<String>,
    /// The host's own switch.
    pub(crate) switch: Switch,
    /// What the coordinators want stopped.
    pub(crate) orders: watch::Receiver<Vec<StopService>>,
    /// Cancelled when the daemon ends.
    pub(crate) soft: CancellationToken,
    /// Cancelled before that when services are to go on without this daemon.
    pub(crate) leave: CancellationToken,
}

/// The task that claims services.
pub(crate) struct Services {
    place: Place,
    poll: Duration,
    tasks: TaskTracker,
    instances: HashMap<ServiceId, Instance>,
    log: ChangeLog,
}

/// A service that runs here.
struct Instance {
    port: u16,
    over: CancellationToken,
    asked_again: Arc<Notify>,
}

impl Services {
    /// Runs services on `tasks`.
    pub(crate) fn new(place: Place, poll: Duration, tasks: TaskTracker) -> Self {
        Self { place, poll, tasks, instances: HashMap::new(), log: ChangeLog::new("claim of services") }
    }

    /// Claims and starts for ever.
    pub(crate) async fn work(mut self) {
        loop {
            self.place.switch.thawed().await;
            while let Some(service) = self.claim().await {
                // A reference coordinator hands out what runs here again and again.
                if !self.take(service) {
                    break;
                }
            }
            tokio::time::sleep(self.poll).await;
        }
    }

    async fn claim(&mut self) -> Option<Service> {
        self.instances.retain(|_, instance| !instance.over.is_cancelled());
        let body = ClaimServiceBody { running: Some(self.instances.keys().cloned().collect()) };
        let Coordinator { client, host, .. } = &self.place.coordinator;
        match client.claim_service(host, &body, None).await {
            Ok(service) => {
                self.log.went_well();
                service
            }
            Err(error) => {
                self.log.failed(&error);
                if is_unknown_host(&error) {
                    self.place.coordinator.register().await;
                }
                None
            }
        }
    }

    fn insert(&mut self, id: ServiceId, port: u16) -> (CancellationToken, Arc<Notify>) {
        let (over, asked_again) = (CancellationToken::new(), Arc::new(Notify::new()));
        let instance = Instance { port, over: over.clone(), asked_again: asked_again.clone() };
        self.instances.insert(id, instance);
        (over, asked_again)
    }

    /// Takes over a service that an earlier daemon started.
    pub(crate) fn adopt(&mut self, running: Running, ticket: ServiceTicket) {
        let (over, asked_again) = self.insert(ticket.service.clone(), ticket.port);
        let ServiceTicket { service, name, port } = ticket;
        let span = tracing::info_span!("service", id = %service, name, port);
        let place = self.place.clone();
        let host = async move {
            let _over = over.drop_guard();
            place.see_through(&service, port, running, &asked_again).await;
        };
        self.tasks.spawn(host.instrument(span));
    }

    /// Starts a service; `false` when it runs here already.
    fn take(&mut self, service: Service) -> bool {
        if let Some(instance) = self.instances.get(&service.id) {
            instance.asked_again.notify_one();
            return false;
        }
        let taken: BTreeSet<u16> = self.instances.values().map(|instance| instance.port).collect();
        let port = ports::choose(self.place.base_port, &taken, ports::is_free);
        // Port 0 is nobody's; it stands for none while the failure is reported.
        let (over, asked_again) = self.insert(service.id.clone(), port.unwrap_or(0));
        let span = tracing::info_span!("service", id = %service.id, name = service.name, port);
        let place = self.place.clone();
        let host = async move {
            let _over = over.drop_guard();
            match port {
                Some(port) => place.host(&service, port, &asked_again).await,
                None => {
                    let fault = format!("no port is free from {} upward", place.base_port);
                    place.report_end(&service.id, fault).await;
                }
            }
        };
        self.tasks.spawn(host.instrument(span));
        true
    }
}

impl Place {
    /// Runs a service until it ends, is given to others, or the daemon ends.
    async fn host(&self, service: &Service, port: u16, asked_again: &Notify) {
        if let Err(why) = self.containers.takes(service) {
            return self.report_end(&service.id, why).await;
        }
        let mut spec = RunSpec::service(service, &self.coordinator.host, port, self.driver.config());
        let ticket = ServiceTicket { service: service.id.clone(), name: service.name.clone(), port };
        spec.label = Ticket::Service(ticket).label();
        spec.deadline = Some(Deadline {
            at: BootTime::now().after(ORPHANED),
            slack: ATTENDED,
            why: "its host has had no daemon for too long".to_owned(),
        });
        let running = match self.driver.start(spec).await {
            Ok(running) => running,
            Err(error) => return self.report_end(&service.id, error.describe()).await,
        };
        tracing::info!(pid = running.pid(), "service started");
        self.see_through(&service.id, port, running, asked_again).await;
    }

    /// Stays with a service that runs.
    async fn see_through(&self, id: &ServiceId, port: u16, mut running: Running, asked_again: &Notify) {
        let (stopper, mut stop) = stop_channel();
        // What was ordered before was meant for an earlier run of it: while that holds, nobody hands it out.
        let mut orders = self.orders.clone();
        orders.mark_unchanged();
        let mut switch = self.switch.clone();
        let attend = async {
            loop {
                stopper.extend(BootTime::now().after(ORPHANED));
                tokio::time::sleep(ATTENDED).await;
            }
        };
        let mut attend = pin!(attend);
        let mut report = pin!(self.report_running(id, port, asked_again));
        let (mut reported, mut stopping) = (true, false);
        loop {
            tokio::select! {
                biased;
                () = running.watch(&mut stop) => break,
                () = self.leave.cancelled() => {
                    tracing::info!("left running");
                    running.leave();
                    return;
                }
                () = &mut attend => {}
                () = &mut report, if reported => {
                    tracing::warn!("the service is not this host's any more; it is stopped");
                    stopper.stop(Why::NotOurs.stop());
                    reported = false;
                }
                why = ordered(&mut orders, id), if !stopping => {
                    tracing::warn!(why = why.text(), "the service is stopped");
                    stopper.stop(why.stop());
                    stopping = true;
                }
                () = switch.frozen(), if !stopping => {
                    stopper.stop(Why::Tripped.stop());
                    stopping = true;
                }
                () = self.soft.cancelled(), if !stopping => {
                    stopper.stop(Why::ShuttingDown.stop());
                    stopping = true;
                }
            }
        }
        let outcome = running.end().await.forget().await;
        if !reported {
            return;
        }
        let fault = end_in_words(&outcome);
        tracing::warn!(fault, "service ended");
        self.report_end(id, fault).await;
    }

    /// Reports that the service runs, once and whenever it is asked for again. Ends when that is refused.
    async fn report_running(&self, id: &ServiceId, port: u16, asked_again: &Notify) {
        let endpoint = self.public_base_url.as_ref().map(|base| format!("{base}:{port}"));
        while let Said::Heard(()) =
            self.report(id, AssignmentStatus::Running, endpoint.clone(), None, std::future::pending()).await
        {
            asked_again.notified().await;
        }
    }

    async fn report_end(&self, id: &ServiceId, fault: String) {
        let give_up = async {
            self.soft.cancelled().await;
            tokio::time::sleep(LAST_WORD).await;
        };
        if let Said::Refused(error) =
            self.report(id, AssignmentStatus::Failed, None, Some(fault), give_up).await
        {
            tracing::warn!(%error, "the report of a service was refused");
        }
    }

    async fn report(
        &self,
        id: &ServiceId,
        status: AssignmentStatus,
        endpoint: Option<String>,
        error: Option<String>,
        give_up: impl Future<Output = ()>,
    ) -> Said<()> {
        let Coordinator { client, host, .. } = &self.coordinator;
        let body = ReportServiceBody {
            host_id: Some(host.to_string()),
            status: Some(status.to_string()),
            endpoint,
            error,
        };
        let key = skyclaw_config::ids::uuid().to_string();
        let say = || async { client.report_service(id, &body, Some(&key)).await.map(drop) };
        self.coordinator.insist("report of a service", give_up, say).await
    }
}

/// Waits until a service is to be stopped, and says why.
async fn ordered(orders: &mut watch::Receiver<Vec<StopService>>, id: &ServiceId) -> Why {
    while orders.changed().await.is_ok() {
        let all = orders.borrow_and_update();
        if let Some(order) = all.iter().find(|order| order.service_id == *id) {
            return if order.reason == StopReason::Draining { Why::Draining } else { Why::Frozen };
        }
    }
    // Nobody orders any more: the daemon ends.
    std::future::pending().await
}

/// How a service ended, with the last it wrote.
fn end_in_words(outcome: &Outcome) -> String {
    let how = match &outcome.ending {
        Ending::Exited(code) => format!("service process exited with code {code}"),
        _ => format!("service process was {}", outcome.error.as_deref().unwrap_or("lost")),
    };
    let last = outcome.stderr.trim();
    let from = last.ceil_char_boundary(last.len().saturating_sub(LAST_OUTPUT));
    if last.is_empty() { how } else { format!("{how}; it wrote last: {}", &last[from..]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skyclaw_exec::Stop;

    #[test]
    fn an_end_is_told_with_the_last_that_was_written() {
        let mut outcome = Outcome {
            success: false,
            exit_code: 3,
            duration: Duration::ZERO,
            stdout: "ignored".into(),
            stderr: String::new(),
            error: Some("exited with code 3".into()),
            ending: Ending::Exited(3),
            usage: skyclaw_exec::Usage::default(),
            events: vec![],
        };
        assert_eq!(end_in_words(&outcome), "service process exited with code 3");
        outcome.stderr = "ä".repeat(LAST_OUTPUT) + "no database\n";
        let told = end_in_words(&outcome);
        assert!(told.ends_with("äno database") && told.len() < LAST_OUTPUT + 100, "{told}");
        outcome.ending = Ending::Stopped(Stop::Because("host is shutting down".into()));
        outcome.error = Some("stopped: host is shutting down".into());
        assert!(end_in_words(&outcome).starts_with("service process was stopped: host is shutting down; "));
    }
}
