//! How a program ends: softly first, then hard.
//!
//! ```text
//! running --SIGTERM, SIGINT--> soft: take no new work, finish what runs
//!    soft --second signal, end of the grace period--> hard: drop what is left
//! ```

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The two tokens and the task that cancels them.
#[derive(Debug)]
pub struct Shutdown {
    /// Cancelled when no new work should be taken.
    pub soft: CancellationToken,
    /// Cancelled when everything must stop now. The soft one is cancelled by then as well.
    pub hard: CancellationToken,
    watcher: TaskTracker,
}

impl Shutdown {
    /// Listens for SIGTERM and SIGINT from now on. After the first, there are `grace` to finish.
    ///
    /// # Errors
    /// When the signals cannot be listened for.
    pub fn install(grace: Duration) -> io::Result<Self> {
        let signals = Both(signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let hard = CancellationToken::new();
        let this = Self { soft: hard.child_token(), hard, watcher: TaskTracker::new() };
        let (soft, hard) = (this.soft.clone(), this.hard.clone());
        this.watcher.spawn(watch(soft, hard, grace, signals));
        Ok(this)
    }

    /// Ends the watch when all work has stopped.
    pub async fn finish(self) {
        self.hard.cancel();
        self.watcher.close();
        self.watcher.wait().await;
    }
}

/// Where signals come from.
trait Signals: Send {
    /// The next one. Cancel safe.
    fn next(&mut self) -> impl Future<Output = ()> + Send;
}

struct Both(Signal, Signal);

impl Signals for Both {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

async fn watch(soft: CancellationToken, hard: CancellationToken, grace: Duration, mut signals: impl Signals) {
    tokio::select! {
        () = signals.next() => tracing::info!(grace_ms = grace.as_millis(), "shutting down"),
        () = soft.cancelled() => {}
    }
    soft.cancel();
    tokio::select! {
        () = signals.next() => tracing::warn!("second signal: stopping at once"),
        () = tokio::time::sleep(grace) => tracing::warn!("the grace period is over: stopping at once"),
        () = hard.cancelled() => {}
    }
    hard.cancel();
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    struct Case {
        soft: CancellationToken,
        hard: CancellationToken,
        signals: mpsc::Sender<()>,
        watch: TaskTracker,
    }

    impl Signals for mpsc::Receiver<()> {
        async fn next(&mut self) {
            if self.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn start(grace: Duration) -> Case {
        let hard = CancellationToken::new();
        let soft = hard.child_token();
        let (signals, received) = mpsc::channel(2);
        let watch = TaskTracker::new();
        watch.spawn(super::watch(soft.clone(), hard.clone(), grace, received));
        Case { soft, hard, signals, watch }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn the_first_signal_is_soft_and_the_second_hard() {
        let case = start(HOUR);
        case.signals.send(()).await.expect("signal");
        case.soft.cancelled().await;
        assert!(!case.hard.is_cancelled());
        case.signals.send(()).await.expect("signal");
        case.hard.cancelled().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_grace_period_is_hard() {
        let case = start(HOUR);
        let began = tokio::time::Instant::now();
        case.signals.send(()).await.expect("signal");
        case.hard.cancelled().await;
        assert!(case.soft.is_cancelled());
        assert!(began.elapsed() >= HOUR);
    }

    #[tokio::test]
    async fn work_that_ends_by_itself_ends_the_watch() {
        let case = start(HOUR);
        case.hard.cancel();
        case.watch.close();
        case.watch.wait().await;
        assert!(case.soft.is_cancelled());
    }
}
