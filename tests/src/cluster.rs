//! A cluster of coordinators as an operator runs it: a process each, with a disk and an address of its
//! own, which know each other's URLs.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::coordinator::{Coordinator, Options};
use crate::net_ns::Network;
use crate::wait::{LONG, wait_until};
use crate::wire::Wire;

/// A node that cannot be reached, or is frozen, is not waited for longer than this.
const QUICK: Duration = Duration::from_secs(3);

/// Running, frozen and ended coordinators of one cluster. Those that run when this is dropped are killed.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Coordinator>,
    /// Dropped after the nodes that are in it.
    network: Option<Network>,
}

/// Where the nodes of a cluster will be, and how they are started.
#[derive(Debug)]
pub struct Plan {
    places: Vec<Place>,
    network: Option<Network>,
}

#[derive(Debug)]
struct Place {
    options: Options,
    url: String,
    disk: Option<PathBuf>,
}

impl Plan {
    /// `count` blank nodes named `node-0` and so on, at loopback addresses.
    #[must_use]
    pub fn on_loopback(count: usize) -> Self {
        Self { places: (0..count).map(|_| place()).collect(), network: None }.acquainted()
    }

    /// The same in a network that can be cut.
    #[must_use]
    pub fn in_network(count: u8) -> Self {
        const PORT: &str = "8787";
        let network = Network::new(count);
        let place = |node| {
            let address = network.address(node).to_string();
            let url = format!("http://{address}:{PORT}");
            let options = Options::default()
                .within(&network.namespace(node))
                .env("SKYCLAW_COORDINATOR_HOST", address)
                .env("SKYCLAW_COORDINATOR_PORT", PORT);
            Place { options, url, disk: None }
        };
        Self { places: (0..usize::from(count)).map(place).collect(), network: Some(network) }.acquainted()
    }

    /// Each knows all others.
    fn acquainted(mut self) -> Self {
        let urls: Vec<String> = self.places.iter().map(|place| place.url.clone()).collect();
        for (i, place) in self.places.iter_mut().enumerate() {
            let others: Vec<&str> =
                urls.iter().filter(|url| **url != place.url).map(String::as_str).collect();
            place.options = member(place.options.clone(), &format!("node-{i}"), &others.join(","));
        }
        self
    }

    /// With further options for each node, by its number.
    #[must_use]
    pub fn each(mut self, change: impl Fn(usize, Options) -> Options) -> Self {
        for (i, place) in self.places.iter_mut().enumerate() {
            place.options = change(i, place.options.clone());
        }
        self
    }

    /// With the data of one node in this directory.
    #[must_use]
    pub fn on_disk(mut self, node: usize, disk: &Path) -> Self {
        self.places[node].disk = Some(disk.to_owned());
        self
    }

    /// Starts the nodes, and waits until they are one cluster.
    ///
    /// # Panics
    /// When they do not become one.
    #[must_use]
    #[track_caller]
    pub fn start(self) -> Cluster {
        let start = |place: Place| match place.disk {
            Some(disk) => place.options.start_in(&disk),
            None => place.options.start(),
        };
        let nodes = self.places.into_iter().map(start).collect();
        let cluster = Cluster { nodes, network: self.network };
        cluster.wait_whole();
        cluster
    }
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
        Plan::on_loopback(count).each(|_, options| change(options)).start()
    }

    /// The network its nodes are in.
    ///
    /// # Panics
    /// When they are not in one of their own.
    #[must_use]
    #[track_caller]
    pub fn network(&self) -> &Network {
        self.network.as_ref().expect("a network of its own")
    }

    /// How many nodes it has.
    #[must_use]
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// The directory of the database of a node.
    #[must_use]
    pub fn data(&self, node: usize) -> &Path {
        self.nodes[node].data()
    }

    /// Whether the process of a node has ended.
    pub fn has_ended(&mut self, node: usize) -> bool {
        self.nodes[node].process().ended().is_some()
    }

    /// Hands the leadership to a node, and waits until it leads.
    ///
    /// # Panics
    /// When it does not come to lead.
    #[track_caller]
    pub fn transfer(&self, to: usize) {
        let name = format!("node-{to}");
        wait_until(&format!("{name} leads"), LONG, || {
            let leader = self.leader();
            if leader == to {
                return Some(());
            }
            let body = serde_json::json!({"to": name});
            let _ = self.wire(leader).post("/v1/cluster/transfer", &body).try_send();
            None
        });
    }

    /// How to start a further node that knows of this cluster.
    #[must_use]
    pub fn newcomer(&self, name: &str) -> Options {
        member(place().options, name, &self.urls().join(","))
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
        wait_until("a node that answers leads", LONG, || (0..self.nodes.len()).find(|node| self.leads(*node)))
    }

    /// Whether a node answers, and believes that it leads.
    #[must_use]
    pub fn leads(&self, node: usize) -> bool {
        let view = view(&self.wire(node).with_patience(QUICK));
        view.is_some_and(|view| role(&view, &format!("node-{node}")) == Some("leader"))
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
fn place() -> Place {
    let address = crate::address::unused();
    // Nobody else has this address: the port stays free until the coordinator takes it.
    let free = TcpListener::bind((address, 0)).and_then(|listener| listener.local_addr());
    let free = free.expect("a free port");
    let options = Options::default()
        .env("SKYCLAW_COORDINATOR_HOST", address.to_string())
        .env("SKYCLAW_COORDINATOR_PORT", free.port().to_string());
    Place { options, url: format!("http://{free}"), disk: None }
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

/// The whole state as a node has it, without what may differ: who says so, and when a host was last
/// heard of, which is known to the leader first.
#[must_use]
pub fn state(wire: &Wire) -> Option<Value> {
    let reply = wire.get("/v1/state?consistent=true").try_send().ok()?;
    if reply.status != 200 {
        return None;
    }
    let mut state = reply.json();
    state.as_object_mut()?.remove("nodeId");
    for host in state["hosts"].as_array_mut()? {
        host.as_object_mut()?.remove("lastSeenAt");
    }
    Some(state)
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
