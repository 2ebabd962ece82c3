//! Brings what runs write to the coordinators, while somebody follows it and no longer.
//!
//! ```text
//!  heartbeat ──wanted──► Logs ──starts──► one bringer a stream ──piece──► coordinator
//!  runs ──began, over──►  │ ──has grown──►     ▲ └──────what is wanted next──┘
//! ```
//! A bringer reads where it is told to, brings what there is, and is told with the answer from where on more is wanted.
//! Where there is nothing, it says so once, and waits until the kernel tells that the run has written. It ends when the
//! answer names its stream no more. So a stream that is not read is not brought either, and this host needs to
//! know of nobody who reads.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use skyclaw_exec::{Growth, GrowthKey, LiveOutput, LivePiece, LiveReader};
use skyclaw_proto::logs::{LogWant, PushLogsBody};
use skyclaw_proto::{JobId, LogStream, limits};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::coordinator::{ChangeLog, Coordinator};

/// What may wait for the task.
const QUEUE: usize = 1024;
/// How often a run is looked at whatever the kernel tells, and how often when it tells nothing.
const LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_millis(100));
/// Pause after a piece that no coordinator has taken.
const PAUSE: Duration = Duration::from_millis(500);
/// How long it is remembered that somebody follows a run that has not begun here.
const AWAITED: Duration = Duration::from_secs(60);

type Key = (JobId, LogStream);

enum Order {
    Began {
        job: JobId,
        fence: u64,
        output: LiveOutput,
        over: CancellationToken,
    },
    Wanted(Vec<LogWant>),
    /// A bringer has ended, that knew of so many calls for it.
    Ended {
        key: Key,
        fence: u64,
        calls: u64,
    },
}

/// The handle on what brings output. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    orders: mpsc::Sender<Order>,
    serving: watch::Receiver<Vec<Serving>>,
    /// Set off when less is brought than a coordinator may have been told.
    fewer: Arc<Notify>,
}

/// A stream that is brought, or will be as soon as its run begins.
#[derive(Debug, Clone)]
struct Serving {
    key: Key,
    fence: u64,
    offset: Arc<AtomicU64>,
}

impl Logs {
    /// Starts the task, which ends with the last handle.
    pub(crate) fn start(tracker: &TaskTracker, coordinator: Coordinator) -> Self {
        let (orders, received) = mpsc::channel(QUEUE);
        let (tell, serving) = watch::channel(Vec::new());
        let fewer = Arc::new(Notify::new());
        let growth = Growth::new();
        if let Err(error) = &growth {
            tracing::warn!(%error, "the kernel does not tell when runs write; who follows one sees it a little later");
        }
        let task = Task {
            coordinator,
            tracker: tracker.clone(),
            // Weak: who brings output must not keep the task that it is started by.
            orders: orders.downgrade(),
            growth: growth.ok(),
            runs: HashMap::new(),
            awaited: HashMap::new(),
            tell,
            fewer: fewer.clone(),
        };
        tracker.spawn(task.work(received));
        Self { orders, serving, fewer }
    }

    /// A run that can be followed until what is returned is dropped.
    pub(crate) async fn began(
        &self,
        job: JobId,
        fence: Option<u64>,
        output: Option<LiveOutput>,
    ) -> DropGuard {
        let over = CancellationToken::new();
        if let (Some(fence), Some(output)) = (fence, output) {
            // An error says that nobody is told anything any more.
            let _ = self.orders.send(Order::Began { job, fence, output, over: over.clone() }).await;
        }
        over.drop_guard()
    }

    /// What a coordinator says is wanted of this host. What is lost of it is said again.
    pub(crate) fn wanted(&self, wanted: Vec<LogWant>) {
        if !wanted.is_empty() {
            let _ = self.orders.try_send(Order::Wanted(wanted));
        }
    }

    /// Resolves when something is brought no more that a heartbeat on its way may name: whoever has asked for it again
    /// since waits until the next one says so. Cancel-safe.
    pub(crate) async fn are_fewer(&self) {
        self.fewer.notified().await;
    }

    /// What this host knows to be wanted, and from where on it brings it now.
    pub(crate) fn serving(&self) -> Vec<LogWant> {
        let serving = self.serving.borrow();
        let wants = serving.iter().map(|it| LogWant {
            job_id: it.key.0.clone(),
            fence: it.fence,
            stream: it.key.1,
            offset: it.offset.load(Ordering::Relaxed),
        });
        wants.collect()
    }
}

struct Task {
    coordinator: Coordinator,
    tracker: TaskTracker,
    orders: mpsc::WeakSender<Order>,
    growth: Option<Growth>,
    runs: HashMap<JobId, Run>,
    /// Streams of runs that have not begun, and until when that is remembered.
    awaited: HashMap<Key, (LogWant, Instant)>,
    tell: watch::Sender<Vec<Serving>>,
    fewer: Arc<Notify>,
}

struct Run {
    fence: u64,
    output: LiveOutput,
    over: CancellationToken,
    growth: Option<GrowthKey>,
    bringers: HashMap<LogStream, Bringing>,
}

/// What the task has on a bringer.
struct Bringing {
    /// How often it was called for, and from where on last.
    call: watch::Sender<(u64, u64)>,
    grown: Arc<Notify>,
    offset: Arc<AtomicU64>,
}

impl Task {
    async fn work(mut self, mut orders: mpsc::Receiver<Order>) {
        let pace = if self.growth.is_some() { LOOK.0 } else { LOOK.1 };
        let mut look = tokio::time::interval(pace);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_quiet = self.awaited.is_empty() && self.runs.values().all(|run| run.bringers.is_empty());
            let growth = async {
                match &mut self.growth {
                    Some(growth) => growth.next().await,
                    None => std::future::pending().await,
                }
            };
            // Each is cancel-safe.
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                grown = growth => self.rouse(|run| run.growth.is_some_and(|key| grown.contains(&key))),
                _ = look.tick(), if !is_quiet => {
                    self.rouse(|_| true);
                    self.prune();
                }
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Began { job, fence, output, over } => {
                self.prune();
                let run = Run { fence, output, over, growth: None, bringers: HashMap::new() };
                if let Some(before) = self.runs.insert(job.clone(), run) {
                    self.quiet(&before);
                }
                let awaited =
                    LogStream::ALL.iter().filter_map(|stream| self.awaited.remove(&(job.clone(), *stream)));
                let wants: Vec<LogWant> = awaited.map(|(want, _)| want).collect();
                wants.into_iter().for_each(|want| self.call(want));
            }
            Order::Wanted(wanted) => {
                self.prune();
                wanted.into_iter().for_each(|want| self.call(want));
            }
            Order::Ended { key, fence, calls } => self.ended(&key, fence, calls),
        }
        self.tell();
    }

    /// Has a stream brought from an offset on.
    fn call(&mut self, want: LogWant) {
        let key = (want.job_id.clone(), want.stream);
        let Some(run) = self.runs.get_mut(&want.job_id).filter(|run| run.fence >= want.fence) else {
            if self.awaited.len() < limits::MAX_LOGS_WANTED {
                self.nothing_yet(&want);
                self.awaited.insert(key, (want, Instant::now() + AWAITED));
            }
            return;
        };
        // Of an attempt that was this host's once, nobody is told anything any more.
        if run.fence != want.fence {
            return;
        }
        if let Some(bringing) = run.bringers.get(&want.stream) {
            bringing.call.send_modify(|(calls, offset)| (*calls, *offset) = (*calls + 1, want.offset));
            bringing.offset.store(want.offset, Ordering::Relaxed);
            return;
        }
        if run.growth.is_none() {
            // Where it cannot be, it is looked at from time to time.
            run.growth = self.growth.as_ref().and_then(|growth| growth.add(&run.output).ok());
        }
        let (call, called) = watch::channel((1, want.offset));
        let (grown, offset) = (Arc::new(Notify::new()), Arc::new(AtomicU64::new(want.offset)));
        run.bringers.insert(want.stream, Bringing { call, grown: grown.clone(), offset: offset.clone() });
        let bringer = Bringer {
            coordinator: self.coordinator.clone(),
            fence: run.fence,
            reader: Some(run.output.reader(want.stream)),
            called,
            grown,
            offset,
            key: key.clone(),
        };
        let (over, orders, fence) = (run.over.clone(), self.orders.clone(), run.fence);
        self.tracker.spawn(async move {
            // What is cut off is a piece that the record will have.
            let calls = over.run_until_cancelled_owned(bringer.bring()).await;
            if let (Some(calls), Some(orders)) = (calls, orders.upgrade()) {
                let _ = orders.send(Order::Ended { key, fence, calls }).await;
            }
        });
    }

    /// Says of a run that has not begun that it has written nothing: who asks for what there is now is answered so.
    fn nothing_yet(&self, want: &LogWant) {
        let (coordinator, job) = (self.coordinator.clone(), want.job_id.clone());
        let body = PushLogsBody {
            host_id: Some(coordinator.host.to_string()),
            fence: Some(want.fence),
            stream: Some(want.stream.to_string()),
            offset: Some(want.offset),
            data: Some(String::new()),
            more: None,
        };
        self.tracker.spawn(async move {
            // Whoever still wants to know says so with the next heartbeat.
            if let Err(error) = coordinator.client.push_logs(&job, &body).await {
                tracing::debug!(%job, %error, "nobody was told that a run has not begun");
            }
        });
    }

    /// A bringer has ended. One that was called for meanwhile is begun anew.
    fn ended(&mut self, key: &Key, fence: u64, calls: u64) {
        let Some(run) = self.runs.get_mut(&key.0).filter(|run| run.fence == fence) else { return };
        let Some(bringing) = run.bringers.remove(&key.1) else { return };
        let (called, offset) = *bringing.call.borrow();
        if called != calls {
            self.call(LogWant { job_id: key.0.clone(), fence, stream: key.1, offset });
            return;
        }
        if run.bringers.is_empty()
            && let (Some(growth), Some(key)) = (&self.growth, run.growth.take())
        {
            growth.remove(key);
        }
        self.tell();
        self.fewer.notify_one();
    }

    /// Has those bringers look again whose runs may have written.
    fn rouse(&self, has_grown: impl Fn(&Run) -> bool) {
        let grown = self.runs.values().filter(|run| !run.bringers.is_empty() && has_grown(run));
        grown.flat_map(|run| run.bringers.values()).for_each(|bringing| bringing.grown.notify_one());
    }

    /// Leaves out what is over.
    fn prune(&mut self) {
        let now = Instant::now();
        self.awaited.retain(|_, (_, until)| *until > now);
        let growth = self.growth.as_ref();
        self.runs.retain(|_, run| {
            let is_over = run.over.is_cancelled();
            if let (true, Some(growth), Some(key)) = (is_over, growth, run.growth.take_if(|_| is_over)) {
                growth.remove(key);
            }
            !is_over
        });
    }

    /// No more is told of a run's growth.
    fn quiet(&self, run: &Run) {
        if let (Some(growth), Some(key)) = (&self.growth, run.growth) {
            growth.remove(key);
        }
    }

    fn tell(&self) {
        let brought = self.runs.iter().flat_map(|(job, run)| {
            run.bringers.iter().map(|(stream, bringing)| Serving {
                key: (job.clone(), *stream),
                fence: run.fence,
                offset: bringing.offset.clone(),
            })
        });
        let awaited = self.awaited.iter().map(|(key, (want, _))| Serving {
            key: key.clone(),
            fence: want.fence,
            offset: Arc::new(AtomicU64::new(want.offset)),
        });
        let serving: Vec<_> = brought.chain(awaited).collect();
        self.tell.send_if_modified(|told| {
            let is_news = !(serving.is_empty() && told.is_empty());
            *told = serving;
            is_news
        });
    }
}

/// Brings one stream of one run.
struct Bringer {
    coordinator: Coordinator,
    key: Key,
    fence: u64,
    /// Not there while it reads.
    reader: Option<LiveReader>,
    called: watch::Receiver<(u64, u64)>,
    grown: Arc<Notify>,
    /// Where it is, for whoever asks.
    offset: Arc<AtomicU64>,
}

impl Bringer {
    /// Brings what there is until it is wanted no more. Says how many calls it knows of then.
    async fn bring(mut self) -> u64 {
        let mut log = ChangeLog::new("live output");
        let (mut calls, mut from) = *self.called.borrow_and_update();
        // Whether it was heard that there is no more.
        let mut is_told = false;
        loop {
            if self.called.has_changed().unwrap_or(false) {
                (calls, from) = *self.called.borrow_and_update();
                is_told = false;
            }
            self.offset.store(from, Ordering::Relaxed);
            let Some(piece) = self.read(from).await else { return calls };
            if piece.text.is_empty() && is_told {
                tokio::select! {
                    () = self.grown.notified() => {}
                    changed = self.called.changed() => {
                        if changed.is_err() {
                            return calls;
                        }
                        (calls, from) = *self.called.borrow_and_update();
                        is_told = false;
                    }
                }
                continue;
            }
            let ends = piece.offset + piece.text.len() as u64;
            let more = piece.more;
            match self.coordinator.client.push_logs(&self.key.0, &self.body(piece)).await {
                Ok(wanted) => {
                    log.went_well();
                    let is_it = |want: &&LogWant| (want.fence, want.stream) == (self.fence, self.key.1);
                    let Some(next) = wanted.logs.iter().find(is_it) else { return calls };
                    is_told = !more && next.offset == ends;
                    from = next.offset;
                }
                // Nobody follows, the lease is another's, or this coordinator is of before.
                Err(error) if error.status().is_some_and(|status| status < 500 && status != 401) => {
                    return calls;
                }
                Err(error) => {
                    log.failed(&error);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn read(&mut self, from: u64) -> Option<LivePiece> {
        let mut reader = self.reader.take()?;
        let read = move || {
            let piece = reader.read(from, limits::MAX_LOG_PIECE_BYTES);
            (reader, piece)
        };
        let (reader, piece) = tokio::task::spawn_blocking(read).await.ok()?;
        self.reader = Some(reader);
        piece
            .inspect_err(
                |error| tracing::warn!(job = %self.key.0, %error, "the output of a run cannot be read"),
            )
            .ok()
    }

    fn body(&self, piece: LivePiece) -> PushLogsBody {
        PushLogsBody {
            host_id: Some(self.coordinator.host.to_string()),
            fence: Some(self.fence),
            stream: Some(self.key.1.to_string()),
            offset: Some(piece.offset),
            data: Some(piece.text),
            more: piece.more.then_some(true),
        }
    }
}
