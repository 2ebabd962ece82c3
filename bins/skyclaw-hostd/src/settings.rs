//! What the daemon is told at its start.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use skyclaw_config::logging::{Filter, Format};
use skyclaw_config::otlp::Ratio;
use skyclaw_config::{HttpUrl, Millis, Secret, Supervisor};
use skyclaw_exec::{Allowlist, Config, Openclaw, Shim};
use skyclaw_proto::{HostId, limits};

use crate::policy::{self, StopMode};
use crate::state::RUNS;
use crate::switch::SwitchFile;

skyclaw_config::settings! {
    /// The settings of the host daemon.
    pub struct Settings {
        /// The coordinator to work for.
        coordinator_url: HttpUrl = "http://127.0.0.1:8787", env "SKYCLAW_COORDINATOR_URL";
        /// Coordinators of one cluster, separated by commas, instead of the one.
        coordinator_urls: Vec<HttpUrl>, env "SKYCLAW_COORDINATOR_URLS";
        /// The shared token of the cluster.
        token: Option<Secret>, env "SKYCLAW_TOKEN";
        /// The id of this host; made at the first start and kept in the state directory when not given.
        host_id: Option<HostId>, env "SKYCLAW_HOST_ID";
        /// The name of this host, for people; that of the machine when not given.
        host_name: Option<String>, env "SKYCLAW_HOST_NAME";
        /// What this host can do.
        capabilities: Vec<String> = "shell,openclaw,service-host", env "SKYCLAW_CAPABILITIES";
        /// Commands that may be run: names looked up in this daemon's PATH, or absolute paths.
        allowed_commands: Vec<String> = "openclaw,node,bash,sh,npm,pnpm", env "SKYCLAW_ALLOWED_COMMANDS";
        /// The command of OpenClaw jobs, which must be allowed as well.
        openclaw_command: String = "openclaw", env "SKYCLAW_OPENCLAW_COMMAND";
        /// The arguments of OpenClaw jobs that name none.
        openclaw_args: Vec<String> = "run", env "SKYCLAW_OPENCLAW_ARGS";
        /// How many jobs run at once.
        max_parallel: u32 = "1", env "SKYCLAW_MAX_PARALLEL";
        /// How long a job may run that says nothing of it, in milliseconds.
        timeout_ms: Millis = "300000", env "SKYCLAW_TIMEOUT_MS";
        /// How much is kept of each of a job's two streams, in bytes.
        max_output_bytes: usize = "131072", env "SKYCLAW_MAX_OUTPUT_BYTES";
        /// How long what is stopped may take to end before it is killed, in milliseconds.
        stop_grace_ms: Millis = "5000", env "SKYCLAW_STOP_GRACE_MS";
        /// How long jobs may go on when the daemon is told to end, in milliseconds; then they are stopped.
        drain_ms: Millis = "30000", env "SKYCLAW_DRAIN_MS";
        /// What becomes of runs when the daemon is told to end: drain lets jobs finish, stop ends them at
        /// once, leave lets them and services go on for the next start to take over.
        stop_mode: String = "drain", env "SKYCLAW_STOP_MODE";
        /// The user that runs have, by name or as UID:GID; the daemon's own when not given. Needs root.
        run_user: Option<String>, env "SKYCLAW_RUN_USER";
        /// Where runs may write besides their own directories: paths separated by commas, / for anywhere, own
        /// for nowhere else.
        writable_paths: Vec<String> = "/", env "SKYCLAW_WRITABLE_PATHS";
        /// How large a file a run may make, in bytes; 0 for as large as it likes.
        max_file_bytes: u64 = "0", env "SKYCLAW_MAX_FILE_BYTES";
        /// Whether to run what asks for limits that cannot be enforced here, without them.
        best_effort_limits: bool = "0", env "SKYCLAW_BEST_EFFORT_LIMITS";
        /// Images that jobs may run in Podman, by reference or by digest (sha256:…). Without any, nothing runs in
        /// Podman here.
        podman_images: Vec<String>, env "SKYCLAW_PODMAN_IMAGES";
        /// The socket of the Podman service; that of this daemon's own user when not given. A daemon that is root
        /// must name it, such as /run/podman/podman.sock.
        podman_socket: Option<PathBuf>, env "SKYCLAW_PODMAN_SOCKET";
        /// The image of jobs that run in Podman here and name none.
        podman_default_image: Option<String>, env "SKYCLAW_PODMAN_DEFAULT_IMAGE";
        /// Whether to fetch images that may be run and are not there.
        podman_pull: bool = "0", env "SKYCLAW_PODMAN_PULL";
        /// What of this host jobs in Podman may see: paths, and what is below them, for reading; with :rw after
        /// it for writing as well.
        podman_mounts: Vec<String>, env "SKYCLAW_PODMAN_MOUNTS";
        /// Networks that jobs in Podman may ask for: host, or names of Podman's own.
        podman_networks: Vec<String>, env "SKYCLAW_PODMAN_NETWORKS";
        /// Jobs that require one of these capabilities run in Podman, whatever they ask for.
        podman_forced_capabilities: Vec<String>, env "SKYCLAW_PODMAN_FORCED_CAPABILITIES";
        /// Jobs with one of these labels (name=value) run in Podman, whatever they ask for.
        podman_forced_labels: Vec<String>, env "SKYCLAW_PODMAN_FORCED_LABELS";
        /// How many containers at most are made ahead for what is run often; 0 for none.
        podman_prepared: usize = "4", env "SKYCLAW_PODMAN_PREPARED";
        /// The most a job in Podman may have in temporary files, in bytes, which count as its memory, and what one
        /// has that asks for nothing.
        podman_max_tmpfs_bytes: u64 = "67108864", env "SKYCLAW_PODMAN_MAX_TMPFS_BYTES";
        /// Where what jobs in Podman are started with lies, in memory: /run/skyclaw for root, else skyclaw in
        /// XDG_RUNTIME_DIR.
        podman_run_dir: Option<PathBuf>, env "SKYCLAW_PODMAN_RUN_DIR";
        /// How often to ask for work, in milliseconds, where the coordinator cannot let the question wait.
        poll_ms: Millis = "2000", env "SKYCLAW_POLL_MS";
        /// How often to give a sign of life, in milliseconds.
        heartbeat_ms: Millis = "5000", env "SKYCLAW_HEARTBEAT_MS";
        /// Whether to run services.
        service_host_enabled: bool = "1", env "SKYCLAW_SERVICE_HOST_ENABLED";
        /// The first port given to services.
        service_base_port: u16 = "3100", env "SKYCLAW_SERVICE_BASE_PORT";
        /// Where gateways reach this host, such as http://10.0.0.7; the port of the service is appended.
        service_host_public_base_url: Option<HttpUrl>, env "SKYCLAW_SERVICE_HOST_PUBLIC_BASE_URL";
        /// What the daemon keeps between starts, and the directories of what it runs.
        state_dir: PathBuf = ".skyclaw/host", env "SKYCLAW_STATE_DIR";
        /// What is logged: a level, or directives like info,skyclaw_hostd=debug.
        log: Filter = "info", env "SKYCLAW_LOG";
        /// The shape of a log line: text or json.
        log_format: Format = "text", env "SKYCLAW_LOG_FORMAT";
        /// The base URL of an OpenTelemetry collector (OTLP over HTTP) that spans are sent to; none when not set.
        otlp_endpoint: Option<HttpUrl>, env "SKYCLAW_OTLP_ENDPOINT";
        /// Headers for the collector, such as its key: name=value, separated by commas.
        otlp_headers: Option<Secret>, env "SKYCLAW_OTLP_HEADERS";
        /// Which part of the traces is sent there, from 0 to 1.
        otlp_sample: Ratio = "1", env "SKYCLAW_OTLP_SAMPLE";
    }
}

/// Where the daemon is, and what it is started by.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where allowed commands are looked up.
    pub search_path: String,
    /// What directories that are not absolute are relative to.
    pub base_dir: PathBuf,
    /// How a shim is started.
    pub shim: Shim,
    /// Where what runs for this daemon's user is, in memory (`XDG_RUNTIME_DIR`).
    pub runtime_dir: Option<PathBuf>,
    /// The service manager it was started by.
    pub supervisor: Supervisor,
}

/// A setting that is well-formed and still no good.
#[derive(Debug, thiserror::Error)]
#[error("{variable} {fault}")]
pub struct Fault {
    /// The variable.
    variable: &'static str,
    /// What is wrong, as the rest of a sentence.
    fault: String,
}

impl From<(&'static str, String)> for Fault {
    fn from((variable, fault): (&'static str, String)) -> Self {
        Self { variable, fault }
    }
}

impl Settings {
    /// Checks what the types do not say.
    ///
    /// # Errors
    /// The first setting that is no good.
    pub fn validate(&self) -> Result<(), Fault> {
        let check = |good: bool, variable, fault: String| {
            if good { Ok(()) } else { Err(Fault { variable, fault }) }
        };
        let parallel = 1..=limits::MAX_PARALLEL;
        let range = format!("must be between 1 and {}", limits::MAX_PARALLEL);
        check(parallel.contains(&self.max_parallel), "SKYCLAW_MAX_PARALLEL", range)?;
        for (variable, value) in [
            ("SKYCLAW_TIMEOUT_MS", self.timeout_ms),
            ("SKYCLAW_POLL_MS", self.poll_ms),
            ("SKYCLAW_HEARTBEAT_MS", self.heartbeat_ms),
        ] {
            check(value.0 >= Duration::from_millis(1), variable, "must be at least 1".to_owned())?;
        }
        let mode = StopMode::parse(&self.stop_mode);
        check(mode.is_some(), "SKYCLAW_STOP_MODE", "must be drain, stop or leave".to_owned())?;
        let fault = |fault: Option<String>, variable| fault.map_or(Ok(()), |it| check(false, variable, it));
        fault(policy::writable(&self.writable_paths).err(), "SKYCLAW_WRITABLE_PATHS")?;
        let user = self.run_user.as_ref().and_then(|user| policy::user(user).err());
        fault(user, "SKYCLAW_RUN_USER")?;
        check(self.service_base_port > 0, "SKYCLAW_SERVICE_BASE_PORT", "must be at least 1".to_owned())?;
        let base = self.service_host_public_base_url.as_ref();
        check(
            base.is_none_or(is_bare),
            "SKYCLAW_SERVICE_HOST_PUBLIC_BASE_URL",
            "must be without port and path: the port of each service is appended".to_owned(),
        )?;
        let id = self.host_name.as_deref().unwrap_or_default();
        let short = format!("must be at most {} bytes long", limits::MAX_NAME_LEN);
        check(id.len() <= limits::MAX_NAME_LEN, "SKYCLAW_HOST_NAME", short)
    }

    /// Base URLs of the coordinators.
    pub(crate) fn coordinators(&self) -> Vec<&str> {
        match self.coordinator_urls.as_slice() {
            [] => vec![self.coordinator_url.as_str()],
            several => several.iter().map(HttpUrl::as_str).collect(),
        }
    }

    /// How runs are run, with the daemon's own search path and directories.
    pub(crate) fn driver(&self, owner: &str, place: &Place, state_dir: &Path) -> Config {
        let Place { search_path, base_dir, shim, .. } = place;
        Config {
            owner: owner.to_owned(),
            allowlist: Allowlist::new(&self.allowed_commands, OsStr::new(search_path)),
            openclaw: Openclaw { command: self.openclaw_command.clone(), args: self.openclaw_args.clone() },
            runs_dir: state_dir.join(RUNS),
            base_dir: base_dir.clone(),
            default_timeout: self.timeout_ms.0,
            stop_grace: self.stop_grace_ms.0,
            max_output_bytes: self.max_output_bytes,
            shim: shim.clone(),
            user: self.run_user.as_ref().and_then(|user| policy::user(user).ok()),
            writable: policy::writable(&self.writable_paths).unwrap_or(Some(Vec::new())),
            max_file_bytes: (self.max_file_bytes > 0).then_some(self.max_file_bytes),
            best_effort: self.best_effort_limits,
            halt: Some(SwitchFile::in_dir(state_dir).halt()),
        }
    }
}

/// Whether a URL is scheme and host alone.
fn is_bare(url: &HttpUrl) -> bool {
    let host = url.as_str().split_once("://").map_or("", |(_, host)| host);
    let after_address = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
    !after_address.contains([':', '/'])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use skyclaw_config::Environment;

    pub(crate) fn settings(pairs: &[(&str, &str)]) -> Settings {
        let env: Environment = pairs.iter().copied().collect();
        let matches = skyclaw_config::command::<Settings>("test", "0", "test").get_matches_from(["test"]);
        skyclaw_config::load("test", &matches, &env).expect("settings").settings
    }

    #[test]
    fn the_defaults_are_those_of_the_reference() {
        let settings = settings(&[]);
        assert!(settings.validate().is_ok());
        assert_eq!(settings.coordinators(), ["http://127.0.0.1:8787"]);
        assert_eq!(settings.capabilities, ["shell", "openclaw", "service-host"]);
        assert_eq!(settings.allowed_commands, ["openclaw", "node", "bash", "sh", "npm", "pnpm"]);
        assert_eq!((settings.openclaw_command.as_str(), settings.max_parallel), ("openclaw", 1));
        assert_eq!((settings.service_host_enabled, settings.service_base_port), (true, 3100));
        assert_eq!((settings.timeout_ms.0.as_millis(), settings.max_output_bytes), (300_000, 131_072));
        assert_eq!((settings.poll_ms.0.as_millis(), settings.heartbeat_ms.0.as_millis()), (2000, 5000));
    }

    #[test]
    fn a_list_of_coordinators_takes_the_place_of_the_one() {
        let given = [("SKYCLAW_COORDINATOR_URLS", "http://a:1/, http://b:2")];
        assert_eq!(settings(&given).coordinators(), ["http://a:1", "http://b:2"]);
    }

    #[test]
    fn what_is_no_good_is_named() {
        for (variable, value) in [
            ("SKYCLAW_MAX_PARALLEL", "0"),
            ("SKYCLAW_POLL_MS", "0"),
            ("SKYCLAW_SERVICE_BASE_PORT", "0"),
            ("SKYCLAW_STOP_MODE", "later"),
            ("SKYCLAW_WRITABLE_PATHS", "here"),
            ("SKYCLAW_RUN_USER", "root"),
            ("SKYCLAW_SERVICE_HOST_PUBLIC_BASE_URL", "http://a:80/x"),
            ("SKYCLAW_SERVICE_HOST_PUBLIC_BASE_URL", "http://[::1]:8080"),
        ] {
            let fault = settings(&[(variable, value)]).validate().expect_err(variable).to_string();
            assert!(fault.starts_with(variable), "{fault}");
        }
        for good in ["http://a.example", "http://[::1]/"] {
            let given = [("SKYCLAW_SERVICE_HOST_PUBLIC_BASE_URL", good)];
            assert!(settings(&given).validate().is_ok(), "{good}");
        }
    }
}
