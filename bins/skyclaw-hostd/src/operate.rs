//! What an operator says to a host on its machine: `freeze`, `thaw` and `status`. It needs no cluster and no
//! daemon that runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Arg, ArgMatches, Command};
use nix::unistd::{Uid, getuid};
use skyclaw_config::{Environment, clock};
use skyclaw_proto::limits;
use skyclaw_proto::record::HostFreeze;

use crate::state::{self, StateDir};
use crate::switch::{SwitchFile, user_name};

const FREEZE: &str = "freeze";
const THAW: &str = "thaw";
const STATUS: &str = "status";
const REASON: &str = "reason";
const STATE_DIR: &str = "directory";
/// How long a freeze waits for runs to end, before it says what still runs.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// There is nothing of a host.
    #[error(
        "{} is no state directory of a host daemon: name it with --state-dir (the setting SKYCLAW_STATE_DIR of \
         the daemon)",
        path.display()
    )]
    NoHost {
        /// The directory.
        path: PathBuf,
    },
    /// The file cannot be written or removed.
    #[error("the freeze file in {} cannot be changed: nothing was done", path.display())]
    File {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A reason is too long.
    #[error("--reason must be at most {} bytes long", limits::MAX_REASON_LEN)]
    Reason,
    /// It is frozen, and something goes on.
    #[error("the host is frozen, but {runs} runs have not ended yet: look at them with `status`")]
    StillRuns {
        /// How many.
        runs: usize,
    },
}

/// The subcommands.
#[must_use]
pub fn commands() -> Vec<Command> {
    let dir = || {
        let help = "The daemon's state directory [default: as the settings say]";
        Arg::new(STATE_DIR).long("state-dir").value_name("DIR").help(help)
    };
    let reason = Arg::new(REASON).long(REASON).value_name("TEXT").help("Why");
    vec![
        Command::new(FREEZE)
            .about("Stop everything that runs on this host, and let nothing begin until `thaw`; needs no cluster")
            .arg(reason)
            .arg(dir()),
        Command::new(THAW).about("Let this host run work again").arg(dir()),
        Command::new(STATUS).about("Say whether this host is frozen, and what runs").arg(dir()),
    ]
}

/// The state directory that a subcommand names itself. Then no other setting matters.
#[must_use]
pub fn named_dir(matches: &ArgMatches) -> Option<PathBuf> {
    matches.subcommand()?.1.get_one::<String>(STATE_DIR).map(PathBuf::from)
}

/// Does what the subcommand says, and gives what there is to say.
///
/// # Errors
/// When it could not be done.
pub fn act(matches: &ArgMatches, dir: &Path, env: &Environment) -> Result<String, Fault> {
    if !state::is_state_dir(dir) {
        return Err(Fault::NoHost { path: dir.to_owned() });
    }
    let file = SwitchFile::in_dir(dir);
    let fault = |source| Fault::File { path: dir.to_owned(), source };
    match matches.subcommand() {
        Some((FREEZE, given)) => {
            let reason = given.get_one::<String>(REASON).map(|reason| reason.trim().to_owned());
            let reason = reason.filter(|reason| !reason.is_empty());
            if reason.as_ref().is_some_and(|reason| reason.len() > limits::MAX_REASON_LEN) {
                return Err(Fault::Reason);
            }
            let wanted = HostFreeze { since: clock::now(), reason, by: operator(env) };
            let (frozen, is_new) = file.freeze(&wanted).map_err(fault)?;
            let runs = wait_for_end(dir);
            if runs > 0 {
                return Err(Fault::StillRuns { runs });
            }
            let done = if is_new { "frozen" } else { "was frozen already" };
            Ok(format!("{done} {}; nothing runs", said(&frozen)))
        }
        Some((THAW, _)) => match file.thaw(clock::now(), operator(env)).map_err(fault)? {
            Some(frozen) => Ok(format!("thawed; it was frozen {}", said(&frozen))),
            None => Ok("was not frozen".to_owned()),
        },
        _ => {
            let switch = match file.read() {
                Some(frozen) => format!("frozen {}", said(&frozen)),
                None => "not frozen".to_owned(),
            };
            let daemon = match StateDir::is_in_use(dir) {
                Ok(true) => "runs".to_owned(),
                Ok(false) => "does not run".to_owned(),
                Err(error) => format!("cannot be seen: {error}"),
            };
            Ok(format!("switch  {switch}\ndaemon  {daemon}\nruns    {}", running(dir)))
        }
    }
}

fn said(frozen: &HostFreeze) -> String {
    let by = frozen.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let why = frozen.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("since {}{by}{why}", frozen.since)
}

/// Who sits at the machine, also behind `sudo`.
fn operator(env: &Environment) -> Option<String> {
    let behind = env.get("SUDO_USER").filter(|_| getuid() == Uid::from_raw(0)).map(str::to_owned);
    let behind = behind.filter(|name| name.len() <= limits::MAX_NAME_LEN);
    behind.or_else(|| user_name(getuid()))
}

/// Waits until nothing runs, and says what does after all.
fn wait_for_end(dir: &Path) -> usize {
    let until = Instant::now() + PATIENCE;
    loop {
        let runs = running(dir);
        if runs == 0 || Instant::now() > until {
            return runs;
        }
        std::thread::sleep(PAUSE);
    }
}

fn running(dir: &Path) -> usize {
    let runs = fs::read_dir(dir.join(state::RUNS)).into_iter().flatten().flatten();
    runs.filter(|run| skyclaw_exec::is_running(&run.path())).count()
}
