//! How connections are told to end.
//!
//! A token that all of them wait for would be a lock that each takes whenever it does anything. So each connection
//! has a leash of its own, which costs it a look at a number, and the server holds the other ends.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use hyper_util::server::graceful::GracefulConnection;
use tokio::sync::mpsc;

/// So many leashes are held before it is looked which connections are gone.
const SWEEP_FROM: usize = 64;

/// What a connection is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Pull {
    /// Nothing yet.
    None,
    /// To end when what is under way is answered.
    End,
    /// To end now.
    Cut,
}

#[derive(Debug)]
struct Line {
    pull: AtomicU8,
    waker: AtomicWaker,
    /// Whoever waits for all to be gone sees this one go.
    _there: mpsc::Sender<Infallible>,
}

/// The end that the server holds of all leashes.
#[derive(Debug)]
pub(crate) struct Leashes {
    lines: Vec<Weak<Line>>,
    sweep_at: usize,
    there: mpsc::Sender<Infallible>,
    gone: mpsc::Receiver<Infallible>,
}

/// The end that a connection has.
#[derive(Debug)]
pub(crate) struct Leash(Arc<Line>);

impl Leashes {
    pub(crate) fn new() -> Self {
        let (there, gone) = mpsc::channel(1);
        Self { lines: Vec::new(), sweep_at: SWEEP_FROM, there, gone }
    }

    /// A leash for a new connection.
    pub(crate) fn tie(&mut self) -> Leash {
        if self.lines.len() >= self.sweep_at {
            self.lines.retain(|line| line.strong_count() > 0);
            self.sweep_at = SWEEP_FROM.max(2 * self.lines.len());
        }
        let (pull, waker) = (AtomicU8::new(Pull::None as u8), AtomicWaker::new());
        let line = Arc::new(Line { pull, waker, _there: self.there.clone() });
        self.lines.push(Arc::downgrade(&line));
        Leash(line)
    }

    /// Has every connection end when what is under way on it is answered, and waits until all are gone.
    pub(crate) async fn end(&mut self) {
        self.pull(Pull::End);
        // From now on the connections alone keep the channel open.
        self.there = mpsc::channel(1).0;
        let _ = self.gone.recv().await;
    }

    /// Has every connection end now.
    pub(crate) fn cut(&self) {
        self.pull(Pull::Cut);
    }

    fn pull(&self, pull: Pull) {
        for line in self.lines.iter().filter_map(Weak::upgrade) {
            line.pull.fetch_max(pull as u8, Ordering::Release);
            line.waker.wake();
        }
    }
}

impl Leash {
    fn pulled(&self, context: &Context<'_>) -> Pull {
        // First, so that a pull after the look is not missed.
        self.0.waker.register(context.waker());
        match self.0.pull.load(Ordering::Acquire) {
            pull if pull == Pull::None as u8 => Pull::None,
            pull if pull == Pull::End as u8 => Pull::End,
            _ => Pull::Cut,
        }
    }

    /// Awaits what a connection does before its first request, unless it is told to end: then `None`, as nobody
    /// has asked for anything.
    pub(crate) async fn unless_pulled<T>(&self, first: impl Future<Output = T>) -> Option<T> {
        let mut first = pin!(first);
        let step = |context: &mut Context<'_>| match self.pulled(context) {
            Pull::None => first.as_mut().poll(context).map(Some),
            Pull::End | Pull::Cut => Poll::Ready(None),
        };
        std::future::poll_fn(step).await
    }

    /// The same, but it goes on until it must end now.
    pub(crate) async fn unless_cut<T>(&self, first: impl Future<Output = T>) -> Option<T> {
        let mut first = pin!(first);
        let step = |context: &mut Context<'_>| match self.pulled(context) {
            Pull::None | Pull::End => first.as_mut().poll(context).map(Some),
            Pull::Cut => Poll::Ready(None),
        };
        std::future::poll_fn(step).await
    }

    /// Awaits a connection; it ends when it is told to.
    pub(crate) async fn hold<C: GracefulConnection>(&self, connection: C) -> Result<(), C::Error> {
        let (mut connection, mut is_ending) = (pin!(connection), false);
        let step = |context: &mut Context<'_>| {
            match self.pulled(context) {
                Pull::None => {}
                Pull::End if is_ending => {}
                Pull::End => {
                    // What has come already is begun first: a connection on which nothing was read yet is just closed.
                    if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                        return Poll::Ready(ended);
                    }
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                Pull::Cut => return Poll::Ready(Ok(())),
            }
            connection.as_mut().poll(context)
        };
        std::future::poll_fn(step).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn waits(future: impl Future) -> bool {
        futures_util::future::poll_immediate(future).await.is_none()
    }

    #[tokio::test]
    async fn who_ends_them_waits_until_all_are_gone() {
        let mut leashes = Leashes::new();
        let (one, other) = (leashes.tie(), leashes.tie());
        assert!(waits(one.unless_pulled(std::future::pending::<()>())).await, "nobody pulls");
        let mut end = Box::pin(leashes.end());
        assert!(waits(end.as_mut()).await);
        assert_eq!(one.unless_pulled(std::future::pending::<()>()).await, None);
        drop(one);
        assert!(waits(end.as_mut()).await, "one is there");
        drop(other);
        end.await;
    }

    #[tokio::test]
    async fn one_that_was_told_to_end_can_still_be_cut_and_never_the_other_way_round() {
        let mut leashes = Leashes::new();
        let leash = leashes.tie();
        let context = Context::from_waker(std::task::Waker::noop());
        assert_eq!(leash.pulled(&context), Pull::None);
        assert!(waits(leashes.end()).await);
        assert_eq!(leash.pulled(&context), Pull::End);
        leashes.cut();
        assert!(waits(leashes.end()).await);
        assert_eq!(leash.pulled(&context), Pull::Cut);
    }

    #[test]
    fn leashes_of_connections_that_are_gone_are_let_go() {
        let mut leashes = Leashes::new();
        let kept: Vec<Leash> = (0..10).map(|_| leashes.tie()).collect();
        for _ in 0..10_000 {
            drop(leashes.tie());
        }
        assert!(leashes.lines.len() <= SWEEP_FROM, "{}", leashes.lines.len());
        assert!(leashes.lines.iter().filter(|line| line.strong_count() > 0).count() == kept.len());
    }
}
