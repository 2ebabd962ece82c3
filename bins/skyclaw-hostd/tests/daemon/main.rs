//! The daemon against a coordinator that does as it is told.

#![expect(clippy::expect_used, reason = "helpers of tests fail by panicking")]

mod frozen;
mod jobs;
mod leases;
mod process;
mod scripted;
mod services;

use std::path::Path;
use std::time::Duration;

use skyclaw_config::{Environment, Shutdown, Supervisor};
use skyclaw_exec::Shim;
use skyclaw_hostd::{Error, Place, Settings};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use scripted::Scripted;

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// A daemon in this process.
struct Daemon {
    soft: CancellationToken,
    hard: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Daemon {
    fn start(coordinator: &Scripted, state: &Path, more: &[(&str, &str)]) -> Self {
        let state = state.display().to_string();
        let usual = [
            ("SKYCLAW_COORDINATOR_URL", coordinator.url.as_str()),
            ("SKYCLAW_STATE_DIR", state.as_str()),
            ("SKYCLAW_ALLOWED_COMMANDS", "sh"),
            ("SKYCLAW_POLL_MS", "20"),
            ("SKYCLAW_HEARTBEAT_MS", "200"),
            ("SKYCLAW_HOST_ID", "host_1"),
        ];
        let env: Environment = usual.iter().chain(more).copied().collect();
        let matches = skyclaw_config::command::<Settings>("test", "0", "").get_matches_from(["test"]);
        let settings = skyclaw_config::load::<Settings>("test", &matches, &env).expect("settings").settings;
        let place = Place {
            search_path: "/usr/bin:/bin".into(),
            base_dir: "/".into(),
            shim: Shim { program: env!("CARGO_BIN_EXE_skyclaw-hostd").into(), args: vec!["shim".into()] },
            runtime_dir: None,
            supervisor: Supervisor::nobody(),
        };
        let shutdown = Shutdown::install(LONG).expect("signals");
        let (soft, hard) = (shutdown.soft.clone(), shutdown.hard.clone());
        let task = TaskTracker::new().spawn(async move {
            let ended = skyclaw_hostd::run(&settings, &place, &shutdown).await;
            shutdown.finish().await;
            ended
        });
        Self { soft, hard, task }
    }

    /// Ends it when its runs have ended.
    async fn end(self) {
        self.soft.cancel();
        self.ended().await;
    }

    /// Ends it and its runs.
    async fn end_now(self) {
        self.hard.cancel();
        self.ended().await;
    }

    async fn ended(self) {
        let ended = tokio::time::timeout(LONG, self.task).await.expect("the daemon must end");
        ended.expect("no panic").expect("no error");
    }
}
