//! The parts put together, from start to end.

use std::time::Duration;

use futures_util::future::join_all;
use nix::unistd::gethostname;
use skyclaw_client::Client;
use skyclaw_config::{HttpUrl, Secret, Shutdown, ids};
use skyclaw_exec::{Driver, Enforcement, Left, stop_channel};
use skyclaw_proto::request::RegisterHostBody;
use skyclaw_proto::response::StopService;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::claims::{Claims, End, Workshop};
use crate::containers::Containers;
use crate::coordinator::Coordinator;
use crate::keeper::Keeper;
use crate::logs::Logs;
use crate::podman;
use crate::policy::StopMode;
use crate::services::{self, Services};
use crate::settings::{Fault, Place, Settings};
use crate::spool::Spool;
use crate::state::{self, StateDir};
use crate::stopping::Why;
use crate::supervised::{Stand, attend};
use crate::switch::{Switch, SwitchFile};
use crate::ticket::Ticket;

/// How long one coordinator may take to answer, besides what it was asked to wait.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
/// How long all of them may take together; what is not answered by then is logged, and asked again.
const DEADLINE: Duration = Duration::from_secs(15);

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is no good.
    #[error(transparent)]
    Setting(#[from] Fault),
    /// Its state directory cannot be used.
    #[error(transparent)]
    State(#[from] state::Error),
    /// Outcomes on disk cannot be read.
    #[error("cannot use the outcomes kept in the state directory")]
    Spool(#[source] std::io::Error),
    /// Nothing can be run.
    #[error(transparent)]
    Driver(#[from] skyclaw_exec::Error),
    /// The settings do not make a client.
    #[error(transparent)]
    Client(#[from] skyclaw_client::Error),
    /// The part that keeps the leases ended; without it nothing may run.
    #[error("the keeper of leases ended")]
    Keeper(#[source] tokio::task::JoinError),
}

/// Works for the cluster until `shutdown`.
///
/// # Errors
/// When the daemon cannot start, or must not go on.
pub async fn run(settings: &Settings, place: &Place, shutdown: &Shutdown) -> Result<(), Error> {
    let supervisor = &place.supervisor;
    supervisor.status("takes over what an earlier start has left");
    let terms = podman::terms(settings, place).map_err(Fault::from)?;
    // Runs that have a user of their own must find the way to what is theirs, and a Podman service to what it
    // is to mount.
    let passable = settings.run_user.is_some() || terms.is_some();
    let state = StateDir::open(&place.base_dir.join(&settings.state_dir), passable)?;
    let host = match &settings.host_id {
        Some(given) => given.clone(),
        None => state.host_id(ids::host)?,
    };
    let spool = Spool::open(state.path()).map_err(Error::Spool)?;
    let owner = state.owner(&host, || ids::uuid().simple().to_string())?;
    let driver = Driver::new(settings.driver(&owner, place, state.path()))?;
    let mut found = driver.recover().await?;
    let tracker = TaskTracker::new();
    let mut switch = Switch::start(&tracker, SwitchFile::in_dir(state.path()));
    let containers = Containers::new(terms, &owner, state.path(), &found, &tracker);
    tokio::select! {
        // Told below.
        () = shutdown.soft.cancelled() => {}
        () = containers.connect() => {}
    }
    driver.prepare(&tracker);
    let mut config =
        skyclaw_client::Config::new(settings.coordinators(), settings.token.clone().map(Secret::into_inner));
    // A lease must not run out because one coordinator of several keeps silent.
    config.attempt_timeout = ATTEMPT_TIMEOUT;
    config.deadline = DEADLINE;
    // What coordinators do for a run belongs to its trace, where one is exported.
    config.traceparent = Some(skyclaw_config::otlp::here);
    let card = card(settings, driver.enforcement(), &containers);
    let coordinator = Coordinator::new(Client::new(config)?, host, card);
    tracing::info!(
        host = %coordinator.host,
        coordinators = ?settings.coordinators(),
        running = found.running.len(),
        ended = found.ended.len(),
        lost = found.lost.len(),
        enforcement = ?driver.enforcement(),
        "host daemon started"
    );
    // Nothing it needs for what it has is missing now; a coordinator may be away for as long as it likes.
    let waits = Stand::Unheard { taken_over: found.running.len() };
    supervisor.ready(&waits.to_string());
    let introduced = tokio::select! {
        introduced = introduce(&coordinator, &mut found, &mut switch, shutdown) => introduced,
        never = supervisor.attend(|| async { true }, || waits.to_string()) => match never {},
    };
    if !introduced {
        supervisor.stopping("ends before it was heard");
        // What runs goes on until its deadline: the shims see to it.
        leave_all(settings, found);
        return Ok(());
    }

    let watched = containers.clone().watch(
        coordinator.clone(),
        driver.enforcement().clone(),
        settings.capabilities.clone(),
    );
    let watching = tracker.spawn(watched);
    let (order_services, orders) = watch::channel(Vec::new());
    let heartbeat = settings.heartbeat_ms.0;
    let logs = Logs::start(&tracker, coordinator.clone());
    let (keeper, mut keeping) =
        Keeper::start(&tracker, coordinator.clone(), heartbeat, order_services, switch.clone(), logs.clone());
    let hard = shutdown.hard.clone();
    let leave = CancellationToken::new();
    let (own, spooled, left) = (containers.clone(), spool.clone(), leave.clone());
    let workshop = Workshop {
        coordinator,
        keeper,
        driver,
        containers: own,
        spool: spooled,
        switch,
        logs,
        hard,
        leave: left,
    };
    let runs = TaskTracker::new();
    let ended = tokio::select! {
        never = attend(supervisor, &workshop, &runs) => match never {},
        () = shutdown.soft.cancelled() => Ok(()),
        ended = &mut keeping => ended.map_err(Error::Keeper),
        worked = work(settings, &workshop, &spool, &runs, (found, orders), shutdown) => worked,
    };
    supervisor.stopping("takes no more work, and sees to what runs");
    match stop_mode(settings) {
        StopMode::Leave if ended.is_ok() => {
            leave.cancel();
            shutdown.hard.cancel();
        }
        StopMode::Drain if ended.is_ok() => {}
        _ => shutdown.hard.cancel(),
    }
    shutdown.soft.cancel();
    runs.close();
    tracing::info!(running = runs.len(), "takes no more work");
    runs.wait().await;
    keeping.abort();
    watching.abort();
    containers.drain().await;
    // The tasks that look at the switch and make containers end with the last who goes by them.
    drop((workshop, containers));
    tracker.close();
    tracker.wait().await;
    ended
}

/// Registers, however long it takes, and ends what was found running as soon as the host is frozen, with the
/// cluster or without. `false`: the daemon is told to end.
async fn introduce(
    coordinator: &Coordinator,
    found: &mut Left,
    switch: &mut Switch,
    shutdown: &Shutdown,
) -> bool {
    let mut registered = std::pin::pin!(coordinator.register());
    loop {
        tokio::select! {
            biased;
            () = shutdown.soft.cancelled() => return false,
            () = switch.frozen(), if !found.running.is_empty() => stop_all(found).await,
            () = &mut registered => return true,
        }
    }
}

fn stop_mode(settings: &Settings) -> StopMode {
    // The settings were checked; without a word, what runs is not ended at once.
    StopMode::parse(&settings.stop_mode).unwrap_or(StopMode::Drain)
}

/// Deals with what was found by a daemon that is told to end before it could tell anybody of it.
fn leave_all(settings: &Settings, found: Left) {
    if stop_mode(settings) == StopMode::Leave {
        found.running.into_iter().for_each(skyclaw_exec::Running::leave);
    }
    // Else dropping them ends them. Their records stay, and are told at the next start.
}

/// Ends what an earlier daemon left running, on a host that is frozen.
async fn stop_all(found: &mut Left) {
    let ends = found.running.drain(..).map(|running| {
        let (stopper, stop) = stop_channel();
        stopper.stop(Why::Tripped.stop());
        async move {
            let ended = running.wait(stop).await;
            drop(stopper);
            ended
        }
    });
    found.ended.extend(join_all(ends).await);
}

/// How this host introduces itself.
fn card(settings: &Settings, enforcement: &Enforcement, containers: &Containers) -> RegisterHostBody {
    let machine = || gethostname().ok().and_then(|name| name.into_string().ok());
    RegisterHostBody {
        host_id: None,
        name: Some(settings.host_name.clone().or_else(machine).unwrap_or_else(|| "host".to_owned())),
        capabilities: Some(containers.capable(&settings.capabilities)),
        max_parallel: Some(settings.max_parallel),
        enforces: Some(containers.enforces(enforcement)),
    }
}

/// Takes over and tells what an earlier daemon could not, then claims and runs for ever.
async fn work(
    settings: &Settings,
    workshop: &Workshop,
    spool: &Spool,
    runs: &TaskTracker,
    (found, orders): (Left, watch::Receiver<Vec<StopService>>),
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let mut claims = Claims::new(workshop.clone(), settings.max_parallel, settings.poll_ms.0, runs.clone());
    let place = services::Place {
        coordinator: workshop.coordinator.clone(),
        driver: workshop.driver.clone(),
        containers: workshop.containers.clone(),
        base_port: settings.service_base_port,
        public_base_url: settings.service_host_public_base_url.as_ref().map(HttpUrl::to_string),
        switch: workshop.switch.clone(),
        orders,
        soft: shutdown.soft.clone(),
        leave: workshop.leave.clone(),
    };
    let mut services = Services::new(place, settings.poll_ms.0, runs.clone());
    // First of all: leases run on meanwhile, and only the keeper renews them.
    for running in found.running {
        match Ticket::read(running.label()) {
            Some(Ticket::Job(job)) => claims.adopt(running, job),
            Some(Ticket::Service(service)) => services.adopt(running, service),
            None => {
                tracing::warn!(label = %running.label(), "a run of nothing that is known here is ended");
                drop(running);
            }
        }
    }
    for (kept, completion) in spool.kept().map_err(Error::Spool)? {
        tracing::info!(job = %completion.job, "telling an outcome of an earlier start");
        workshop.deliver(completion, Some(kept)).await;
    }
    for ended in found.ended {
        match Ticket::read(ended.label()) {
            Some(Ticket::Job(job)) => {
                tracing::info!(job = %job.job, "telling how a run ended that nobody had waited for");
                let container = workshop.tell(&job, End::Ended(ended)).await;
                workshop.containers.clear(container.as_deref()).await;
            }
            // A service that does not run is claimed anew.
            Some(Ticket::Service(_)) | None => drop(ended.forget().await),
        }
    }
    if settings.service_host_enabled {
        tokio::join!(claims.work(), services.work());
    } else {
        claims.work().await;
    }
    Ok(())
}
