//! Several nodes in one process, on real sockets of the loopback.

use std::net::Ipv4Addr;
use std::time::Instant;

use chitchat::{ChitchatId, Serializable};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::*;
use crate::cluster::Role;
use crate::peer::seal::Header;

const FAST: Duration = Duration::from_millis(50);
const DEADLINE: Duration = Duration::from_secs(60);

fn announcement(name: &str) -> Announcement {
    Announcement {
        node_id: name.parse().expect("is an id"),
        raft_id: name.bytes().map(u64::from).sum(),
        url: format!("http://{name}.test"),
        cluster: None,
        role: None,
        load: 0,
        version: "1".into(),
    }
}

fn member(name: &str, cluster: u128) -> Announcement {
    Announcement { cluster: Some(Uuid::from_u128(cluster)), ..announcement(name) }
}

/// A node as most tests want it; what differs is set before it is started.
fn options(me: Announcement, seeds: &[String]) -> Options<'static> {
    Options {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        advertise: (Ipv4Addr::LOCALHOST, 0).into(),
        heard: Heard::default(),
        seeds: seeds.to_vec(),
        interval: FAST,
        token: "secret",
        boot: Uuid::new_v4().as_u64_pair().0,
        generation: 1,
        me,
    }
}

async fn start(options: Options<'_>) -> Gossip {
    Gossip::start(options, &TaskTracker::new()).await.expect("starts")
}

fn seed(node: &Gossip) -> String {
    node.local_addr().to_string()
}

/// Waits until what a node sees of others is as it should be.
async fn wait_for(node: &Gossip, what: &str, mut is_so: impl FnMut(&[Seen]) -> bool) -> Vec<Seen> {
    let mut others = node.others();
    let waited = tokio::time::timeout(DEADLINE, others.wait_for(|seen| is_so(seen))).await;
    match waited {
        Ok(seen) => seen.expect("the gossip goes on").clone(),
        Err(_) => panic!("{what}: {:?}, {:?}", node.others().borrow(), node.counters()),
    }
}

async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn alive(seen: &[Seen]) -> Vec<&str> {
    seen.iter().filter(|seen| seen.alive).map(|seen| seen.announcement.node_id.as_str()).collect()
}

fn names(seen: &[Seen]) -> Vec<&str> {
    seen.iter().map(|seen| seen.announcement.node_id.as_str()).collect()
}

/// A socket of no node, and where it is.
async fn tap() -> (UdpSocket, SocketAddr) {
    let tap = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
    let place = tap.local_addr().expect("has an address");
    (tap, place)
}

/// A sealed datagram that tells of a thousand nodes.
fn thousand_nodes(counter: u64, place: SocketAddr) -> Vec<u8> {
    let mut body = Vec::new();
    45_139u16.serialize(&mut body);
    [0u8, 0].iter().for_each(|byte| byte.serialize(&mut body));
    1000u16.serialize(&mut body);
    for number in 0..1000 {
        ChitchatId::new(format!("{counter}.{number}"), 1, place).serialize(&mut body);
        // Its heartbeat and two versions.
        [1u64, 0, 0].iter().for_each(|number| number.serialize(&mut body));
    }
    task::EVERYONE.to_owned().serialize(&mut body);
    let header = Header { from: 9, to: 0, from_boot: 9, to_boot: 0, counter, cluster: Uuid::nil() };
    Key::for_gossip("secret").seal(socket::PATH, &header, &body).0
}

/// A node on a runtime of its own, which can vanish without a word.
struct Mortal {
    runtime: Runtime,
    gossip: Gossip,
}

impl Mortal {
    fn start(options: Options<'_>) -> Self {
        let runtime = Runtime::new().expect("starts");
        let gossip = std::thread::scope(|scope| {
            scope.spawn(|| runtime.block_on(start(options))).join().expect("starts")
        });
        Self { runtime, gossip }
    }

    /// What is returned is to be kept: dropping it would be a last word.
    fn crash(self) -> Gossip {
        self.runtime.shutdown_background();
        self.gossip
    }
}

#[tokio::test]
async fn nodes_that_nobody_listed_are_found_through_a_third() {
    let hub = start(options(announcement("hub"), &[])).await;
    let a = start(options(announcement("a"), &[seed(&hub)])).await;
    let b = start(options(announcement("b"), &[seed(&hub)])).await;

    let seen = wait_for(&a, "a sees all", |seen| alive(seen) == ["b", "hub"]).await;
    assert_eq!(seen[0], Seen { announcement: announcement("b"), alive: true });
    wait_for(&b, "b sees all", |seen| alive(seen) == ["a", "hub"]).await;
    wait_for(&hub, "the hub sees all", |seen| alive(seen) == ["a", "b"]).await;
    let counters = a.counters();
    assert!(counters.sent > 0 && counters.received > 0, "{counters:?}");
    assert!(counters.sent_bytes > counters.sent && counters.received_bytes > counters.received);
    assert_eq!((counters.forged, counters.replayed, counters.foreign, counters.unreadable), (0, 0, 0, 0));
}

#[tokio::test]
async fn seeds_may_be_names_and_those_that_lead_nowhere_do_no_harm() {
    let hub = start(options(announcement("hub"), &[])).await;
    let named = format!("localhost:{}", hub.local_addr().port());
    // The third cannot even be sent to: another family of addresses.
    let seeds = ["", "no port", "[::1]:9"].map(str::to_owned);
    let a = start(options(announcement("a"), &[&seeds[..], &[named]].concat())).await;
    wait_for(&a, "the hub is found", |seen| alive(seen) == ["hub"]).await;
    assert!(a.counters().unsent > 0);
}

#[tokio::test]
async fn a_node_that_lists_itself_does_not_talk_to_itself() {
    let alone = start(options(announcement("alone"), &[])).await;
    alone.seek(vec![seed(&alone)]);
    wait_until("it has greeted itself", || alone.counters().sent > 20).await;
    let Counters { received, replayed, forged, .. } = alone.counters();
    assert_eq!((received, replayed, forged), (0, 0, 0));
    assert!(alone.others().borrow().is_empty());
}

#[tokio::test]
async fn places_to_look_at_can_be_given_later() {
    let hub = start(options(announcement("hub"), &[])).await;
    // Longer than the test may take: it is not the next round that finds the hub.
    let slow = Options { interval: DEADLINE * 2, ..options(announcement("a"), &[]) };
    let a = start(slow).await;
    a.seek(vec![seed(&hub)]);
    wait_for(&a, "the hub is known", |seen| names(seen) == ["hub"]).await;
}

#[tokio::test]
async fn what_a_node_announces_anew_reaches_the_others() {
    let a = start(options(announcement("a"), &[])).await;
    let b = start(options(announcement("b"), &[seed(&a)])).await;
    wait_for(&b, "a is seen", |seen| alive(seen) == ["a"]).await;

    let changed = Announcement { role: Some(Role::Leader), load: 7, ..member("a", 1) };
    a.announce(Announcement { node_id: "other".parse().expect("is an id"), raft_id: 0, ..changed.clone() });
    let seen = wait_for(&b, "the change is seen", |seen| seen[0].announcement.load == 7).await;
    assert_eq!(seen[0].announcement, changed, "all of it, and the name stays");
}

#[tokio::test]
async fn gossip_sealed_with_another_token_is_ignored_and_counted() {
    let a = start(options(announcement("a"), &[])).await;
    let stranger =
        start(Options { token: "guessed", ..options(announcement("stranger"), &[seed(&a)]) }).await;
    a.seek(vec![seed(&stranger)]);
    wait_until("forgeries arrive", || a.counters().forged >= 5 && stranger.counters().forged >= 5).await;
    assert_eq!((a.counters().received, stranger.counters().received), (0, 0));
    assert!(a.others().borrow().is_empty() && stranger.others().borrow().is_empty());
}

#[tokio::test]
async fn a_datagram_that_is_sent_again_or_changed_is_ignored_and_counted() {
    let (tap, place) = tap().await;
    // Whatever is sent to it arrives at the tap, so nobody else hears of it.
    let _a = start(Options { advertise: place, ..options(announcement("a"), &[place.to_string()]) }).await;
    let mut buffer = vec![0; 65_536];
    let (length, _) = tap.recv_from(&mut buffer).await.expect("receives");
    let captured = &mut buffer[..length];

    let b = start(options(announcement("b"), &[])).await;
    let send = async |datagram: &[u8]| tap.send_to(datagram, b.local_addr()).await.expect("sends");
    send(captured).await;
    wait_until("it is heard once", || b.counters().received == 1).await;
    send(captured).await;
    wait_until("the replay is refused", || b.counters().replayed == 1).await;
    captured[length / 2] ^= 1;
    send(captured).await;
    wait_until("the forgery is refused", || b.counters().forged == 1).await;
    send(b"").await;
    wait_until("so is an empty datagram", || b.counters().forged == 2).await;
    assert_eq!(b.counters().received, 1);
}

#[tokio::test]
async fn members_of_another_cluster_are_ignored_and_counted() {
    let ours = start(options(member("ours", 1), &[])).await;
    let theirs = start(options(member("theirs", 2), &[seed(&ours)])).await;
    wait_until("foreign gossip arrives", || ours.counters().foreign >= 5).await;
    assert_eq!(ours.counters().received, 0);

    // One that belongs to none hears both, and passes on what it hears.
    let blank = start(options(announcement("blank"), &[seed(&ours), seed(&theirs)])).await;
    wait_for(&blank, "blank sees both", |seen| alive(seen) == ["ours", "theirs"]).await;
    let fellow = start(options(member("fellow", 1), &[seed(&blank)])).await;
    let seen = wait_for(&fellow, "fellow sees ours", |seen| alive(seen) == ["blank", "ours"]).await;
    assert_eq!(names(&seen), ["blank", "ours"]);
    let seen = wait_for(&ours, "ours sees fellow", |seen| alive(seen) == ["blank", "fellow"]).await;
    assert_eq!(names(&seen), ["blank", "fellow"]);

    // It joins one of the two, and no longer sees the other.
    blank.announce(member("blank", 1));
    let seen = wait_for(&blank, "theirs is gone", |seen| names(seen) == ["fellow", "ours"]).await;
    assert!(seen.iter().all(|seen| seen.announcement.cluster == Some(Uuid::from_u128(1))));
    wait_for(&theirs, "blank has joined others", |seen| alive(seen).is_empty()).await;
}

#[tokio::test]
async fn a_node_that_stops_is_seen_as_gone_long_before_its_silence_would_tell() {
    // Silence tells after eight of these.
    let interval = Duration::from_secs(2);
    let slow = |name, seeds: &[String]| Options { interval, ..options(announcement(name), seeds) };
    let a = start(slow("a", &[])).await;
    let b = start(slow("b", &[seed(&a)])).await;
    wait_for(&a, "b is seen", |seen| alive(seen) == ["b"]).await;
    wait_for(&b, "a is seen", |seen| alive(seen) == ["a"]).await;

    let stopped_at = Instant::now();
    b.stop().await;
    let seen = wait_for(&a, "b is gone", |seen| alive(seen).is_empty()).await;
    assert_eq!(names(&seen), ["b"]);
    assert!(stopped_at.elapsed() < interval * 3, "{:?}", stopped_at.elapsed());
}

#[tokio::test]
async fn a_node_whose_handles_are_dropped_leaves_too() {
    let a = start(options(announcement("a"), &[])).await;
    let tracker = TaskTracker::new();
    let b = Gossip::start(options(announcement("b"), &[seed(&a)]), &tracker).await.expect("starts");
    wait_for(&a, "b is seen", |seen| alive(seen) == ["b"]).await;
    drop(b);
    tracker.close();
    tokio::time::timeout(DEADLINE, tracker.wait()).await.expect("all its tasks end");
    wait_for(&a, "b is gone", |seen| alive(seen).is_empty()).await;
}

#[tokio::test]
async fn a_node_that_dies_is_seen_as_dead_and_then_leaves_the_list() {
    let a = start(options(announcement("a"), &[])).await;
    let b = Mortal::start(options(announcement("b"), &[seed(&a)]));
    wait_for(&a, "b is seen", |seen| alive(seen) == ["b"]).await;
    let _silent = b.crash();
    wait_for(&a, "b is dead", |seen| alive(seen).is_empty()).await;
    wait_for(&a, "b is forgotten", <[_]>::is_empty).await;
}

#[tokio::test]
async fn a_node_that_starts_again_is_the_same_one() {
    let a = start(options(announcement("a"), &[])).await;
    let b = Mortal::start(options(announcement("b"), &[seed(&a)]));
    wait_for(&a, "b is seen", |seen| alive(seen) == ["b"]).await;
    let _silent = b.crash();

    let upgraded = Announcement { version: "2".into(), ..announcement("b") };
    let again = Options { generation: 2, ..options(upgraded.clone(), &[seed(&a)]) };
    let again = start(again).await;
    let is_upgraded = |seen: &[Seen]| seen.iter().any(|seen| seen.alive && seen.announcement.version == "2");
    let seen = wait_for(&a, "b is back", is_upgraded).await;
    assert_eq!(seen, [Seen { announcement: upgraded, alive: true }]);
    let seen = wait_for(&again, "b sees a", |seen| alive(seen) == ["a"]).await;
    assert_eq!(names(&seen), ["a"], "and not its own past");
}

/// Its addresses alone no longer fit a datagram then, and the library panics in a debug build.
#[tokio::test]
async fn gossip_outlives_what_its_library_cannot_bear() {
    let a = start(options(announcement("a"), &[])).await;
    let b = start(options(announcement("b"), &[seed(&a)])).await;
    wait_for(&a, "b is seen", |seen| alive(seen) == ["b"]).await;

    let (tap, place) = tap().await;
    for counter in 1..=2 {
        tap.send_to(&thousand_nodes(counter, place), a.local_addr()).await.expect("sends");
    }
    if cfg!(debug_assertions) {
        wait_until("the library fails", || a.counters().failures > 0).await;
    }
    assert_eq!(a.counters().unreadable, 0);
    b.announce(Announcement { load: 1, ..announcement("b") });
    let is_new = |seen: &[Seen]| seen.iter().any(|seen| seen.alive && seen.announcement.load == 1);
    wait_for(&a, "b is heard again", is_new).await;
}

#[tokio::test]
async fn what_cannot_be_listened_on_or_sent_to_is_an_error() {
    let a = start(options(announcement("a"), &[])).await;
    let tracker = TaskTracker::new();
    let taken = Options { listen: a.local_addr(), ..options(announcement("b"), &[]) };
    assert!(matches!(Gossip::start(taken, &tracker).await, Err(Error::Listen { .. })));
    let nowhere = Options { advertise: (Ipv4Addr::UNSPECIFIED, 7).into(), ..options(announcement("b"), &[]) };
    assert!(matches!(Gossip::start(nowhere, &tracker).await, Err(Error::Advertise(_))));
    assert!(tracker.is_empty());
}
