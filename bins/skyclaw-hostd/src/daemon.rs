//! The parts put together, from start to end.

use std::path::Path;
use std::time::Duration;

use nix::unistd::gethostname;
use skyclaw_client::Client;
use skyclaw_config::{HttpUrl, Secret, Shutdown, ids};
use skyclaw_exec::Driver;
use skyclaw_proto::request::RegisterHostBody;
use tokio_util::task::TaskTracker;

use crate::claims::{Claims, Workshop};
use crate::coordinator::Coordinator;
use crate::keeper::Keeper;
use crate::services::{Place, Services};
use crate::settings::Settings;
use crate::spool::Spool;
use crate::state::{self, StateDir};

/// How long one coordinator may take to answer, besides what it was asked to wait.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
/// How long all of them may take together; what is not answered by then is logged, and asked again.
const DEADLINE: Duration = Duration::from_secs(15);

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
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

/// Works for the cluster until `shutdown`. `search_path` is where allowed commands are looked up,
/// `base_dir` what directories that are not absolute are relative to.
///
/// # Errors
/// When the daemon cannot start, or must not go on.
pub async fn run(
    settings: &Settings,
    search_path: &str,
    base_dir: &Path,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let state = StateDir::open(&base_dir.join(&settings.state_dir))?;
    let host = match &settings.host_id {
        Some(given) => given.clone(),
        None => state.host_id(ids::host)?,
    };
    let spool = Spool::open(state.path()).map_err(Error::Spool)?;
    let driver = Driver::new(settings.driver(search_path, state.path(), base_dir))?;
    let left = driver.recover()?;
    if left > 0 {
        tracing::warn!(left, "ended what an earlier daemon had left running");
    }
    let mut config =
        skyclaw_client::Config::new(settings.coordinators(), settings.token.clone().map(Secret::into_inner));
    // A lease must not run out because one coordinator of several keeps silent.
    config.attempt_timeout = ATTEMPT_TIMEOUT;
    config.deadline = DEADLINE;
    let coordinator = Coordinator::new(Client::new(config)?, host, card(settings));
    tracing::info!(host = %coordinator.host, coordinators = ?settings.coordinators(), "host daemon started");
    tokio::select! {
        () = shutdown.soft.cancelled() => return Ok(()),
        () = coordinator.register() => {}
    }

    let tracker = TaskTracker::new();
    let (keeper, mut keeping) =
        Keeper::start(&tracker, coordinator.clone(), settings.heartbeat_ms.0, settings.stop_grace_ms.0);
    let workshop =
        Workshop { coordinator, keeper, driver, spool: spool.clone(), hard: shutdown.hard.clone() };
    let runs = TaskTracker::new();
    let ended = tokio::select! {
        () = shutdown.soft.cancelled() => Ok(()),
        ended = &mut keeping => ended.map_err(Error::Keeper),
        worked = work(settings, &workshop, &spool, &runs, shutdown) => worked,
    };
    if ended.is_err() {
        shutdown.hard.cancel();
    }
    shutdown.soft.cancel();
    runs.close();
    tracing::info!(running = runs.len(), "takes no more work");
    runs.wait().await;
    keeping.abort();
    tracker.close();
    tracker.wait().await;
    ended
}

/// How this host introduces itself.
fn card(settings: &Settings) -> RegisterHostBody {
    let machine = || gethostname().ok().and_then(|name| name.into_string().ok());
    RegisterHostBody {
        host_id: None,
        name: Some(settings.host_name.clone().or_else(machine).unwrap_or_else(|| "host".to_owned())),
        capabilities: Some(settings.capabilities.clone()),
        max_parallel: Some(settings.max_parallel),
        ..RegisterHostBody::default()
    }
}

/// Tells what an earlier daemon could not, then claims and runs for ever.
async fn work(
    settings: &Settings,
    workshop: &Workshop,
    spool: &Spool,
    runs: &TaskTracker,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    for (kept, completion) in spool.kept().map_err(Error::Spool)? {
        tracing::info!(job = %completion.job, "telling an outcome of an earlier start");
        workshop.deliver(completion, Some(kept)).await;
    }
    let claims = Claims::new(workshop.clone(), settings.max_parallel, settings.poll_ms.0, runs.clone());
    if !settings.service_host_enabled {
        claims.work().await;
        return Ok(());
    }
    let place = Place {
        coordinator: workshop.coordinator.clone(),
        driver: workshop.driver.clone(),
        base_port: settings.service_base_port,
        public_base_url: settings.service_host_public_base_url.as_ref().map(HttpUrl::to_string),
        soft: shutdown.soft.clone(),
    };
    let services = Services::new(place, settings.poll_ms.0, runs.clone());
    tokio::join!(claims.work(), services.work());
    Ok(())
}
