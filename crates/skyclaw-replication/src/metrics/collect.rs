//! What is looked up when somebody asks for metrics.

use std::fmt;
use std::sync::Weak;
use std::sync::atomic::Ordering;

use openraft::ServerState;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::gossip;
use crate::node::{Inner, Node};

/// What a node knows at the moment; nothing once it is gone.
#[derive(Debug)]
pub(super) struct Collected(pub(super) Weak<Inner>);

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// What is told of one metric: its name, what it is, its unit.
type About<'a> = (&'a str, &'a str, Option<Unit>);

struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn gauge(&mut self, about: About<'_>, value: u64) -> fmt::Result {
        let (name, help, unit) = about;
        let encoder = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    /// One value for each set of labels. Says what the metric is also when there are none.
    fn gauges<L: EncodeLabelSet>(&mut self, about: About<'_>, values: &[(L, u64)]) -> fmt::Result {
        let (name, help, unit) = about;
        let mut encoder = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in values {
            ConstGauge::new(*value).encode(encoder.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn counters<L: EncodeLabelSet>(&mut self, about: About<'_>, values: &[(L, u64)]) -> fmt::Result {
        let (name, help, unit) = about;
        let mut encoder = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        for (labels, value) in values {
            ConstCounter::new(*value).encode(encoder.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn counter(&mut self, about: About<'_>, value: u64) -> fmt::Result {
        let (name, help, unit) = about;
        let encoder = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)
    }
}

impl Collector for Collected {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(node) = self.0.upgrade().map(Node) else { return Ok(()) };
        let mut out = Out(encoder);
        jobs(&node, &mut out)?;
        raft(&node, &mut out)?;
        replication(&node, &mut out)?;
        log(&node, &mut out)?;
        peers(&node, &mut out)?;
        gossip(&node, &mut out)
    }
}

fn jobs(node: &Node, out: &mut Out<'_>) -> fmt::Result {
    let counts: Vec<_> =
        node.0.meters.jobs.open().map(|(status, count)| ([("status", status.as_str())], count)).collect();
    out.gauges(("jobs", "Jobs that have not ended, by status, as applied here", None), &counts)?;
    let times: Vec<_> =
        node.0.meters.schedules.all().map(|(outcome, count)| ([("outcome", outcome)], count)).collect();
    out.counters(
        ("schedule_times", "Times of schedules, by what became of them, as applied here", None),
        &times,
    )
}

fn raft(node: &Node, out: &mut Out<'_>) -> fmt::Result {
    let inner = &node.0;
    let (term, state, leader, last) = {
        let metrics = inner.raft.metrics();
        let metrics = metrics.borrow();
        (metrics.current_term, metrics.state, metrics.current_leader, metrics.last_log_index.unwrap_or(0))
    };
    let listed = inner.member(inner.identity.raft_id).is_some();
    let roles = [
        ("leader", ServerState::Leader),
        ("follower", ServerState::Follower),
        ("candidate", ServerState::Candidate),
        ("learner", ServerState::Learner),
    ];
    let roles = roles.map(|(role, is)| ([("role", role)], u64::from(listed && state == is)));
    out.gauge(("raft_term", "The term of the log", None), term)?;
    out.gauges(("raft_role", "1 for the role this node has", None), &roles)?;
    let leads: Vec<_> = node
        .members()
        .into_iter()
        .filter(|member| leader.is_some_and(|id| id.to_string() == member.raft_id))
        .map(|member| ([("raft_id", member.raft_id), ("node", name(member.node_id))], 1))
        .collect();
    out.gauges(("raft_leader", "1 for the node that leads; none while nobody does", None), &leads)?;
    let ready = u64::from(node.health().ready);
    out.gauge(("ready", "Whether this node takes writes, as /readyz says", None), ready)?;
    out.gauge(("raft_last_index", "The index of the last entry in the log of this node", None), last)?;
    let committed = inner.signs.committed().max(node.applied());
    out.gauge(
        ("raft_commit_index", "Up to where the log is committed, as far as this node knows", None),
        committed,
    )?;
    out.gauge(("raft_applied_index", "Up to where the log is applied here", None), node.applied())
}

fn replication(node: &Node, out: &mut Out<'_>) -> fmt::Result {
    let inner = &node.0;
    let members = node.members();
    let lags: Vec<_> = members
        .iter()
        .filter_map(|member| {
            let labels = [("raft_id", member.raft_id.clone()), ("node", name(member.node_id.clone()))];
            Some((labels, member.lag?))
        })
        .collect();
    let about = "How many entries each member is behind; told by the leader alone";
    out.gauges(("raft_member_lag_entries", about, None), &lags)?;
    let about = "Members of the cluster by whether they vote";
    let learners = members.iter().filter(|member| member.role == crate::Role::Learner).count() as u64;
    let counts = [([("votes", "yes")], members.len() as u64 - learners), ([("votes", "no")], learners)];
    out.gauges(("raft_members", about, None), &counts)?;
    let depth = inner.proposer.depth() as u64;
    out.gauge(("raft_proposer_queue_commands", "Commands that wait to be proposed", None), depth)?;
    let depth = inner.forwarder.depth() as u64;
    out.gauge(("raft_forward_queue_commands", "Commands that wait to be sent to the leader", None), depth)
}

fn log(node: &Node, out: &mut Out<'_>) -> fmt::Result {
    let usage = node.0.log.usage();
    let bytes = Some(Unit::Bytes);
    out.gauge(("log_segments", "Segment files of the log with entries in them", None), usage.segments)?;
    out.gauge(("log_spare_segments", "Segment files that are prepared", None), usage.spares)?;
    out.gauge(("log_size", "Length of all segment files of the log", bytes.clone()), usage.bytes)?;
    out.gauge(("log_room", "How much can be appended for sure", bytes.clone()), node.0.log.room())?;
    let of = |suffix: &str| {
        let mut path = node.0.db_path.as_os_str().to_owned();
        path.push(suffix);
        std::fs::metadata(path).map_or(0, |file| file.len())
    };
    let files = [([("file", "main")], of("")), ([("file", "wal")], of("-wal"))];
    out.gauges(("store_size", "Length of the database and of its write-ahead log", bytes), &files)
}

fn peers(node: &Node, out: &mut Out<'_>) -> fmt::Result {
    let refused = &node.0.peers.refused;
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let reasons = [
        ([("reason", "forged")], read(&refused.unsealed)),
        ([("reason", "replayed")], read(&refused.replayed)),
        ([("reason", "foreign")], read(&refused.foreign)),
    ];
    let about = "Messages of other coordinators that were not taken, by why";
    out.counters(("peer_messages_refused", about, None), &reasons)
}

fn gossip(node: &Node, out: &mut Out<'_>) -> fmt::Result {
    let others = node.0.gossip.get().map(|gossip| gossip.others().borrow().clone()).unwrap_or_default();
    let alive = others.iter().filter(|seen| seen.alive).count() as u64;
    let states = [([("state", "alive")], alive), ([("state", "dead")], others.len() as u64 - alive)];
    out.gauges(("gossip_peers", "Other coordinators that gossip knows of", None), &states)?;
    let counters = node.gossip_counters().unwrap_or_default();
    let gossip::Counters { sent, sent_bytes, unsent, received, received_bytes, .. } = counters;
    let gossip::Counters { forged, replayed, foreign, unreadable, failures, .. } = counters;
    out.counter(("gossip_messages_sent", "Datagrams sent", None), sent)?;
    out.counter(("gossip_messages_unsent", "Datagrams the system would not send", None), unsent)?;
    out.counter(("gossip_messages_received", "Datagrams taken", None), received)?;
    out.counter(("gossip_sent", "Bytes of the datagrams sent", Some(Unit::Bytes)), sent_bytes)?;
    out.counter(("gossip_received", "Bytes of the datagrams taken", Some(Unit::Bytes)), received_bytes)?;
    let ignored = [
        ([("reason", "forged")], forged),
        ([("reason", "replayed")], replayed),
        ([("reason", "foreign")], foreign),
        ([("reason", "unreadable")], unreadable),
    ];
    out.counters(("gossip_messages_ignored", "Datagrams that were not taken, by why", None), &ignored)?;
    out.counter(("gossip_restarts", "How often gossip failed and began anew", None), failures)
}

/// What a member is called; empty while it has no name.
fn name(node: Option<skyclaw_proto::NodeId>) -> String {
    node.map(|node| node.to_string()).unwrap_or_default()
}
