//! Work that takes long, done so that nobody else waits for it.
//!
//! Few threads answer requests, on two processors only one. While it reads one large body, no other request goes on, nor
//! do the messages by which coordinators know of each other that they live.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Texts of more bytes take longer to read than it takes another thread to step in.
pub(crate) const LARGE_BYTES: usize = 64 * 1024;

/// Does the work while another thread takes this one's place.
pub(crate) fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        // Nobody can.
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;
    use std::time::Duration;

    use tokio_util::task::TaskTracker;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn others_go_on_meanwhile_where_there_is_but_one_thread() {
        let long = TaskTracker::new().spawn(async {
            aside(|| {
                let (visit, visited) = sync_channel(1);
                TaskTracker::new().spawn(async move { visit.send("somebody else") });
                visited.recv_timeout(Duration::from_secs(20))
            })
        });
        assert_eq!(long.await.expect("no panic"), Ok("somebody else"));
    }

    #[tokio::test]
    async fn it_is_done_in_place_where_nobody_can_step_in() {
        assert_eq!(aside(|| 7), 7);
    }
}
