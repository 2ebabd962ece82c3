//! Containers that are made ahead, so that a run that fits one starts at once.
//!
//! One task owns them. A shape that is asked for often gets some; they are given back when they are old,
//! when nobody asks any more, when memory runs short, and when the daemon ends.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::container::Shape;
use super::driver::Inner;
use super::prepared::Prepared;

/// Requests that may wait for the task.
const QUEUE: usize = 64;
/// How many shapes are kept count of. The one that was asked for longest ago goes first.
const SHAPES: usize = 64;
/// How long a shape is left alone after a container of it could not be made.
const REST: Duration = Duration::from_secs(30);

/// What is made ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// How many containers at most; 0 for none.
    pub max: usize,
    /// How many of one shape at most.
    pub per_shape: usize,
    /// How often a shape must have been asked for within `window`.
    pub often: usize,
    /// How far back is counted.
    pub window: Duration,
    /// After how long one that was not used is given back.
    pub max_age: Duration,
    /// How long nobody must have asked for anything before more is made: what has just started comes first.
    pub pause: Duration,
    /// How long such a pause is waited for while somebody always asks, before one more is made all the same.
    pub patience: Duration,
    /// All are given back, and none is made, while less memory than this is to be had, in bytes.
    pub min_available_bytes: u64,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            max: 8,
            per_shape: 4,
            often: 2,
            window: Duration::from_secs(600),
            max_age: Duration::from_secs(900),
            pause: Duration::from_millis(200),
            patience: Duration::from_secs(1),
            min_available_bytes: 512 << 20,
        }
    }
}

enum Request {
    Take(Box<Shape>, oneshot::Sender<Option<Prepared>>),
    Drain(oneshot::Sender<()>),
    Ready(oneshot::Sender<usize>),
}

/// A handle to the task. It ends with the last one.
#[derive(Debug, Clone)]
pub(crate) struct Pool(mpsc::Sender<Request>);

impl Pool {
    pub(crate) fn start(inner: Arc<Inner>, tracker: &TaskTracker) -> Self {
        let (send, requests) = mpsc::channel(QUEUE);
        let now = Instant::now();
        let keeper = Keeper { inner, shapes: HashMap::new(), asked: now, busy_since: now, drained: false };
        tracker.spawn(keeper.run(requests));
        Self(send)
    }

    /// One that fits, if there is one.
    pub(crate) async fn take(&self, shape: &Shape) -> Option<Prepared> {
        self.ask(|reply| Request::Take(Box::new(shape.clone()), reply)).await.flatten()
    }

    pub(crate) async fn drain(&self) {
        self.ask(Request::Drain).await;
    }

    pub(crate) async fn ready(&self) -> usize {
        self.ask(Request::Ready).await.unwrap_or_default()
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.0.send(request(reply)).await.ok()?;
        answer.await.ok()
    }
}

#[derive(Default)]
struct Slot {
    ready: VecDeque<(Instant, Prepared)>,
    /// When it was asked for, as far as that counts.
    asked: VecDeque<Instant>,
    rests_until: Option<Instant>,
}

struct Keeper {
    inner: Arc<Inner>,
    shapes: HashMap<Shape, Slot>,
    /// When somebody asked last.
    asked: Instant,
    /// Since when there was no pause, nor anything made.
    busy_since: Instant,
    drained: bool,
}

impl Keeper {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let config = self.inner.config.pool.clone();
        let pace = config.pause.min(config.patience);
        let mut tick = tokio::time::interval(pace.max(Duration::from_millis(10)));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Both are cancel-safe.
            tokio::select! {
                biased;
                request = requests.recv() => match request {
                    Some(request) => self.answer(request, &config).await,
                    None => break,
                },
                _ = tick.tick() => self.tend(&config, &mut requests).await,
            }
        }
        self.give_back_all().await;
    }

    async fn answer(&mut self, request: Request, config: &PoolConfig) {
        match request {
            Request::Take(shape, reply) => {
                let now = Instant::now();
                if now.duration_since(self.asked) >= config.pause {
                    self.busy_since = now;
                }
                self.asked = now;
                let found = self.take(*shape, config);
                if let Err(Some(unwanted)) = reply.send(found) {
                    unwanted.discard(&self.inner).await;
                }
            }
            Request::Drain(reply) => {
                self.drained = true;
                self.give_back_all().await;
                let _ = reply.send(());
            }
            Request::Ready(reply) => {
                let _ = reply.send(self.shapes.values().map(|slot| slot.ready.len()).sum());
            }
        }
    }

    fn take(&mut self, shape: Shape, config: &PoolConfig) -> Option<Prepared> {
        if config.max == 0 {
            return None;
        }
        let full = self.shapes.len() >= SHAPES && !self.shapes.contains_key(&shape);
        if full {
            // One with containers is left to its age, which gives them back properly.
            let idle = self.shapes.iter().filter(|(_, slot)| slot.ready.is_empty());
            let oldest =
                idle.min_by_key(|(_, slot)| slot.asked.back().copied()).map(|(shape, _)| shape.clone());
            self.shapes.remove(&oldest?);
        }
        let slot = self.shapes.entry(shape).or_default();
        slot.asked.push_back(Instant::now());
        if slot.asked.len() > config.often.max(config.per_shape) {
            slot.asked.pop_front();
        }
        // One that died meanwhile stays for the next look, which removes it.
        let alive = slot.ready.iter().position(|(_, prepared)| prepared.is_alive())?;
        slot.ready.remove(alive).map(|(_, prepared)| prepared)
    }

    /// Gives back what is not wanted any more, and makes one of what is wanted most.
    async fn tend(&mut self, config: &PoolConfig, requests: &mut mpsc::Receiver<Request>) {
        let now = Instant::now();
        let short = available_bytes().is_some_and(|bytes| bytes < config.min_available_bytes);
        let mut unwanted = Vec::new();
        for slot in self.shapes.values_mut() {
            slot.asked.retain(|at| now.duration_since(*at) < config.window);
            let keep = if short { 0 } else { wanted(slot, config) };
            let (kept, rest): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut slot.ready)
                .into_iter()
                .partition(|(made, one)| one.is_alive() && now.duration_since(*made) < config.max_age);
            slot.ready = kept;
            unwanted.extend(rest);
            unwanted.extend(slot.ready.split_off(keep.min(slot.ready.len())));
        }
        self.shapes.retain(|_, slot| !slot.ready.is_empty() || !slot.asked.is_empty());
        for (_, one) in unwanted {
            one.discard(&self.inner).await;
        }
        let held: usize = self.shapes.values().map(|slot| slot.ready.len()).sum();
        let is_busy = now.duration_since(self.asked) < config.pause
            && now.duration_since(self.busy_since) < config.patience;
        if short || self.drained || held >= config.max || is_busy {
            return;
        }
        let next = self.shapes.iter().filter(|(_, slot)| slot.rests_until.is_none_or(|until| until < now));
        let next = next.filter(|(_, slot)| slot.ready.len() < wanted(slot, config));
        if let Some(shape) = next.min_by_key(|(_, slot)| slot.ready.len()).map(|(shape, _)| shape.clone()) {
            self.make(&shape, config, requests).await;
        }
    }

    /// Makes one, and answers meanwhile: who asks just now must not wait for it.
    async fn make(&mut self, shape: &Shape, config: &PoolConfig, requests: &mut mpsc::Receiver<Request>) {
        let inner = Arc::clone(&self.inner);
        let mut making = std::pin::pin!(Prepared::make(&inner, shape, None));
        let made = loop {
            tokio::select! {
                biased;
                made = &mut making => break made,
                Some(request) = requests.recv() => self.answer(request, config).await,
            }
        };
        match made {
            Ok(one) if self.drained => one.discard(&self.inner).await,
            Ok(one) => self.shapes.entry(shape.clone()).or_default().ready.push_back((Instant::now(), one)),
            Err(error) => {
                tracing::warn!(error = error.describe(), "a container could not be made ahead");
                self.shapes.entry(shape.clone()).or_default().rests_until = Some(Instant::now() + REST);
            }
        }
        self.busy_since = Instant::now();
    }

    async fn give_back_all(&mut self) {
        let all: Vec<_> = self.shapes.values_mut().flat_map(|slot| slot.ready.drain(..)).collect();
        for (_, one) in all {
            one.discard(&self.inner).await;
        }
    }
}

/// How many of a shape should be ready: as many as were asked for lately, once that is often.
fn wanted(slot: &Slot, config: &PoolConfig) -> usize {
    if slot.asked.len() < config.often { 0 } else { slot.asked.len().min(config.per_shape) }
}

/// How much memory programs could still get.
fn available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
