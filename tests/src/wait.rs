//! Waiting for something to become true.

use std::time::{Duration, Instant};

/// For what takes milliseconds on an idle machine.
pub const SHORT: Duration = Duration::from_secs(20);
/// For what takes seconds on an idle machine.
pub const LONG: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(10);

/// Asks `probe` again and again until it gives something, and returns that.
///
/// # Panics
/// When `deadline` has passed; the message says `what` was waited for.
#[track_caller]
pub fn wait_until<T>(what: &str, deadline: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain until {what}");
        std::thread::sleep(PAUSE);
    }
}
