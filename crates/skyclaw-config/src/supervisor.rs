//! The service manager that has started a daemon, such as systemd: what it is told, and what it hands over.
//!
//! It learns when the daemon is up, what it is doing, that it ends, and, where it asks to (`WatchdogSec=`), again and
//! again that it is well. What listens may be opened by it and handed over, so that nobody is turned away while the
//! daemon is started anew. Without a service manager all of this does nothing.
//!
//! A manager that cannot be told is no reason to end: it is logged once, and the manager decides.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::socket::{SockType, getsockopt, sockopt};
use sd_notify::NotifyState;

use crate::environment::Environment;

/// Whom the daemon tells how it does. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Supervisor {
    is_there: bool,
    watchdog: Option<Duration>,
    failed: Arc<AtomicBool>,
}

/// Why what was handed over cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum HandedOver {
    /// What the manager says of it makes no sense.
    #[error("the service manager hands over sockets and does not say properly which")]
    Unclear(#[source] io::Error),
    /// More than one.
    #[error(
        "the service manager hands over {0} sockets, and one is served: leave one ListenStream= in the socket unit"
    )]
    Several(usize),
    /// It is something else.
    #[error(
        "what the service manager hands over is no listening TCP socket: see ListenStream= in the socket unit"
    )]
    NoListener,
}

impl Supervisor {
    /// The one that has started this process, if `env`, the environment of this process, names one.
    #[must_use]
    pub fn of_process(env: &Environment) -> Self {
        let is_there = env.get("NOTIFY_SOCKET").is_some();
        let watchdog =
            is_there.then(sd_notify::watchdog_enabled).flatten().filter(|within| !within.is_zero());
        Self { is_there, watchdog, failed: Arc::default() }
    }

    /// Nobody: for what is not started by a manager.
    #[must_use]
    pub fn nobody() -> Self {
        Self::default()
    }

    /// Tells the manager for ever that the daemon is well, and how it stands, whenever `answers` says that the parts
    /// that matter are there; one that hangs, as well as one that is gone, leaves the manager without a word. To be
    /// polled by the daemon's own main task, so that this one must go on as well. Cancel-safe.
    pub async fn attend<F>(&self, answers: impl Fn() -> F, status: impl Fn() -> String) -> Infallible
    where
        F: Future<Output = bool>,
    {
        let Some(pace) = self.pace() else { return std::future::pending().await };
        let mut said = String::new();
        loop {
            if answers().await {
                self.is_well();
            }
            let now = status();
            if now != said {
                self.status(&now);
                said = now;
            }
            tokio::time::sleep(pace).await;
        }
    }

    /// How often it is to be told that the daemon is well, and how it stands; `None` when nobody asks. Three times
    /// within what it waits, and often enough for people who look at the status.
    fn pace(&self) -> Option<Duration> {
        /// People do not look more often.
        const STATUS: Duration = Duration::from_secs(1);
        self.is_there.then(|| self.watchdog.map_or(STATUS, |within| (within / 3).min(STATUS)))
    }

    /// The daemon does its work from now on.
    pub fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// What the daemon is doing, in a line for people.
    pub fn status(&self, status: &str) {
        self.tell(&[NotifyState::Status(&one_line(status))]);
    }

    fn is_well(&self) {
        if self.watchdog.is_some() {
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    /// The daemon ends.
    pub fn stopping(&self, status: &str) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))]);
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        if !self.is_there {
            return;
        }
        match sd_notify::notify(states) {
            Ok(()) => self.failed.store(false, Ordering::Relaxed),
            Err(error) if !self.failed.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "the service manager could not be told how this daemon does");
            }
            Err(_) => {}
        }
    }
}

/// A line break would begin another message to the manager.
fn one_line(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// The listening socket that a service manager has handed to this process, if any. To be called once, before
/// anything else is opened.
///
/// # Errors
/// When there are several, or it is something else.
pub fn handed_over() -> Result<Option<TcpListener>, HandedOver> {
    let mut sockets = sd_notify::listen_fds().map_err(HandedOver::Unclear)?;
    if sockets.len() > 1 {
        return Err(HandedOver::Several(sockets.len()));
    }
    let Some(number) = sockets.next() else { return Ok(None) };
    #[expect(unsafe_code, reason = "what is handed over has only a number")]
    // SAFETY: the manager has opened it for this process, which was checked to be the one it means, and nothing else
    // here takes it.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    let is_listening = getsockopt(&socket, sockopt::AcceptConn).unwrap_or(false);
    let is_stream = getsockopt(&socket, sockopt::SockType).is_ok_and(|kind| kind == SockType::Stream);
    let listener = TcpListener::from(socket);
    // A socket of another family has no such address.
    if !is_listening || !is_stream || listener.local_addr().is_err() {
        return Err(HandedOver::NoListener);
    }
    Ok(Some(listener))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line_whatever_is_in_it() {
        assert_eq!(one_line("waits\nMAINPID=1\r\u{0}ü"), "waits MAINPID=1  ü");
    }

    #[test]
    fn nobody_is_told_nothing_and_asks_for_nothing() {
        let nobody = Supervisor::nobody();
        nobody.ready("ready");
        nobody.is_well();
        assert_eq!(nobody.pace(), None);
        assert_eq!(Supervisor::of_process(&Environment::default()).pace(), None);
    }

    #[test]
    fn it_is_told_three_times_within_what_it_waits_and_at_least_every_second() {
        let asking = |watchdog| Supervisor { is_there: true, watchdog, failed: Arc::default() };
        let pace = |watchdog: Option<u64>| asking(watchdog.map(Duration::from_millis)).pace();
        assert_eq!(pace(None), Some(Duration::from_secs(1)));
        assert_eq!(pace(Some(60_000)), Some(Duration::from_secs(1)));
        assert_eq!(pace(Some(600)), Some(Duration::from_millis(200)));
    }
}
