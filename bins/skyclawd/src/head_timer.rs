//! How long a connection may take to send the head of a request, without a timer for each request.
//!
//! hyper asks for a timer before each head and drops it when the head is there, and to enter a timer into the
//! runtime's wheel and to take it out again are two locks that all connections share. Here a connection has one
//! timer, which is lent to one head after the other: it is only ever moved to a later time, which takes none.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

/// The timer of one connection. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeadTimer {
    /// There while nobody waits for it. The connection alone asks for it, so nobody ever waits for the lock.
    spare: Arc<Mutex<Option<Pin<Box<tokio::time::Sleep>>>>>,
}

impl HeadTimer {
    fn swap(&self, sleep: Option<Pin<Box<tokio::time::Sleep>>>) -> Option<Pin<Box<tokio::time::Sleep>>> {
        std::mem::replace(&mut *self.spare.lock().unwrap_or_else(PoisonError::into_inner), sleep)
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Waiting { timer: self.clone(), deadline, sleep: None })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into()
    }
}

/// A head is waited for.
struct Waiting {
    timer: HeadTimer,
    deadline: Instant,
    /// There once it was asked how long is left: a head that is here already needs no timer at all.
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Sleep for Waiting {}

impl Future for Waiting {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { timer, deadline, sleep } = &mut *self;
        let deadline = (*deadline).into();
        let sleep = sleep.get_or_insert_with(|| match timer.swap(None) {
            Some(mut sleep) => {
                sleep.as_mut().reset(deadline);
                sleep
            }
            None => Box::pin(tokio::time::sleep_until(deadline)),
        });
        sleep.as_mut().poll(context)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(sleep) = self.sleep.take() {
            self.timer.swap(Some(sleep));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_head_has_its_whole_time_whatever_the_one_before_it_took() {
        let (timer, allowed) = (HeadTimer::default(), Duration::from_secs(10));
        for taken in [0, 9, 3] {
            let waiting = timer.sleep(allowed);
            let head = tokio::time::timeout(Duration::from_secs(taken), waiting).await;
            assert!(head.is_err(), "the head that takes {taken} s comes in time");
        }
        let began = timer.now();
        timer.sleep(allowed).await;
        assert!(timer.now() - began >= allowed);
        // One that has gone off is good for another head.
        let began = timer.now();
        timer.sleep(allowed).await;
        assert!(timer.now() - began >= allowed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_has_one_timer_and_none_before_it_waits() {
        let timer = HeadTimer::default();
        drop(timer.sleep(Duration::from_secs(1)));
        assert!(timer.swap(None).is_none(), "nobody asked how long was left");
        for _ in 0..3 {
            let waiting = tokio::time::timeout(Duration::from_millis(1), timer.sleep(Duration::from_secs(1)));
            assert!(waiting.await.is_err());
            let spare = timer.swap(None);
            assert!(spare.is_some());
            timer.swap(spare);
        }
    }
}
