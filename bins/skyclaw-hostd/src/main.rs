//! `skyclaw-hostd`: the host daemon.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use skyclaw_config::otlp::{Export, Own};
use skyclaw_config::{Environment, Shutdown, Supervisor, logging};
use skyclaw_exec::Shim;
use skyclaw_hostd::{Place, Settings, heap, operate, secrets};

const BIN: &str = "skyclaw-hostd";

/// What has this program keep one run instead. Internal: the daemon starts itself so.
const SHIM: &str = "shim";

fn main() -> ExitCode {
    // Before anything else: a shim is there once for each run, and must stay small.
    if std::env::args_os().nth(1).is_some_and(|arg| arg == SHIM) {
        return skyclaw_exec::shim::main();
    }
    // Nor may what it once ran as the same user look into this while it starts.
    if let Err(error) = secrets::seal() {
        eprintln!("Error: cannot keep other processes of this user out: {error}");
        return ExitCode::FAILURE;
    }
    match daemon() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:?}");
            ExitCode::FAILURE
        }
    }
}

fn daemon() -> anyhow::Result<()> {
    heap::share();
    let env = Environment::of_process();
    secrets::hide::<Settings>(&env).context("cannot hide the secrets in the environment")?;
    let about = "Runs jobs and services for a Skyclaw cluster";
    let matches = skyclaw_config::command::<Settings>(BIN, env!("CARGO_PKG_VERSION"), about)
        .subcommands(operate::commands())
        .get_matches();
    if let Some(dir) = operate::named_dir(&matches) {
        println!("{}", operate::act(&matches, &dir, &env)?);
        return Ok(());
    }
    let loaded = skyclaw_config::load::<Settings>(BIN, &matches, &env);
    secrets::forget::<Settings>(&env);
    let loaded = loaded?;
    loaded.settings.validate()?;
    if let Some(text) = loaded.print {
        print!("{text}");
        return Ok(());
    }
    let settings = loaded.settings;
    if matches.subcommand().is_some() {
        println!("{}", operate::act(&matches, &settings.state_dir, &env)?);
        return Ok(());
    }
    let own = Own {
        endpoint: settings.otlp_endpoint.as_ref(),
        headers: settings.otlp_headers.as_ref(),
        sample: settings.otlp_sample,
        service: BIN,
        version: env!("CARGO_PKG_VERSION"),
    };
    let export = Export::find(&own, &env)?;
    let exporting = logging::init_exporting(&settings.log, settings.log_format, &env, export.as_ref())?;
    let ended = serve(&settings, &loaded.warnings, &env);
    exporting.finish();
    ended
}

fn serve(settings: &Settings, warnings: &[String], env: &Environment) -> anyhow::Result<()> {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let base_dir = std::env::current_dir().context("cannot tell the working directory")?;
    let place = Place {
        search_path: env.get("PATH").unwrap_or_default().to_owned(),
        base_dir,
        // The program that runs now, also when its file was replaced meanwhile.
        shim: Shim { program: "/proc/self/exe".into(), args: vec![SHIM.to_owned()] },
        runtime_dir: env.get("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute()),
        supervisor: Supervisor::of_process(env),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = Shutdown::install(settings.drain_ms.0)?;
        let ended = skyclaw_hostd::run(settings, &place, &shutdown).await;
        shutdown.finish().await;
        anyhow::Ok(ended?)
    })?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}
