//! The coordinator. Reads its settings, starts its node and serves until it is told to stop.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use skyclaw_config::otlp::{self, Export, Own};
use skyclaw_config::{Environment, HttpUrl, Loaded, Shutdown, Supervisor, clock, ids, logging, supervisor};
use skyclaw_replication::{Discovery, HttpWire, JobRetention, Node, Retention};
use skyclawd::admission::Admission;
use skyclawd::app::App;
use skyclawd::metrics::{Metrics, Sheds};
use skyclawd::router::router;
use skyclawd::server::{Limits, Server};
use skyclawd::settings::{Checked, Settings};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A request is many small pieces of memory that one thread takes and another gives back, which the allocator
/// of the C library is slow at.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NAME: &str = "skyclawd";
const ABOUT: &str = "The Skyclaw coordinator: keeps the queue of jobs and services and hands them to hosts";
/// Most whole states on their way in or out at once.
const BULK: usize = 4;
/// How long the last tasks may take to end once all files are closed.
const LAST_TASKS: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let env = Environment::of_process();
    let matches = skyclaw_config::command::<Settings>(NAME, env!("CARGO_PKG_VERSION"), ABOUT).get_matches();
    let started = skyclaw_config::load::<Settings>(NAME, &matches, &env).map_err(anyhow::Error::from);
    match started.and_then(|loaded| start(loaded, &env)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{NAME}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(loaded: Loaded<Settings>, env: &Environment) -> anyhow::Result<()> {
    let Loaded { settings, warnings, print } = loaded;
    if let Some(text) = print {
        print!("{text}");
        return Ok(());
    }
    let own = Own {
        endpoint: settings.otlp_endpoint.as_ref(),
        headers: settings.otlp_headers.as_ref(),
        sample: settings.otlp_sample,
        service: NAME,
        version: env!("CARGO_PKG_VERSION"),
    };
    let export = Export::find(&own, env)?;
    let exporting = logging::init_exporting(&settings.log, settings.log_format, env, export.as_ref())?;
    let ended = serve(settings, &warnings, env, exporting.is_on());
    exporting.finish();
    ended
}

fn serve(
    settings: Settings,
    warnings: &[String],
    env: &Environment,
    exports_traces: bool,
) -> anyhow::Result<()> {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let socket = supervisor::handed_over()?;
    let checked = match &socket {
        Some(socket) => settings.check_handed_over(socket.local_addr()?)?,
        None => settings.check()?,
    };
    let supervisor = Supervisor::of_process(env);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if env.get("TOKIO_WORKER_THREADS").is_none() {
        runtime.worker_threads(workers());
    }
    let runtime = runtime.enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(run(
        settings,
        checked,
        socket,
        supervisor,
        exports_traces,
    ))
}

/// How many threads answer requests. The other half of the processors has the writers of log and database to
/// run; and what a request costs grows with the threads that it wanders between. What takes long is done aside.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |all| (all.get() / 2).max(1))
}

async fn run(
    settings: Settings,
    checked: Checked,
    socket: Option<TcpListener>,
    supervisor: Supervisor,
    exports_traces: bool,
) -> anyhow::Result<()> {
    let shutdown = Shutdown::install(settings.shutdown_grace_ms.0).context("cannot listen for signals")?;
    raise_file_limit(settings.max_connections);
    let sheds = Sheds::default();
    let server = server(&settings, checked.address, socket, &sheds)?;
    let address = server.address().context("cannot tell where it listens")?;

    supervisor.status("opens its database and its log");
    let tracker = TaskTracker::new();
    let options = options(&settings, address)?;
    let node = tokio::select! {
        node = Node::start(options, &tracker) => node?,
        // Whatever it has opened is as a crash would leave it, which is no harm.
        () = shutdown.soft.cancelled() => return Ok(()),
    };
    if exports_traces {
        node.follow_traces(otlp::follow);
    }
    let app = app(&settings, checked, node.clone(), &sheds, shutdown.soft.clone(), tracker.clone());
    warn_of_lone_node(&settings, &node);

    // Whoever started this waits for the line; who connects from now on is answered.
    println!("listening on http://{address}");
    let _ = std::io::stdout().flush();
    tracing::info!(%address, node = %node.node_id(), "serving");
    // Also where it waits for others: they need it to answer.
    supervisor.ready(&stands(&node));
    // While the leadership is handed over, the others must still be answered.
    let end = CancellationToken::new();
    let serve = server.run(router(Arc::new(app)), end.clone(), shutdown.hard.clone(), &tracker);
    let stopped = async {
        shutdown.soft.cancelled().await;
        supervisor.stopping("answers what is under way, and ends");
        node.hand_over(None).await;
        end.cancel();
        std::future::pending::<()>().await;
    };
    let well = async {
        tokio::select! {
            never = supervisor.attend(|| node.answers(), || stands(&node)) => match never {},
            // From now on it is not asked for any more.
            () = shutdown.soft.cancelled() => std::future::pending::<()>().await,
        }
    };
    let failed = tokio::select! {
        () = serve => None,
        why = node.failed() => Some(why),
        () = stopped => None,
        () = well => None,
    };
    if let Some(why) = failed {
        anyhow::bail!("cannot go on: {why}");
    }
    node.shutdown().await;
    shutdown.finish().await;
    // Its tasks end when nobody can ask anything of them any more.
    drop(node);
    tracker.close();
    if tokio::time::timeout(LAST_TASKS, tracker.wait()).await.is_err() {
        tracing::warn!(tasks = tracker.len(), "not everything ended in time; what was acknowledged is safe");
    }
    Ok(())
}

/// What listens: the socket that was handed over, or one of its own.
fn server(
    settings: &Settings,
    address: SocketAddr,
    socket: Option<TcpListener>,
    sheds: &Sheds,
) -> anyhow::Result<Server> {
    let limits = Limits {
        connections: settings.max_connections,
        idle: settings.idle_timeout_ms.0,
        sheds: sheds.clone(),
    };
    match socket {
        Some(socket) => Server::over(socket, limits).context("cannot use the socket that was handed over"),
        None => Server::bind(address, limits).with_context(|| format!("cannot listen on {address}")),
    }
}

fn options(settings: &Settings, address: SocketAddr) -> anyhow::Result<skyclaw_replication::Options> {
    let wire = HttpWire::new(settings.peer_urls.iter().map(HttpUrl::as_str)).map_err(anyhow::Error::msg)?;
    Ok(skyclaw_replication::Options {
        node_id: settings.node_id.clone(),
        db_path: settings.db_path.clone(),
        lease: settings.lease_ms.0,
        token: settings.token.as_ref().map_or_else(String::new, |token| token.expose().to_owned()),
        url: settings.own_url(address),
        peer_urls: settings.peer_urls.iter().map(ToString::to_string).collect(),
        bootstrap_expect: settings.bootstrap_expect(),
        max_voters: settings.max_voters,
        discovery: discovery(settings, address),
        wire: Arc::new(wire),
        events: Retention { count: settings.event_retention_max, age: settings.event_retention_ms.0 },
        jobs: JobRetention { age: settings.job_retention_ms.0, count: settings.job_retention_max.0 },
        min_replications: settings.min_replications,
        clock: clock::now,
        new_uuid: ids::uuid,
    })
}

/// How a coordinator that serves does, for people.
fn stands(node: &Node) -> String {
    let health = node.health();
    match health.reason {
        None => "serves and takes writes".to_owned(),
        Some(reason) => format!("serves and takes no writes: {reason}"),
    }
}

fn app(
    settings: &Settings,
    checked: Checked,
    node: Node,
    sheds: &Sheds,
    soft: CancellationToken,
    tracker: TaskTracker,
) -> App {
    App {
        metrics: Metrics::new(&node, sheds),
        node,
        public_url: settings.public_url.as_ref().map(ToString::to_string),
        token: checked.token,
        public_keys: checked.public_keys,
        cors_origin: checked.cors_origin,
        admission: Admission::counting(settings.max_in_flight, settings.max_parked, sheds.clone())
            .with_streams(settings.max_streams),
        bulk: Arc::new(Semaphore::new(BULK)),
        body_timeout: settings.body_timeout_ms.0,
        idempotency_ttl: settings.idempotency_ttl_ms.0,
        soft,
        tracker,
        clock: clock::now,
        new_uuid: ids::uuid,
    }
}

/// A coordinator that has no peers and was told no address for itself has nobody to gossip with.
fn discovery(settings: &Settings, listen: SocketAddr) -> Option<Discovery> {
    let is_alone = settings.peer_urls.is_empty() && settings.public_url.is_none();
    let generation = u64::try_from(clock::now().as_millis()).unwrap_or(0);
    (settings.peer_discovery && !is_alone).then_some(Discovery {
        listen,
        interval: settings.peer_sync_ms.0,
        generation,
    })
}

fn warn_of_lone_node(settings: &Settings, node: &Node) {
    let (wanted, known) = (settings.min_replications, node.known_urls().len());
    if known + 1 < wanted as usize {
        tracing::warn!(
            min_replications = wanted,
            known_peers = known,
            "every write is refused until enough peers are known; \
             for a single node set SKYCLAW_MIN_REPLICATIONS to 1"
        );
    }
}

/// The usual soft limit of 1024 open files is meant for programs that use `select`.
fn raise_file_limit(connections: usize) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    /// Files that are no connections: database, log, and room to spare.
    const OTHERS: u64 = 256;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let needed = (connections as u64).saturating_add(OTHERS);
    let limit = needed.clamp(soft, hard);
    if setrlimit(Resource::RLIMIT_NOFILE, limit, hard).is_err() || limit < needed {
        tracing::warn!(hard, needed, "fewer files may be open than SKYCLAW_MAX_CONNECTIONS asks for");
    }
}
