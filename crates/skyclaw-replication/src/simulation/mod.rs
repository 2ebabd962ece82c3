//! A whole cluster in one process, under faults that a seed decides, and what must hold of it whatever happens.
//!
//! Nodes are the real ones, with openraft, the log, the state machine and SQLite; only the network
//! ([`net`]) and the disk of the log ([`crate::log::sim_disk`]) are simulated, and databases are put back to older
//! copies when the power goes ([`member`]). Clients ([`client`]) enqueue, claim, complete, cancel, retry and read at
//! all nodes, jobs that may be tried again, are for later, expire, or depend on others among them; what they asked for
//! and were told is a history ([`history`]).
//!
//! What is checked:
//! - the history of every job is linearizable ([`model`]): what was acknowledged is seen by whoever asks later,
//!   at any node; a job has one holder at a time; a key stands for one operation, however often it is sent; what has
//!   ended may be forgotten where only so many are kept, and nothing else;
//! - a job that depends on another is claimed only after that may have been completed;
//! - a fencing token is given once, and later claims have greater ones;
//! - after all is healed, what is due is done, and every node holds the same records and kept replies, byte for byte.
//!
//! That a claim finds nothing is not checked, as it says something of all jobs at once.
//!
//! Time is real, and so is the scheduling of threads: a seed decides which faults happen when, what clients try
//! and how messages fare, but does not repeat an execution step by step. `SKYCLAW_SIM_SECONDS` makes each
//! simulation longer; `SKYCLAW_SIM_SEEDS=7..20` runs those seeds instead of the few that are always run.

mod checks;
mod client;
mod faults;
mod history;
mod member;
mod model;
mod net;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use skyclaw_core::IdempotencyKey;
use skyclaw_proto::JobId;
use skyclaw_store::{ReplyId, Section};
use tokio::task::JoinSet;

use self::client::{Client, LONG_LEASE, World};
use self::faults::{Fault, Whom, schedule};
use self::history::{Act, Event, History, Told};
use self::member::{CLOCK_SPEED, Common, Member, clock};
use self::model::Laws;
use self::net::Net;
use crate::cluster::Role;
use crate::log::sim_disk::End;
use crate::retention::GRACE;
use crate::{Export, JobRetention, Node};

/// How long faults happen, unless the environment says otherwise.
const FAULTS_FOR: Duration = Duration::from_secs(5);
/// How long a healed cluster may take to be whole again.
const HEALED_WITHIN: Duration = Duration::from_secs(60);
/// Where fewer finished jobs than this are kept, some are forgotten.
const FEW: u64 = 20;

/// A cluster and what is done to it.
struct Simulation {
    members: Vec<Member>,
    world: World,
    net: std::sync::Arc<Net>,
    rng: StdRng,
    lease: Duration,
    keep: JobRetention,
}

/// Says how to see a failure again.
struct Seed {
    seed: u64,
    nodes: usize,
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("failed with {} nodes and seed {}", self.nodes, self.seed);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how much to try is said by whoever runs the tests")]
fn asked_for(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn seeds(few: Range<u64>) -> Range<u64> {
    let Some(asked) = asked_for("SKYCLAW_SIM_SEEDS") else { return few };
    let (from, to) = asked.split_once("..").expect("SKYCLAW_SIM_SEEDS=FROM..TO");
    from.parse().expect("a number")..to.parse().expect("a number")
}

fn simulate(nodes: usize, few: Range<u64>) {
    let length = asked_for("SKYCLAW_SIM_SECONDS").map(|secs| secs.parse().expect("a number of seconds"));
    let length = length.map_or(FAULTS_FOR, Duration::from_secs);
    for seed in seeds(few) {
        let _seed = Seed { seed, nodes };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let said = runtime.expect("a runtime").block_on(Box::pin(run(seed, nodes, length)));
        println!("{nodes} nodes, seed {seed}: {said}");
    }
}

#[test]
fn three_nodes_lose_nothing_and_do_nothing_twice() {
    simulate(3, 1..3);
}

#[test]
fn five_nodes_lose_nothing_and_do_nothing_twice() {
    simulate(5, 1..2);
}

/// A leader that comes back before another is elected has a database that lies behind.
#[test]
fn a_leader_that_is_restarted_shows_all_that_was_acknowledged() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(Box::pin(async {
        let mut simulation = Simulation::form(7, 3).await;
        let mut last = None;
        for _ in 0..100 {
            let (node, runtime) = simulation.net.node("http://0").expect("it runs");
            let id = JobId::from_uuid(uuid::Uuid::now_v7());
            let enqueue = crate::node::kit::enqueue(id.clone());
            let written = runtime.spawn(async move { node.write(None, enqueue).await });
            written.await.expect("no panic").expect("acknowledged");
            last = Some(id);
        }
        let last = last.expect("a job");
        for member in &mut simulation.members {
            member.crash(End::Power, &mut simulation.rng).await;
        }
        simulation.start_all().await;
        for member in &simulation.members {
            let (node, runtime) = simulation.net.node(&member.url).expect("it runs");
            let sought = last.clone();
            let found = runtime.spawn(async move {
                loop {
                    if let Ok(told) = client::read(&node, &sought).await {
                        return told;
                    }
                }
            });
            let found = found.await.expect("no panic");
            assert!(matches!(&found, Told::Job(id, _) if *id == last), "{} answers {found:?}", member.url);
        }
    }));
}

async fn run(seed: u64, nodes: usize, length: Duration) -> String {
    let mut simulation = Simulation::form(seed, nodes).await;
    let mut clients = JoinSet::new();
    for nth in 0..2 * nodes {
        clients.spawn(Client::new(&simulation.world, nth, seed).run());
    }
    for (pause, fault) in schedule(seed, nodes, length) {
        tokio::time::sleep(pause).await;
        simulation.bring_about(fault).await;
    }
    simulation.heal().await;
    simulation.world.closing.cancel();
    while let Some(client) = clients.join_next().await {
        client.expect("a client found nothing impossible");
    }
    simulation.wait_until_nothing_is_due().await;
    let jobs = simulation.read_everything().await;
    let states = simulation.states().await;
    for (member, state) in simulation.members.iter().zip(&states) {
        assert!(state == &states[0], "{} holds another state than {}", member.url, simulation.members[0].url);
    }
    let history = std::mem::take(&mut *simulation.world.history.lock().expect("no panic"));
    let forgotten = jobs.difference(&states[0].jobs).count();
    checks::check(&history, &jobs, &states[0], simulation.laws());
    let term = simulation.members[0].node().map_or(0, |node| node.0.raft.metrics().borrow().current_term);
    let crashes: usize = simulation.members.iter().map(|member| member.crashes).sum();
    for member in &mut simulation.members {
        member.stop().await;
    }
    format!("{term} terms, {crashes} crashes, {} jobs, {forgotten} forgotten, {}", jobs.len(), tell(&history))
}

/// How much was done.
fn tell(history: &History) -> String {
    let count = |which: fn(&Event) -> bool| history.events.iter().filter(|event| which(event)).count();
    let claimed = history.fences().len();
    let ended = count(|event| matches!((&event.act, &event.told), (Act::Complete { .. }, Told::Job(..))));
    let unknown = count(|event| event.told == Told::Unknown);
    let all = history.events.len();
    format!("{claimed} leases, {ended} completions; {all} operations, {unknown} of unknown outcome")
}

impl Simulation {
    async fn form(seed: u64, nodes: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(!seed);
        let net = Net::new(seed);
        let urls: Vec<String> = (0..nodes).map(|nth| format!("http://{nth}")).collect();
        // Mostly long enough that no lease can run out, so that a job has one claim.
        let lease = if rng.random_bool(0.3) { Duration::from_secs(3) } else { LONG_LEASE };
        let min_replications = rng.random_range(1..=2);
        let mut keep = JobRetention::default();
        // Every other one, so that it is among the few that are always run.
        if seed % 2 == 1 {
            keep.count = Some(rng.random_range(0..FEW));
        }
        let common = Common { net: net.clone(), urls: urls.clone(), lease, min_replications, keep };
        let mut members: Vec<Member> = urls.iter().map(|url| Member::new(&common, url)).collect();
        for member in &mut members {
            member.start().await;
        }
        let world = World::new(net.clone(), urls, lease);
        let simulation = Self { members, world, net, rng, lease, keep };
        simulation.wait_until("all vote", |node| voters(node) == nodes && node.health().ready).await;
        simulation
    }

    fn laws(&self) -> Laws {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).expect("not that long");
        let forgets = self.keep.count.is_some_and(|count| count < FEW);
        // The clock that decides it counts milliseconds.
        let grace = forgets.then(|| nanos(GRACE / CLOCK_SPEED - Duration::from_millis(1)));
        Laws { lease: nanos(self.lease), grace }
    }

    /// Waits until nothing is left of what is to happen in time: no job waits that has expired, and no more are kept than should be.
    async fn wait_until_nothing_is_due(&self) {
        let deadline = Instant::now() + HEALED_WITHIN;
        let (node, runtime) = self.net.node(&self.members[0].url).expect("it runs");
        loop {
            let (node, keep) = (node.clone(), self.keep);
            let due = runtime.spawn(async move { due(&node, keep).await }).await.expect("it can be read");
            if due.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "long after their time there are {due:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until something holds of every node.
    async fn wait_until(&self, what: &str, holds: impl Fn(&Node) -> bool) {
        let deadline = Instant::now() + HEALED_WITHIN;
        while !self.members.iter().all(|member| member.node().is_some_and(|node| holds(&node))) {
            if Instant::now() >= deadline {
                for member in &self.members {
                    let health = member.node().map(|node| (node.applied(), node.health(), node.members()));
                    println!("{}: {health:?}", member.url);
                }
                panic!("{what}: not within {} s", HEALED_WITHIN.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn find(&self, whom: Whom) -> usize {
        let leads = |member: &Member| {
            let node = member.node()?;
            let led = node
                .members()
                .into_iter()
                .any(|m| m.role == Role::Leader && m.url.as_deref() == Some(&member.url));
            Some(led)
        };
        match whom {
            Whom::Nth(nth) => nth,
            Whom::Leader => self.members.iter().position(|m| leads(m) == Some(true)).unwrap_or(0),
        }
    }

    async fn bring_about(&mut self, fault: Fault) {
        match fault {
            Fault::Weather(weather) => self.net.set_weather(weather),
            Fault::CutOff { whom, sends, hears } => {
                let one = self.find(whom);
                for other in (0..self.members.len()).filter(|other| *other != one) {
                    let (one, other) = (&self.members[one].url, &self.members[other].url);
                    self.net.set_cut(one, other, !sends);
                    self.net.set_cut(other, one, !hears);
                }
            }
            Fault::Flap { from, to, times } => {
                for _ in 0..times {
                    for cut in [true, false] {
                        self.net.set_cut(&self.members[from].url, &self.members[to].url, cut);
                        tokio::time::sleep(Duration::from_millis(self.rng.random_range(5..80))).await;
                    }
                }
            }
            Fault::Heal => self.net.heal(),
            Fault::Crash { whom, end } => {
                let nth = self.find(whom);
                self.members[nth].crash(end, &mut self.rng).await;
            }
            Fault::CrashAll(end) => {
                for member in &mut self.members {
                    member.crash(end, &mut self.rng).await;
                }
                self.start_all().await;
            }
            Fault::Start => self.start_all().await,
            Fault::Pace { whom, sync } => self.members[whom].disk.set_sync_time(sync),
            Fault::Compact(nth) => self.members[nth].compact().await,
            Fault::CopyDatabase(nth) => self.members[nth].copy_database().await,
        }
    }

    async fn start_all(&mut self) {
        for member in self.members.iter_mut().filter(|member| !member.is_running()) {
            member.start().await;
        }
    }

    /// Ends all faults and waits until the cluster is whole again.
    async fn heal(&mut self) {
        self.net.heal();
        for member in &self.members {
            member.disk.set_sync_time(Duration::ZERO);
        }
        self.start_all().await;
        self.wait_until("all are ready again", |node| node.health().ready).await;
    }

    /// Reads every job that was heard of at every node, as any client would.
    async fn read_everything(&mut self) -> BTreeSet<JobId> {
        let jobs = self.world.history.lock().expect("no panic").jobs();
        for member in &self.members {
            let (node, runtime) = self.net.node(&member.url).expect("it runs");
            let (world, jobs) = (self.world.clone(), jobs.clone());
            let reading = runtime.spawn(async move {
                for job in jobs {
                    let asked = world.now();
                    let told = loop {
                        if let Ok(told) = client::read(&node, &job).await {
                            break told;
                        }
                    };
                    let act = Act::Read { job };
                    let told_at = world.now();
                    world.note(Event { asked, told_at, keyed: false, act, told });
                }
            });
            reading.await.expect("everything can be read");
        }
        jobs
    }

    /// What every node holds, at one place in the log.
    async fn states(&self) -> Vec<State> {
        let keys = self.world.keys.lock().expect("no panic").clone();
        let deadline = Instant::now() + HEALED_WITHIN;
        loop {
            let mut states = Vec::new();
            for member in &self.members {
                let (node, runtime) = self.net.node(&member.url).expect("it runs");
                let keys = keys.clone();
                states.push(runtime.spawn(async move { state(&node, &keys).await }).await.expect("a state"));
            }
            if states.iter().all(|state| state.index == states[0].index) {
                return states;
            }
            assert!(Instant::now() < deadline, "the nodes do not come to the same place in the log");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn voters(node: &Node) -> usize {
    node.members().iter().filter(|member| member.role != Role::Learner).count()
}

/// The jobs that something should have happened to by now.
async fn due(node: &Node, keep: JobRetention) -> Vec<JobId> {
    let mut export: Export = node.export().await.expect("it can be read");
    let (mut due, mut ended, mut active) = (Vec::new(), Vec::new(), BTreeMap::new());
    let now = clock();
    while let Some(section) = export.next().await.expect("it can be read") {
        let Section::Jobs(jobs) = section else { continue };
        for job in &jobs {
            let times = job.life.as_ref().map(|life| [life.claimable_at, life.expires_at]);
            if job.is_ended() {
                ended.push(job.id.clone());
                continue;
            }
            active.insert(job.id.clone(), job.bonds.clone());
            if times.into_iter().flatten().flatten().any(|time| time < now) {
                due.push(job.id.clone());
            }
        }
    }
    for (job, bonds) in &active {
        let waits_for = bonds.iter().flat_map(|bonds| &bonds.waits_for);
        due.extend(waits_for.filter(|id| !active.contains_key(*id)).map(|_| job.clone()));
    }
    let kept = keep.count.map_or(ended.len(), |count| usize::try_from(count).unwrap_or(usize::MAX));
    due.extend(ended.into_iter().skip(kept));
    due
}

/// Everything a node holds.
#[derive(Debug, PartialEq, Eq)]
struct State {
    index: u64,
    jobs: BTreeSet<JobId>,
    /// All records and the numbers that come next, as JSON; then the kept replies.
    records: Vec<String>,
    replies: Vec<String>,
}

async fn state(node: &Node, keys: &[IdempotencyKey]) -> State {
    let mut export: Export = node.export().await.expect("it can be read");
    let index = export.position().map_or(0, |position| position.index);
    let (mut jobs, mut records) = (BTreeSet::new(), vec![format!("{:?}", export.counters())]);
    let json = |record: serde_json::Result<String>| record.expect("it is JSON");
    while let Some(section) = export.next().await.expect("it can be read") {
        match section {
            Section::Hosts(all) => records.extend(all.iter().map(|one| json(serde_json::to_string(one)))),
            Section::Jobs(all) => {
                jobs.extend(all.iter().map(|job| job.id.clone()));
                records.extend(all.iter().map(|one| json(serde_json::to_string(one))));
            }
            Section::Services(all) => records.extend(all.iter().map(|one| json(serde_json::to_string(one)))),
        }
    }
    let ids: Vec<_> = keys.iter().map(ReplyId::of).collect();
    let kept = node.0.machine.store().replies(&ids).await.expect("they can be read");
    let mut replies: Vec<String> = kept.values().map(|reply| json(serde_json::to_string(reply))).collect();
    replies.sort();
    State { index, jobs, records, replies }
}
