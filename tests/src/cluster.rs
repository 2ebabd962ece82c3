//! A cluster of coordinators as an operator runs it: a process each, with a disk and an address of its
//! own, which know each other's URLs.

use std::fs;
use std::net::TcpListener;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::coordinator::{Coordinator, Options};
use crate::wait::{LONG, wait_until};
use crate::wire::Wire;

/// Running, frozen and ended coordinators of one cluster. Those that run when this is dropped are killed.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Coordinator>,
}

impl Cluster {
    /// Starts `count` blank nodes named `node-0` and so on, and waits until they are one cluster.
    ///
    /// # Panics
    /// When they do not become one.
    #[must_use]
    #[track_caller]
    pub fn start(count: usize) -> Self {
        Self::start_with(count, |options| options)
    }

    /// The same with further options for each node.
    ///
    /// # Panics
    /// When they do not become one cluster.
    #[must_use]
    #[track_caller]
    pub fn start_with(count: usize, change: impl Fn(Options) -> Options) -> Self {
        let places: Vec<(Options, String)> = (0..count).map(|_| place()).collect();
        let urls: Vec<String> = places.iter().map(|(_, url)| url.clone()).collect();
        let start = |(i, (options, own)): (usize, (Options, String))| {
            let others: Vec<&str> = urls.iter().filter(|url| **url != own).map(String::as_str).collect();
            change(member(options, &format!("node-{i}"), &others.join(","))).start()
        };
        let cluster = Self { nodes: places.into_iter().enumerate().map(start).collect() };
        cluster.wait_whole();
        cluster
    }

    /// How to start a further node that knows of this cluster.
    #[must_use]
    pub fn newcomer(&self, name: &str) -> Options {
        member(place().0, name, &self.urls().join(","))
    }

    /// The base URLs of all nodes.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Coordinator::url).collect()
    }

    /// A client of one node.
    #[must_use]
    pub fn wire(&self, node: usize) -> Wire {
        self.nodes[node].wire()
    }

    /// Clients of all nodes.
    #[must_use]
    pub fn wires(&self) -> Vec<Wire> {
        self.nodes.iter().map(Coordinator::wire).collect()
    }

    /// What a node has logged since its first start.
    #[must_use]
    pub fn log(&self, node: usize) -> String {
        self.nodes[node].log()
    }

    /// Kills a node as the kernel would.
    pub fn kill9(&mut self, node: usize) {
        self.nodes[node].kill9();
    }

    /// Kills all nodes; none of them sees another's end before its own.
    pub fn kill9_all(&mut self) {
        for node in &mut self.nodes {
            node.process().signal(Signal::SIGSTOP);
        }
        for node in &mut self.nodes {
            node.kill9();
        }
    }

    /// Stops a node as an operator would.
    pub fn terminate(&mut self, node: usize) {
        self.nodes[node].terminate();
    }

    /// Starts a node that has ended again, on the same disk and at the same address.
    pub fn restart(&mut self, node: usize) {
        self.nodes[node].restart();
    }

    /// The same with other options.
    pub fn restart_with(&mut self, node: usize, change: impl FnOnce(Options) -> Options) {
        self.nodes[node].restart_with(change);
    }

    /// Takes everything off the disk of a node that has ended.
    ///
    /// # Panics
    /// When that cannot be done.
    pub fn wipe(&mut self, node: usize) {
        let data = self.nodes[node].data();
        fs::remove_dir_all(data).expect("the disk can be emptied");
        fs::create_dir(data).expect("an empty disk");
    }

    /// Lets a node stand still, as an overloaded machine would.
    pub fn freeze(&mut self, node: usize) {
        self.nodes[node].process().signal(Signal::SIGSTOP);
    }

    /// Lets a frozen node go on.
    pub fn thaw(&mut self, node: usize) {
        self.nodes[node].process().signal(Signal::SIGCONT);
    }

    /// Waits until one of the nodes that answer leads, and says which.
    ///
    /// # Panics
    /// When none does.
    #[must_use]
    #[track_caller]
    pub fn leader(&self) -> usize {
        wait_until("a node that answers leads", LONG, || {
            (0..self.nodes.len()).find(|node| {
                let view = view(&self.wire(*node));
                view.is_some_and(|view| role(&view, &format!("node-{node}")) == Some("leader"))
            })
        })
    }

    /// A node that does not lead.
    ///
    /// # Panics
    /// When no node leads.
    #[must_use]
    #[track_caller]
    pub fn follower(&self) -> usize {
        usize::from(self.leader() == 0)
    }

    /// Waits until every node runs, is ready, and sees all of them vote under the same leader.
    ///
    /// # Panics
    /// When that does not come about.
    #[track_caller]
    pub fn wait_whole(&self) {
        wait_until("all nodes are ready, vote and follow one leader", LONG, || {
            let views: Option<Vec<Value>> = self.wires().iter().map(ready_view).collect();
            let views = views?;
            let one = |field: &str| views.iter().all(|view| view[field] == views[0][field]);
            let is_whole = |view: &Value| {
                let count = |wanted| members(view).filter(|member| member["role"] == wanted).count();
                count("leader") == 1 && count("follower") == views.len() - 1
            };
            (one("clusterId") && one("term") && views.iter().all(is_whole)).then_some(())
        });
    }
}

/// How a coordinator is started at a place of its own, and the URL it will have.
fn place() -> (Options, String) {
    let address = crate::address::unused();
    // Nobody else has this address: the port stays free until the coordinator takes it.
    let free = TcpListener::bind((address, 0)).and_then(|listener| listener.local_addr());
    let free = free.expect("a free port");
    let options = Options::default()
        .env("SKYCLAW_COORDINATOR_HOST", address.to_string())
        .env("SKYCLAW_COORDINATOR_PORT", free.port().to_string());
    (options, format!("http://{free}"))
}

fn member(options: Options, name: &str, peers: &str) -> Options {
    options
        .without("SKYCLAW_MIN_REPLICATIONS")
        .env("SKYCLAW_COORDINATOR_NODE_ID", name)
        .env("SKYCLAW_PEER_URLS", peers)
        .env("SKYCLAW_PEER_SYNC_MS", "500")
}

/// The cluster as a node sees it, if it answers.
#[must_use]
pub fn view(wire: &Wire) -> Option<Value> {
    let reply = wire.get("/v1/cluster").try_send().ok()?;
    (reply.status == 200).then(|| reply.json())
}

/// The members in a view.
pub fn members(view: &Value) -> impl Iterator<Item = &Value> {
    view["members"].as_array().into_iter().flatten()
}

/// The member of this name in a view.
#[must_use]
pub fn find<'v>(view: &'v Value, name: &str) -> Option<&'v Value> {
    members(view).find(|member| member["nodeId"] == name)
}

fn role<'v>(view: &'v Value, name: &str) -> Option<&'v str> {
    find(view, name)?["role"].as_str()
}

fn ready_view(wire: &Wire) -> Option<Value> {
    let ready = wire.get("/readyz").try_send().ok()?;
    if ready.status == 200 { view(wire) } else { None }
}
