//! A future that is polled again at once when it woke itself meanwhile.
//!
//! hyper wakes a connection twice while a request with a body is read: the handler asks for the body, and the body is
//! there. Both are heard while the connection is polled. The runtime takes that for a task that makes room for others: it goes to
//! the end of the queue, and another thread is woken that might take it. That thread finds a core, and nothing to do
//! that would not have been done by then. So what wakes itself is polled again where it is, a few times, and the runtime
//! hears of the wakes that come from elsewhere.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// How often at most before others have their turn.
const AT_ONCE: usize = 4;

/// Nobody polls, and nobody has woken since.
const RESTS: u8 = 0;
/// It is polled, and nobody has woken since that began.
const POLLED: u8 = 1;
/// Somebody has woken.
const WOKEN: u8 = 2;

#[derive(Debug, Default)]
struct Bell {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, Ordering::AcqRel) == RESTS {
            self.task.wake();
        }
    }
}

/// Runs a future to its end.
pub(crate) async fn again_when_woken<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    poll_fn(|context| {
        bell.task.register(context.waker());
        for _ in 0..AT_ONCE {
            // What a wake tells of, that came before, is seen by the poll that follows.
            bell.state.swap(POLLED, Ordering::AcqRel);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Poll::Ready(output);
            }
            let rests = bell.state.compare_exchange(POLLED, RESTS, Ordering::AcqRel, Ordering::Acquire);
            if rests.is_ok() {
                return Poll::Pending;
            }
        }
        bell.state.store(RESTS, Ordering::Release);
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio_util::task::TaskTracker;

    use super::*;

    /// Counts how often a task is woken.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Wakes itself so often before it is ready, and says how often it was polled.
    async fn wakes_itself(times: usize) -> usize {
        let mut polls = 0;
        poll_fn(|context| {
            polls += 1;
            if polls > times {
                return Poll::Ready(polls);
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }

    #[test]
    fn what_wakes_itself_is_polled_again_and_the_runtime_does_not_hear_of_it() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut future = pin!(again_when_woken(wakes_itself(AT_ONCE - 1)));
        assert_eq!(future.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(AT_ONCE));
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_wakes_itself_for_ever_lets_others_have_their_turn() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut future = pin!(again_when_woken(wakes_itself(usize::MAX)));
        for turn in 1..=3 {
            assert_eq!(future.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);
            assert_eq!(count.0.load(Ordering::Relaxed), turn, "and is woken for the next");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_of_others_is_lost() {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let received = TaskTracker::new().spawn(again_when_woken(async move {
            let mut count = 0;
            while receiver.recv().await.is_some() {
                count += 1;
            }
            count
        }));
        for n in 0..20_000 {
            sender.send(n).await.expect("somebody receives");
        }
        drop(sender);
        assert_eq!(received.await.expect("it ends"), 20_000);
    }
}
