//! Work that takes long, done so that nobody else waits for it.
//!
//! Few threads answer requests, on two processors only one. While it reads one large body, no other request goes on, nor
//! do the messages by which coordinators know of each other that they live.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Does the work while another thread takes this one's place.
pub(crate) fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        // Nobody can.
        _ => work(),
    }
}

/// Takes until somebody else has had a turn; false when nobody has for very long.
#[cfg(test)]
pub(crate) fn somebody_else_had_a_turn() -> bool {
    let (visit, visited) = std::sync::mpsc::sync_channel(1);
    tokio_util::task::TaskTracker::new().spawn(async move { visit.send(()) });
    visited.recv_timeout(std::time::Duration::from_secs(20)).is_ok()
}

#[cfg(test)]
mod tests {
    use tokio_util::task::TaskTracker;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn others_go_on_meanwhile_where_there_is_but_one_thread() {
        let long = TaskTracker::new().spawn(async { aside(somebody_else_had_a_turn) });
        assert!(long.await.expect("no panic"));
    }

    #[tokio::test]
    async fn it_is_done_in_place_where_nobody_can_step_in() {
        assert_eq!(aside(|| 7), 7);
    }
}
