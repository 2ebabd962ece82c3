//! A network that can be cut: a bridge, and behind it a network namespace for each node.
//!
//! What always holds:
//! - Nothing outside is touched: addresses are from the range for benchmarks (RFC 2544), the rules that
//!   drop packets are in the namespaces.
//! - Names carry the id of the process that made them. All is removed when the value is dropped; what a
//!   run that died left behind is removed by the next one.
//! - A way is cut without a word: packets are dropped, as a broken cable or router would.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Begins the name of everything made here.
const PREFIX: &str = "skt";
const NAMESPACES: &str = "/run/netns";
const LOCK: &str = "/run/skyclaw-tests-network.lock";
/// Administrators' tools are not in the path of everybody.
const TOOLS: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

/// A bridge with a namespace for each node. Processes of the tests themselves are at the bridge.
#[derive(Debug)]
pub struct Network {
    name: String,
    addresses: Vec<Ipv4Addr>,
}

impl Network {
    /// Makes one for `nodes` nodes. Only root can.
    ///
    /// # Panics
    /// When a tool is missing or refuses.
    #[must_use]
    pub fn new(nodes: u8) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let _lock = lock();
        sweep();
        let name = format!("{PREFIX}{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let taken = run("ip", &["-o", "-4", "address"]);
        let start = u16::try_from(std::process::id() % 512).unwrap_or(0);
        let subnet =
            (0..512).map(|i| (start + i) % 512).map(|i| format!("198.{}.{}.", 18 + i / 256, i % 256));
        let subnet = subnet.into_iter().find(|net| !taken.contains(net.as_str())).expect("a free subnet");
        let address = |host: u8| format!("{subnet}{host}").parse::<Ipv4Addr>().expect("an address");
        // From here on everything is taken down again, also when the rest fails.
        let network = Self { name, addresses: (0..nodes).map(|node| address(10 + node)).collect() };
        let bridge = network.name.as_str();
        run("ip", &["link", "add", bridge, "type", "bridge"]);
        run("ip", &["address", "add", &format!("{}/24", address(1)), "dev", bridge]);
        run("ip", &["link", "set", bridge, "up"]);
        for node in 0..network.addresses.len() {
            network.add(node);
        }
        network
    }

    fn add(&self, node: usize) {
        let (space, cable) = (&self.namespace(node), &self.cable(node));
        run("ip", &["netns", "add", space]);
        run("ip", &["link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space]);
        run("ip", &["link", "set", cable, "master", &self.name, "up"]);
        let address = format!("{}/24", self.addresses[node]);
        run("ip", &["-n", space, "address", "add", &address, "dev", "eth0"]);
        run("ip", &["-n", space, "link", "set", "eth0", "up"]);
        run("ip", &["-n", space, "link", "set", "lo", "up"]);
        let rules = "add table ip cut; add set ip cut from { type ipv4_addr; }; \
            add chain ip cut in { type filter hook input priority 0; }; \
            add rule ip cut in ip saddr @from drop";
        self.rules(node, rules);
    }

    /// The address of a node.
    #[must_use]
    pub fn address(&self, node: usize) -> Ipv4Addr {
        self.addresses[node]
    }

    /// The name of the namespace of a node.
    #[must_use]
    pub fn namespace(&self, node: usize) -> String {
        format!("{}n{node}", self.name)
    }

    /// Drops what `from` sends to `to`, until all is mended. What `to` sends to `from` still arrives.
    pub fn cut(&self, from: usize, to: usize) {
        self.rules(to, &format!("add element ip cut from {{ {} }}", self.addresses[from]));
    }

    /// Drops what two nodes send to each other.
    pub fn cut_both(&self, one: usize, other: usize) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Parts a node from all others in both directions; whoever is at the bridge still reaches it.
    pub fn part(&self, node: usize) {
        for other in self.others(node) {
            self.cut_both(node, other);
        }
    }

    /// Drops all that others send to a node, which they still hear.
    pub fn deafen(&self, node: usize) {
        for other in self.others(node) {
            self.cut(other, node);
        }
    }

    /// Drops all that a node sends to others, which it still hears.
    pub fn mute(&self, node: usize) {
        for other in self.others(node) {
            self.cut(node, other);
        }
    }

    /// Pulls the cable of a node: nobody reaches it, those at the bridge neither.
    pub fn unplug(&self, node: usize) {
        run("ip", &["link", "set", &self.cable(node), "down"]);
    }

    /// Puts the cable back.
    pub fn plug(&self, node: usize) {
        run("ip", &["link", "set", &self.cable(node), "up"]);
    }

    /// Lets everything through again.
    pub fn mend(&self) {
        for node in 0..self.addresses.len() {
            self.rules(node, "flush set ip cut from");
            self.plug(node);
        }
    }

    fn others(&self, node: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.addresses.len()).filter(move |other| *other != node)
    }

    /// The end of a node's cable that is at the bridge. Names of interfaces are 15 bytes at most.
    fn cable(&self, node: usize) -> String {
        format!("{}v{node}", self.name)
    }

    fn rules(&self, node: usize, rules: &str) {
        run("ip", &["netns", "exec", &self.namespace(node), "nft", rules]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in 0..self.addresses.len() {
            remove_namespace(&self.namespace(node));
        }
        let _ = tool("ip", &["link", "delete", &self.name]);
    }
}

/// The same command within a namespace, with the view of `/sys` that goes with it: control groups are not in it.
pub(crate) fn within(namespace: &str, command: &Command) -> Command {
    let mut inside = Command::new(find("ip"));
    inside.args(["netns", "exec", namespace]);
    same(inside, command)
}

/// The same command in the network of a namespace; all else is as it is here, control groups too.
pub(crate) fn in_network_of(namespace: &str, command: &Command) -> Command {
    let mut inside = Command::new(find("nsenter"));
    inside.arg(format!("--net={NAMESPACES}/{namespace}")).arg("--");
    same(inside, command)
}

fn same(mut inside: Command, command: &Command) -> Command {
    inside.arg(command.get_program()).args(command.get_args());
    inside.env_clear().stdin(Stdio::null());
    inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(dir) = command.get_current_dir() {
        inside.current_dir(dir);
    }
    inside
}

/// One process at a time looks for a free subnet and for what is left over.
fn lock() -> Flock<File> {
    let file = File::create(LOCK).expect("a lock file; the tests of networks need root");
    Flock::lock(file, FlockArg::LockExclusive).unwrap_or_else(|(_, e)| panic!("{LOCK}: {e}"))
}

/// Removes what runs that died have left.
fn sweep() {
    for entry in fs::read_dir(NAMESPACES).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_left_over(&name) {
            remove_namespace(&name);
        }
    }
    let links = run("ip", &["-o", "link", "show", "type", "bridge"]);
    for name in links.lines().filter_map(|line| line.split(": ").nth(1)).filter(|name| is_left_over(name)) {
        let _ = tool("ip", &["link", "delete", name]);
    }
}

/// Whether this is a name of ours whose maker is no more.
fn is_left_over(name: &str) -> bool {
    let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split('x').next()?.parse::<i32>().ok());
    maker.is_some_and(|pid| kill(Pid::from_raw(pid), None).is_err())
}

/// With its end of the cable, and with the other end thereby. What still runs in it was started in it
/// by who made it.
fn remove_namespace(name: &str) {
    let running = tool("ip", &["netns", "pids", name]);
    let running = String::from_utf8_lossy(&running.stdout).into_owned();
    for pid in running.lines().filter_map(|line| line.trim().parse().ok()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = tool("ip", &["netns", "delete", name]);
}

/// What the tool says.
///
/// # Panics
/// When it fails.
#[track_caller]
fn run(name: &str, args: &[&str]) -> String {
    let Output { status, stdout, stderr } = tool(name, args);
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{name} {args:?}: {status}: {said}");
    String::from_utf8_lossy(&stdout).into_owned()
}

#[track_caller]
fn tool(name: &str, args: &[impl AsRef<OsStr>]) -> Output {
    let mut command = Command::new(find(name));
    command.args(args).env("PATH", TOOLS).stdin(Stdio::null());
    command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

/// The path of an administrator's tool.
#[track_caller]
pub(crate) fn find(name: &str) -> PathBuf {
    let paths = TOOLS.split(':').map(|dir| Path::new(dir).join(name));
    let missing = || panic!("{name} is missing: tests/run.sh installs what the tests need");
    paths.into_iter().find(|path| path.is_file()).unwrap_or_else(missing)
}
