//! Podman on this host: whether it is there, what runs in it, and what is left of that.
//!
//! ```text
//! away ── the service answers ──> swept ──> there, and said to the coordinators
//!   ^────────────────── it does not ──────────────────┘
//! ```
//! Runs go on without the service and without this daemon, kept by their shims; the service is needed to start
//! one, and to clear it away. A host without it goes on with processes, and takes no jobs that need it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skyclaw_exec::podman::{Config, Error, Keep, Podman, Spec, Swept};
use skyclaw_exec::{
    Driver, Ended, Enforcement, Error as Unstarted, Left, Outcome, RunSpec, Running, StopSignal,
};
use skyclaw_proto::record::{Job, Service};
use skyclaw_proto::{Enforces, Isolation};
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use crate::advert;
use crate::coordinator::Coordinator;
use crate::podman::Terms;
use crate::stopping::Why;

/// How long the service may take to answer at the start, before the host goes on without it: what runs waits for
/// its lease to be renewed.
const FIRST_PATIENCE: Duration = Duration::from_secs(3);
/// How long it may take when it is only asked whether it is there.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is asked, while it does not answer and while it does.
const PACE: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(15));
/// After how many looks it is swept although nothing is known to be left: what an earlier daemon asked for may
/// have been done after it was gone.
const LOOKS: u32 = 20;

/// The handle on Podman. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Containers(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    terms: Terms,
    config: Config,
    tracker: TaskTracker,
    state: watch::Sender<State>,
    /// Runs whose containers are not to be swept.
    held: watch::Sender<BTreeSet<String>>,
    /// Set off when the service should be looked after at once.
    look: Notify,
}

/// How it stands with the service.
#[derive(Debug, Clone, Default)]
struct State {
    /// Once it has answered; from then on this is how it is spoken to.
    podman: Option<Podman>,
    missing_networks: BTreeSet<String>,
    /// Why it cannot be used now.
    away: Option<String>,
    /// Something may be left of a run that is over.
    unswept: bool,
}

/// Where a job runs here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Process,
    /// `forced`: by this host, though the job does not ask for it.
    Container {
        forced: bool,
    },
}

/// Why a run was not started.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Its lease was over. Whose it is now is for the coordinators to say.
    TooLate,
    /// All others, as its outcome.
    Told(Box<Outcome>),
}

impl From<Unstarted> for Fault {
    fn from(error: Unstarted) -> Self {
        match error {
            Unstarted::TooLate => Self::TooLate,
            error => Self::Told(Box::new(Outcome::not_started(&error))),
        }
    }
}

impl Containers {
    /// Podman as the settings have it; `found` is what an earlier daemon left. Makes containers ahead on
    /// `tracker`.
    pub(crate) fn new(
        terms: Option<Terms>,
        owner: &str,
        state_dir: &Path,
        found: &Left,
        tracker: &TaskTracker,
    ) -> Self {
        let running = found.running.iter().filter_map(Running::container);
        let held = running.chain(found.ended.iter().filter_map(Ended::container)).map(str::to_owned);
        let away = Some("it was not looked for yet".to_owned());
        Self(terms.map(|terms| {
            Arc::new(Inner {
                config: terms.driver(owner, state_dir),
                terms,
                tracker: tracker.clone(),
                state: watch::Sender::new(State { away, unswept: true, ..State::default() }),
                held: watch::Sender::new(held.collect()),
                look: Notify::new(),
            })
        }))
    }

    /// Looks for the service, and clears away what is nobody's. Without it the host goes on.
    pub(crate) async fn connect(&self) {
        if let Some(inner) = &self.0 {
            inner.look_after(FIRST_PATIENCE).await;
        }
    }

    /// Looks after the service for ever, and tells the coordinators of what changes.
    pub(crate) async fn watch(
        self,
        coordinator: Coordinator,
        processes: Enforcement,
        capabilities: Vec<String>,
    ) {
        let Some(inner) = &self.0 else { return std::future::pending().await };
        // What the coordinators were told when this host was registered.
        let mut told = inner.away().is_none();
        for look in 1_u32.. {
            let pace = if inner.is_settled() { PACE.1 } else { PACE.0 };
            tokio::select! {
                () = tokio::time::sleep(pace) => {}
                () = inner.look.notified() => {}
            }
            inner.state.send_modify(|state| state.unswept |= look.is_multiple_of(LOOKS));
            inner.look_after(PATIENCE).await;
            let is_there = inner.away().is_none();
            if is_there != told {
                told = is_there;
                let (enforces, capable) = (self.enforces(&processes), self.capable(&capabilities));
                coordinator.reword(|card| {
                    card.enforces = Some(enforces);
                    card.capabilities = Some(capable);
                });
                coordinator.register().await;
            }
        }
    }

    /// What this host can enforce, of processes and in Podman.
    pub(crate) fn enforces(&self, processes: &Enforcement) -> Enforces {
        let none = "no image may be run on this host (SKYCLAW_PODMAN_IMAGES)";
        let Some(inner) = &self.0 else { return advert::without_podman(processes, none) };
        let state = inner.state.borrow();
        match (&state.podman, &state.away) {
            (Some(podman), None) => advert::with_podman(
                processes,
                podman.enforcement(),
                &inner.terms.policy,
                &state.missing_networks,
            ),
            (_, away) => advert::without_podman(processes, away.as_deref().unwrap_or_default()),
        }
    }

    /// What of its capabilities this host has now: work that must run in Podman is not taken without it.
    pub(crate) fn capable(&self, capabilities: &[String]) -> Vec<String> {
        let Some(inner) = &self.0 else { return capabilities.to_vec() };
        let (is_away, forced) = (inner.away().is_some(), &inner.terms.policy.forced_capabilities);
        capabilities.iter().filter(|it| !(is_away && forced.contains(*it))).cloned().collect()
    }

    /// Where a job runs here: as it asks, unless this host says otherwise.
    pub(crate) fn way(&self, job: &Job) -> Way {
        if job.isolation == Some(Isolation::Podman) {
            return Way::Container { forced: false };
        }
        let required = &job.requirement.required_capabilities;
        let required = required.iter().map(ToString::to_string).collect::<Vec<_>>();
        match &self.0 {
            Some(inner) if inner.terms.policy.forces(&required, &job.labels) => {
                Way::Container { forced: true }
            }
            _ => Way::Process,
        }
    }

    /// Whether a service may run here, which is always as a process.
    pub(crate) fn takes(&self, service: &Service) -> Result<(), String> {
        let required = service.required_capabilities.iter().map(ToString::to_string).collect::<Vec<_>>();
        match &self.0 {
            Some(inner) if inner.terms.policy.forces(&required, &service.labels) => {
                Err("this host runs such work in Podman only, where it runs no services".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Starts a job's run in a container.
    pub(crate) async fn start(
        &self,
        job: &Job,
        run: &RunSpec,
        forced: bool,
        driver: &Driver,
        stop: &StopSignal,
    ) -> Result<Running, Fault> {
        let refused = |why: String| Fault::Told(Box::new(Outcome::refused(why)));
        let Some(inner) = &self.0 else {
            return Err(refused("isolation: this host runs nothing in Podman".to_owned()));
        };
        // It was meant for a process: what this host allows of those holds for it as well.
        if forced && !driver.config().allowlist.lists(&run.command) {
            return Err(Unstarted::NotAllowed { command: run.command.clone() }.into());
        }
        let Some(image) = job.image.clone().or_else(|| inner.terms.default_image.clone()) else {
            let why = if forced { "this host runs such jobs in Podman" } else { "the job names none" };
            return Err(refused(format!("image: {why}, and this host has no default for it")));
        };
        let gave_up = || Fault::Told(Box::new(Outcome::given_up(Why::NoPodman.stop())));
        let Some(podman) = inner.podman() else {
            inner.is_back().await;
            return Err(gave_up());
        };
        let keep = Keep { extended: Some(stop.clone()), ..Keep::of(run) };
        match podman.start_kept(Spec::job(job, run, image), keep, driver).await {
            Ok(running) => {
                inner.hold(running.container());
                Ok(running)
            }
            Err(Error::TooLate) => Err(Fault::TooLate),
            Err(Error::Halted { why }) => Err(Unstarted::Halted { why }.into()),
            Err(error) if error.is_passing() => {
                tracing::warn!(error = error.describe(), "a run could not be started");
                inner.lose_sight(error.describe());
                Err(gave_up())
            }
            Err(error) => Err(refused(error.describe())),
        }
    }

    /// Takes up again a run that an earlier daemon started, or was about to.
    pub(crate) async fn take_up(&self, running: &mut Running) -> Result<(), String> {
        let (Some(inner), Some(_)) = (&self.0, running.container()) else {
            return match running.container() {
                Some(_) if !running.has_begun() => {
                    Err("this host runs nothing in Podman any more".to_owned())
                }
                _ => Ok(()),
            };
        };
        if running.has_begun() {
            return Ok(());
        }
        let Some(podman) = inner.podman() else { return Err(inner.away().unwrap_or_default()) };
        let taken = tokio::time::timeout(PATIENCE, podman.take_up(running)).await;
        taken.map_or_else(|_| Err("the service takes too long".to_owned()), |it| it.map_err(|e| e.describe()))
    }

    /// Clears away what is left of a run that is over. What cannot be now is when the service answers again.
    pub(crate) async fn clear(&self, container: Option<&str>) {
        let (Some(inner), Some(name)) = (&self.0, container) else { return };
        inner.held.send_if_modified(|held| held.remove(name));
        let cleared = match inner.podman() {
            Some(podman) => podman.clear(name).await.map_err(|error| error.describe()),
            None => Err(inner.away().unwrap_or_default()),
        };
        if let Err(why) = cleared {
            tracing::warn!(
                run = name,
                why,
                "what is left of a run could not be cleared away; it is tried again"
            );
            inner.state.send_modify(|state| state.unswept = true);
        }
    }

    /// Gives back what was made ahead, when the daemon ends.
    pub(crate) async fn drain(&self) {
        if let Some(podman) = self.0.as_ref().and_then(|inner| inner.podman()) {
            let _ = tokio::time::timeout(PATIENCE, podman.drain()).await;
        }
    }
}

impl Inner {
    fn away(&self) -> Option<String> {
        self.state.borrow().away.clone()
    }

    /// Whether there is nothing to be tried again soon.
    fn is_settled(&self) -> bool {
        let state = self.state.borrow();
        state.away.is_none() && !state.unswept
    }

    fn podman(&self) -> Option<Podman> {
        let state = self.state.borrow();
        state.podman.clone().filter(|_| state.away.is_none())
    }

    fn hold(&self, container: Option<&str>) {
        if let Some(name) = container {
            self.held.send_if_modified(|held| held.insert(name.to_owned()));
        }
    }

    /// Waits a while for the service. What is given back without it may be offered again at once.
    async fn is_back(&self) {
        let mut state = self.state.subscribe();
        let back = state.wait_for(|state| state.away.is_none());
        let _ = tokio::time::timeout(PACE.0, back).await;
    }

    fn lose_sight(&self, why: String) {
        self.state.send_modify(|state| state.away = Some(why));
        self.look.notify_one();
    }

    /// Finds out how it stands with the service, and clears away what is nobody's.
    async fn look_after(&self, patience: Duration) {
        let looked = within(patience, self.look()).await;
        let before = self.away();
        match (&looked, &before) {
            (Ok(_), Some(_)) => tracing::info!(socket = %self.config.socket.display(), "Podman can be used"),
            (Err(why), before) if before.as_ref() != Some(why) => {
                tracing::warn!(why, "Podman cannot be used; it is looked for again and again");
            }
            _ => {}
        }
        self.state.send_modify(|state| {
            // Who knows what became of what was asked of it last.
            state.unswept |= looked.is_err();
            state.away = looked.as_ref().err().cloned();
        });
        if let Ok(podman) = looked
            && self.state.borrow().unswept
        {
            self.sweep(&podman, patience).await;
        }
    }

    async fn look(&self) -> Result<Podman, String> {
        let known = self.state.borrow().podman.clone();
        match known {
            Some(podman) => {
                podman.ping().await.map_err(|error| error.describe())?;
                Ok(podman)
            }
            None => self.connect().await.map_err(|error| error.describe()),
        }
    }

    /// What cannot be cleared away is no reason not to run others: nothing runs in it that nobody keeps.
    async fn sweep(&self, podman: &Podman, patience: Duration) {
        self.state.send_modify(|state| state.unswept = false);
        let held = self.held.borrow().clone();
        let sweep = async { podman.sweep(&held).await.map_err(|error| error.describe()) };
        match within(patience, sweep).await {
            Ok(swept) if swept == Swept::default() => {}
            Ok(swept) => tracing::info!(?swept, "cleared away what was left of earlier runs"),
            Err(why) => {
                tracing::warn!(
                    why,
                    "what is left of earlier runs could not be cleared away; it is tried again"
                );
                self.state.send_modify(|state| state.unswept = true);
            }
        }
    }

    async fn connect(&self) -> Result<Podman, Error> {
        let podman = Podman::connect(self.config.clone(), &self.tracker).await?;
        podman.check_filter()?;
        let missing = podman.missing_networks().await?;
        self.state.send_modify(|state| {
            state.podman = Some(podman.clone());
            state.missing_networks = missing;
        });
        Ok(podman)
    }
}

/// Gives up what takes too long.
async fn within<T>(patience: Duration, what: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let late = || format!("the Podman service did not answer within {} s", patience.as_secs());
    tokio::time::timeout(patience, what).await.unwrap_or_else(|_| Err(late()))
}
